//! Example GPUs: one that tells everything, even its parts, and one that is lost.

use crate::clock::MonoNs;
use crate::correlate::sample::ms;
use crate::gpu::Activity;
use crate::gpu::Calls;
use crate::gpu::Ecc;
use crate::gpu::Health;
use crate::gpu::Instance;
use crate::gpu::Lost;
use crate::gpu::More;
use crate::gpu::Now;
use crate::gpu::ProcessMore;
use crate::gpu::ProcessUse;
use crate::gpu::Remaps;
use crate::gpu::Sample;
use crate::gpu::State;
use crate::gpu::Traffic;
use crate::gpu::Xid;
use crate::ident::Pid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As they are at one instant, when the energy counter stands there and the power cap rises with it.
pub(super) fn present(at: MonoNs, joules: f64) -> State {
    let mut gpu = Sample { at, energy_joules: Some(joules), ..whole() };
    gpu.clock_event_seconds.insert("sw_power_cap", 1.385 + joules / 10_000.0);
    State::Present { driver: Some("570.1".to_owned()), gpus: vec![gpu], lost: vec![lost()] }
}

fn activity(part: f64) -> Activity {
    Activity {
        graphics: Some(part),
        sm: Some(part / 2.0),
        sm_occupancy: Some(part / 4.0),
        tensor: Some(part / 8.0),
        dram: None,
    }
}

fn xids(code: u64, last: MonoNs) -> Arc<BTreeMap<u64, Xid>> {
    Arc::new(BTreeMap::from([(code, Xid { count: 2, last })]))
}

fn whole() -> Sample {
    let process = |pid, memory| ProcessUse { pid: Pid(pid), memory_bytes: Some(memory), sm_utilization: Some(0.25) };
    let media = |pid| ProcessMore {
        pid: Pid(pid),
        memory_utilization: Some(0.125),
        encoder_utilization: Some(0.0),
        decoder_utilization: None,
        gpu_instance: None,
        compute_instance: None,
    };
    let failed = Calls { errors: 1, last_error: Some("not supported".to_owned()), refused: true, ..Calls::default() };
    Sample {
        index: 0,
        uuid: "GPU-1".to_owned(),
        name: Some("Stub 80GB".to_owned()),
        at: ms(90),
        memory_used_bytes: Some(1_000),
        memory_total_bytes: Some(4_000),
        utilization: Some(0.75),
        memory_utilization: Some(0.5),
        power_watts: Some(312.5),
        energy_joules: Some(1_234.5),
        sm_clock_hertz: Some(1.5e9),
        clock_event_seconds: BTreeMap::from([("sw_power_cap", 1.5), ("hw_thermal_slowdown", 0.0)]),
        processes: vec![process(42, 600), process(77, 100)],
        more: More {
            power_average_watts: Some(300.0),
            power_module_watts: Some(400.0),
            memory_temperature_celsius: Some(61.0),
            pcie: Traffic { received_bytes: Some(5_000), sent_bytes: Some(6_000) },
            nvlink: Traffic { received_bytes: Some(7_168), sent_bytes: None },
            xids: xids(31, ms(80)),
            calls: Arc::new(BTreeMap::from([
                ("field_values", Calls { count: 9, total_ns: 4_500, max_ns: 900, ..Calls::default() }),
                ("sync_boost", failed),
            ])),
            now: Arc::new(Now {
                at: Some(ms(50)),
                memory_free_bytes: Some(2_900),
                memory_reserved_bytes: Some(100),
                temperature_celsius: Some(54.0),
                clocks_hertz: BTreeMap::from([("sm", 1.5e9), ("memory", 2.6e9)]),
                clock_events: BTreeMap::from([("sw_power_cap", true), ("other", false)]),
                activity: activity(0.5),
                processes: vec![media(42), media(77)],
                processes_unknown: 1,
                instances: vec![part()],
            }),
            health: Arc::new(health()),
        },
    }
}

fn health() -> Health {
    Health {
        at: Some(ms(10)),
        ecc: Ecc {
            corrected: Some(3),
            uncorrected: Some(0),
            corrected_lifetime: Some(30),
            uncorrected_lifetime: Some(1),
        },
        remaps: Remaps { corrected: Some(1), uncorrected: Some(2), pending: Some(true), failed: Some(false) },
        recovery_action: Some(0),
        power_limit_watts: BTreeMap::from([("enforced", 700.0)]),
        clocks_max_hertz: BTreeMap::from([("sm", 1.98e9)]),
        pcie_replays: Some(4),
        pcie_generation: Some(5),
        pcie_width: Some(16),
        pci_bus_id: Some("00000000:18:00.0".to_owned()),
        serial: Some("1650".to_owned()),
        vbios: Some("96.00".to_owned()),
        mig: Some(true),
    }
}

fn part() -> Instance {
    Instance {
        gi: 1,
        ci: 0,
        uuid: Some("MIG-1".to_owned()),
        name: Some("Stub MIG 1g.10gb".to_owned()),
        memory_used_bytes: Some(200),
        memory_total_bytes: Some(1_000),
        activity: activity(1.0),
    }
}

fn lost() -> Lost {
    Lost {
        index: 2,
        uuid: Some("GPU-3".to_owned()),
        name: Some("Stub 80GB".to_owned()),
        why: "device fell off the bus".to_owned(),
        xids: xids(79, ms(70)),
    }
}
