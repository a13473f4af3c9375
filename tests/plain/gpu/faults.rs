//! What one refusal costs: its own fields, and nothing of its neighbours.

use crate::gpu::machine::Machine;
use crate::gpu::machine::at;
use crate::gpu::machine::gpus;
use crate::gpu::machine::two_with;
use crate::gpu::table;
use crate::gpu::table::Page;
use std::collections::BTreeSet;
use tachograph::gpu::sampler::Session;

/// A name in the scenario's answers, and the families that are gone without it.
const COSTS: [(&str, &[&str]); 22] = [
    ("memory", &["hw_gpu_memory", "tachograph_gpu_memory_free", "tachograph_gpu_memory_reserved", UNATTRIBUTED_MEMORY]),
    ("utilization", &["hw_gpu_utilization", "tachograph_gpu_memory_busy", UNATTRIBUTED_SM]),
    ("field_82", &["hw_temperature_celsius hw_type=gpu,sensor=memory"]),
    ("field_185", &["tachograph_gpu_power_average_watts"]),
    ("field_74", &["tachograph_gpu_clock_event_seconds_total reason=sw_power_cap"]),
    ("field_270", &["tachograph_gpu_clock_event_seconds_total reason=hw_thermal_slowdown"]),
    ("field_197", &["hw_gpu_io_bytes_total link=pcie,network_io_direction=transmit"]),
    ("field_139", &["hw_gpu_io_bytes_total link=nvlink,network_io_direction=receive"]),
    ("field_144", &["tachograph_gpu_row_remap kind=pending"]),
    ("field_230", &["tachograph_gpu_recovery_action"]),
    ("event_reasons", &["tachograph_gpu_clock_event_active"]),
    ("clock", &["tachograph_gpu_clock_hertz"]),
    ("max_clock", &["tachograph_gpu_clock_max_hertz"]),
    ("enforced_power_limit", &["tachograph_gpu_power_limit_watts kind=enforced"]),
    ("ecc", &["hw_errors_total hw_type=gpu,error_type=", "tachograph_gpu_ecc_lifetime"]),
    ("pcie_replays", &["tachograph_gpu_pcie_replays"]),
    ("pcie_link", &["tachograph_gpu_pcie_link"]),
    ("gpm_sample", &["tachograph_gpu_activity"]),
    (
        "processes",
        &["tachograph_gpu_process_memory_bytes pid=OWN", "tachograph_gpu_process_sm", "tachograph_gpu_process_"],
    ),
    (
        "process_utilization",
        &["tachograph_gpu_process_sm", "tachograph_gpu_process_encoder", "tachograph_gpu_process_dec"],
    ),
    // What a second call tells as well costs nothing.
    ("field_83", &[]),
    ("field_186", &[]),
];
const UNATTRIBUTED_MEMORY: &str = "tachograph_gpu_process_memory_bytes pid=unattributed";
const UNATTRIBUTED_SM: &str = "tachograph_gpu_process_sm_ratio pid=unattributed";

/// The series of the first GPU after a few readings.
fn series(answers: &str) -> BTreeSet<String> {
    let machine = Machine::new(&table::scenario(answers));
    let mut session = Session::new(&machine.config);
    session.step(at(0));
    Page::of(session.step(at(1))).of_gpu("GPU-full").into_keys().filter(|name| !name.contains("xid")).collect()
}

#[test]
fn each_refusal_costs_its_own_fields() {
    let whole = series("");
    for code in ["not_supported", "timeout", "no_permission", "a_code_of_tomorrow"] {
        for (call, costs) in COSTS {
            let left = series(&format!("{call} = \"{code}\""));
            let gone: Vec<&String> = whole.difference(&left).collect();
            let own = |name: &&String| costs.iter().any(|cost| name.starts_with(&cost.replace("OWN", "")));
            assert!(gone.iter().all(own), "{call} {code}: {gone:?}");
            for cost in costs {
                let mine = |name: &&&String| name.starts_with(&cost.replace("OWN", ""));
                assert!(gone.iter().any(|name| mine(&name)), "{call} {code}: {cost} is still there: {gone:?}");
            }
        }
    }
}

#[test]
fn a_kind_of_number_that_no_header_has_costs_that_field() {
    let whole = series("");
    let left = series("field_82 = \"kind_of_tomorrow\", field_83 = \"kind_of_tomorrow\"");
    let gone: Vec<&String> = whole.difference(&left).collect();
    assert_eq!(
        gone,
        ["hw_temperature_celsius hw_type=gpu,sensor=memory"],
        "energy has a call of its own beside the field"
    );
}

#[test]
fn what_is_not_supported_is_asked_once_and_what_failed_is_asked_again() {
    for (code, asked) in [("not_supported", 1), ("timeout", 4)] {
        let machine = Machine::new(&two_with(&format!("utilization = \"{code}\"")));
        let mut session = Session::new(&machine.config);
        let calls = (0..4).map(|second| gpus(session.step(at(second)))[1].more.calls["utilization_rates"].clone());
        let last = calls.last().unwrap();
        assert_eq!((last.count, last.errors), (asked, asked), "{code}");
    }
}

#[test]
fn what_a_slow_call_costs_is_told() {
    let machine = Machine::new(&two_with("utilization = \"slow 30\""));
    let gpu = gpus(Session::new(&machine.config).step(at(0))).remove(1);
    let call = &gpu.more.calls["utilization_rates"];
    assert!(call.max_ns >= 30_000_000 && call.errors == 0);
}

/// MIG changes what a GPU can tell.
#[test]
fn a_gpu_that_is_divided_or_put_together_is_asked_anew() {
    let divided = format!("{}mig = true\n", two_with("utilization = \"not_supported\""));
    let machine = Machine::new(&divided);
    let mut session = Session::new(&machine.config);
    assert_eq!(gpus(session.step(at(0)))[1].utilization, None);
    machine.becomes(&format!("{}mig = false\n", two_with("")));
    assert_eq!(gpus(session.step(at(9)))[1].utilization, None);
    assert_eq!(gpus(session.step(at(10)))[1].utilization, Some(0.0));
}

/// Whatever function a library lacks, nothing falls over, while it runs or when it is closed.
#[test]
fn no_missing_function_is_a_crash() {
    let symbols = table::symbols();
    assert!(symbols.len() > 40, "{symbols:?}");
    for symbol in symbols {
        let machine = Machine::without(&table::scenario(""), &symbol);
        let mut session = Session::new(&machine.config);
        for second in 0..2 {
            let page = Page::of(session.step(at(second)));
            let needed = ["nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"];
            let present = page.of_gpu("GPU-full").len() > 20;
            assert!(present || needed.contains(&&*symbol) || symbol == "nvmlDeviceGetUUID", "{symbol}");
        }
    }
}
#[test]
fn a_field_that_is_refused_costs_that_field_only() {
    for code in ["not_supported", "no_permission", "timeout", "not_found", "unknown"] {
        let machine = Machine::new(&two_with(&format!("utilization = \"{code}\"")));
        let second = &gpus(Session::new(&machine.config).step(at(0)))[1];
        assert_eq!((second.utilization, second.memory_utilization), (None, None));
        assert_eq!(second.memory_used_bytes, Some(0));
        machine.becomes(&two_with(&format!("name = \"{code}\", memory = \"{code}\"")));
        let second = &gpus(Session::new(&machine.config).step(at(0)))[1];
        assert_eq!((second.name.as_ref(), second.memory_total_bytes), (None, None));
        assert_eq!(second.utilization, Some(0.0));
    }
}

#[test]
fn a_percentage_above_100_is_unknown() {
    let machine = Machine::new("[[gpu]]\nuuid = \"GPU-a\"\nutilization_percent = 101\n");
    assert_eq!(gpus(Session::new(&machine.config).step(at(0)))[0].utilization, None);
}
