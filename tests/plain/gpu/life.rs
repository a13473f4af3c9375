//! The life of a session: what goes away, what takes its place, and how it comes back.

use crate::gpu::machine::Machine;
use crate::gpu::machine::TWO;
use crate::gpu::machine::at;
use crate::gpu::machine::gpus;
use crate::gpu::machine::two_with;
use crate::gpu::machine::uuids;
use crate::gpu::machine::why;
use crate::gpu::table::Page;
use std::fs;
use tachograph::clock::MonoNs;
use tachograph::gpu::State;
use tachograph::gpu::nvml::Config;
use tachograph::gpu::sampler::Session;

#[test]
fn a_lost_gpu_is_left_out_and_comes_back() {
    for answers in ["all = \"gpu_is_lost\"", "utilization = \"gpu_is_lost\"", "uuid = \"unknown\""] {
        let machine = Machine::new(TWO);
        let mut session = Session::new(&machine.config);
        assert_eq!(uuids(session.step(at(0))), ["GPU-a", "GPU-b"]);
        machine.becomes(&two_with(answers));
        assert_eq!(uuids(session.step(at(1))), ["GPU-a"], "{answers}");
        assert_eq!(uuids(session.step(at(61))), ["GPU-a"], "a new session finds it lost too");
        machine.becomes(TWO);
        assert_eq!(uuids(session.step(at(62))), ["GPU-a", "GPU-b"]);
    }
}

#[test]
fn when_all_gpus_are_lost_the_reason_is_said_and_nvml_is_opened_again() {
    let machine = Machine::new("[[gpu]]\nanswers = { all = \"gpu_is_lost\" }\n");
    let mut session = Session::new(&machine.config);
    let State::Present { gpus, lost, .. } = session.step(at(0)) else { panic!("absent") };
    assert!(gpus.is_empty() && lost[0].why.starts_with("device fell off the bus"), "{lost:?}");
    machine.becomes(TWO);
    assert_eq!(uuids(session.step(at(10))), ["GPU-a", "GPU-b"]);
}

#[test]
fn a_session_that_the_driver_ends_is_opened_again() {
    for code in ["uninitialized", "driver_not_loaded", "lib_rm_version_mismatch"] {
        let machine = Machine::new(TWO);
        let mut session = Session::new(&machine.config);
        assert_eq!(uuids(session.step(at(0))).len(), 2);
        machine.becomes(&two_with(&format!("memory = \"{code}\"")));
        assert!(why(session.step(at(1))).starts_with("NVML stopped answering: "));
        machine.becomes(TWO);
        assert_eq!(uuids(session.step(at(11))).len(), 2);
    }
}

#[test]
fn a_machine_without_gpus_is_present() {
    let machine = Machine::new("driver = \"580.95.05\"\n");
    assert_eq!(uuids(Session::new(&machine.config).step(at(0))).len(), 0);
}

#[test]
fn a_library_that_appears_later_is_found() {
    let machine = Machine::without_library();
    let mut session = Session::new(&machine.config);
    let reason = why(session.step(at(0)));
    assert!(reason.contains("libnvidia-ml.so.1") && reason.contains("No such file"), "{reason}");
    machine.install();
    machine.becomes(&format!("answers = {{ init = \"driver_not_loaded\" }}\n{TWO}"));
    assert_eq!(why(session.step(at(9))), reason, "not tried again yet");
    let reason = why(session.step(at(10)));
    assert!(reason.contains("NVIDIA driver is not loaded"), "{reason}");
    machine.becomes(TWO);
    assert_eq!(uuids(session.step(at(20))).len(), 2);
}

#[test]
fn what_is_no_nvml_is_refused() {
    let machine = Machine::without_library();
    fs::write(machine.library(), "text").unwrap();
    assert!(why(Session::new(&machine.config).step(at(0))).contains("cannot be used"));
    let config = Config { library: Some("libc.so.6".into()), ..machine.config.clone() };
    assert!(why(Session::new(&config).step(at(0))).contains("libc.so.6"));
}

#[test]
fn each_tier_keeps_its_own_pace() {
    let machine = Machine::new(TWO);
    let mut session = Session::new(&machine.config);
    let instants = (0..=20).map(|tenth| MonoNs(tenth * 100_000_000));
    let last = instants.map(|now| gpus(session.step(now)).remove(0)).last().unwrap();
    let times = |call: &str| last.more.calls[call].count;
    // The slowest tier has fields of its own, in a call of its own.
    assert_eq!((times("field_values"), times("utilization_rates"), times("ecc_corrected")), (21 + 1, 3, 1));
    assert!((at(2)..at(3)).contains(&last.at), "the middle of its own call: {:?}", last.at);
    assert_eq!((last.more.now.at, last.more.health.at), (Some(at(2)), Some(at(0))));
}

/// A driver upgrade: whoever keeps a handle keeps the old library.
#[test]
fn a_replaced_library_is_let_go_and_opened_anew() {
    let machine = Machine::new(TWO);
    let mut session = Session::new(&machine.config);
    assert_eq!(uuids(session.step(at(0))).len(), 2);
    machine.install();
    assert_eq!(uuids(session.step(at(0))).len(), 2, "looked for once a second");
    assert!(why(session.step(at(1))).contains("replaced on disk"));
    machine.becomes(&TWO.replace("580.95.05", "590.10"));
    let State::Present { driver, gpus, .. } = session.step(at(2)) else { panic!("absent") };
    assert_eq!((driver.as_deref(), gpus.len()), (Some("590.10"), 2));
    assert_eq!(machine.held(), None, "all was given back before");
}

#[test]
fn a_removed_library_is_a_reason_too() {
    let machine = Machine::new(TWO);
    let mut session = Session::new(&machine.config);
    assert_eq!(uuids(session.step(at(0))).len(), 2);
    fs::remove_file(machine.library()).unwrap();
    assert!(why(session.step(at(1))).contains("replaced on disk"));
    assert!(why(session.step(at(2))).contains("No such file"));
    machine.install();
    assert_eq!(uuids(session.step(at(12))).len(), 2);
}

/// The driver's counter begins at zero when it is loaded again; ours goes on.
#[test]
fn counters_rise_over_a_reload_of_the_driver() {
    let machine = Machine::new(&two_with("").replace("uuid = \"GPU-b\"", "uuid = \"GPU-b\"\nenergy_millijoules = 500"));
    let mut session = Session::new(&machine.config);
    let energy = |state| gpus(state)[1].energy_joules;
    assert_eq!(energy(session.step(at(0))), Some(0.5));
    machine.becomes(&two_with("memory = \"driver_not_loaded\""));
    assert!(why(session.step(at(1))).contains("driver is not loaded"));
    machine.becomes(&TWO.replace("uuid = \"GPU-b\"", "uuid = \"GPU-b\"\nenergy_millijoules = 30"));
    assert_eq!(energy(session.step(at(11))), Some(0.53));
}

#[test]
fn a_gpu_in_another_place_is_another_gpu() {
    let machine = Machine::new(TWO);
    let mut session = Session::new(&machine.config);
    assert_eq!(uuids(session.step(at(0))), ["GPU-a", "GPU-b"]);
    machine.becomes(&TWO.replace("GPU-b", "GPU-c"));
    assert_eq!(uuids(session.step(at(1))), ["GPU-a", "GPU-c"]);
    machine.becomes("[[gpu]]\nuuid = \"GPU-c\"\n");
    assert_eq!(uuids(session.step(at(2))), ["GPU-c"]);
}

/// Two that never said who they are, are two.
#[test]
fn gpus_that_are_lost_from_the_start_are_told_apart() {
    let machine = Machine::new("[[gpu]]\nanswers = { all = \"gpu_is_lost\" }\n".repeat(2).as_str());
    let page = Page::of(Session::new(&machine.config).step(at(0)));
    for id in ["index-0", "index-1"] {
        assert_eq!(page.of_gpu(id).get("hw_status hw_type=gpu,hw_state=failed").copied(), Some(1.0), "{id}");
    }
}

/// While a thread hangs inside the old library, a new session would only be the old one again.
#[test]
fn a_session_that_hangs_is_not_opened_over() {
    let machine = Machine::new(&format!("answers = {{ event_wait = \"hang\" }}\n{TWO}"));
    let mut session = Session::new(&machine.config);
    assert_eq!(uuids(session.step(at(0))).len(), 2);
    machine.install();
    assert!(why(session.step(at(1))).contains("replaced on disk"));
    let reason = why(session.step(at(2)));
    assert!(reason.contains("hangs in a call"), "{reason}");
    machine.becomes(TWO);
    assert_eq!(uuids(session.step(at(12))).len(), 2);
    assert_eq!(machine.held(), None);
}

/// GH200 and its like: the GPU has no power and no memory of its own to tell, and nothing of it becomes zero.
#[test]
fn a_gpu_that_shares_its_module_tells_the_modules_power() {
    let answers = "memory = \"not_supported\", power_usage = \"not_supported\"";
    let machine = Machine::new(&format!("{}module_milliwatts = 500000\n", two_with(answers)));
    let gpu = gpus(Session::new(&machine.config).step(at(0))).remove(1);
    assert_eq!((gpu.power_watts, gpu.more.power_module_watts), (None, Some(500.0)));
    assert_eq!((gpu.memory_total_bytes, gpu.more.now.memory_free_bytes), (None, None));
    assert_eq!((gpu.utilization, gpu.unattributed_bytes()), (Some(0.0), None));
}
