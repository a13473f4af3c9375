//! Counters that go on with time and load: what is read lies between what the scenario says before and after.

use crate::gpu::machine::Machine;
use crate::gpu::machine::gpus;
use nvml_stub::load::Load;
use nvml_stub::load::Step;
use tachograph::clock::Clock as _;
use tachograph::clock::System;
use tachograph::gpu::sampler::Session;

const SECOND: u64 = 1_000_000_000;

/// Idle for two seconds, half for three, full since.
fn load() -> (u64, Load) {
    let since_ns = System.now().0 - 8 * SECOND;
    let step = [(0.0, 0.0), (2.0, 0.5), (5.0, 1.0)].map(|(at_seconds, share)| Step { at_seconds, share });
    (since_ns, Load { since_ns, step: step.into(), ..Load::default() })
}

fn scenario(since_ns: u64) -> String {
    format!(
        "driver = \"570.1\"\n[[gpu]]\nuuid = \"GPU-a\"\nidle_milliwatts = 100000\npower_milliwatts = 700000\n\
         energy_millijoules = 5000\nclock_event_ns = [250000000, 0, 0, 0, 0]\npcie_bytes = [7, 9]\n\
         [gpu.load]\nsince_ns = {since_ns}\npcie_bytes_per_second = 1000\nfull_load_event = 0\n\
         step = [{{ share = 0.0 }}, {{ at_seconds = 2.0, share = 0.5 }}, {{ at_seconds = 5.0, share = 1.0 }}]\n"
    )
}

#[test]
fn counters_are_the_load_summed_up() {
    let (since_ns, load) = load();
    let machine = Machine::new(&scenario(since_ns));
    let mut session = Session::new(&machine.config);
    let before = load.passed(System.now().0);
    let gpu = gpus(session.step(System.now())).remove(0);
    let after = load.passed(System.now().0);
    let between =
        |low: f64, value: f64, high: f64| assert!(low - 0.001 <= value && value <= high, "{low} {value} {high}");
    let energy = |passed: nvml_stub::load::Passed| 5.0 + 100.0 * passed.seconds + 600.0 * passed.loaded;
    between(energy(before), gpu.energy_joules.unwrap(), energy(after));
    between(0.25 + before.full, gpu.clock_event_seconds["sw_power_cap"], 0.25 + after.full);
    between(9.0 + 1e3 * before.loaded - 1.0, gpu.more.pcie.received_bytes.unwrap() as f64, 9.0 + 1e3 * after.loaded);
    assert_eq!((gpu.power_watts, gpu.utilization), (Some(700.0), Some(1.0)));
}

#[test]
fn counters_never_fall() {
    let (since_ns, _) = load();
    let machine = Machine::new(&scenario(since_ns));
    let mut session = Session::new(&machine.config);
    let energy: Vec<f64> = (0..50).filter_map(|_| gpus(session.step(System.now()))[0].energy_joules).collect();
    assert!(energy.len() == 50 && energy.is_sorted());
}

/// A PCIe counter of 32 bits wraps; ours has 64.
#[test]
fn a_narrow_counter_is_widened() {
    let scenario = |bytes: u64| format!("[[gpu]]\nuuid = \"GPU-a\"\npcie_narrow = true\npcie_bytes = [{bytes}, 0]\n");
    let first = (1 << 32) - 100;
    let machine = Machine::new(&scenario(first));
    let mut session = Session::new(&machine.config);
    for bytes in [first, first + 90, first + 250, first + (1 << 32)] {
        machine.becomes(&scenario(bytes));
        assert_eq!(gpus(session.step(System.now()))[0].more.pcie.sent_bytes, Some(bytes));
    }
}
