//! The GPU side against the stub NVML: what is read, what is unknown, and what a failing NVML becomes.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use tachograph::clock::MonoNs;
use tachograph::clock::System;
use tachograph::gpu::More;
use tachograph::gpu::Sample;
use tachograph::gpu::State;
use tachograph::gpu::nvml::Config;
use tachograph::gpu::sampler::Session;

/// A machine of its own: a copy of the stub with its scenario beside it.
struct Machine {
    dir: PathBuf,
    config: Config,
}

impl Machine {
    fn new(scenario: &str) -> Self {
        let machine = Self::without_library();
        machine.install();
        machine.becomes(scenario);
        machine
    }

    fn without_library() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("tachograph-nvml-{}-{number}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let config = Config { library: Some(dir.join("libnvidia-ml.so.1")), ..Config::default() };
        Self { dir, config }
    }

    fn library(&self) -> &Path {
        self.config.library.as_deref().unwrap()
    }

    fn install(&self) {
        fs::copy(stub(), self.library()).unwrap();
    }

    /// Replaces the scenario in one step, as the stub reads it at each call.
    fn becomes(&self, scenario: &str) {
        let next = self.dir.join("next");
        fs::write(&next, scenario).unwrap();
        fs::rename(next, self.dir.join("libnvidia-ml.so.1.toml")).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Cargo leaves the stub beside this test, since the package depends on it.
fn stub() -> PathBuf {
    let stub = env::current_exe().unwrap().with_file_name("libnvml_stub.so");
    assert!(stub.exists(), "{} is missing: build with cargo", stub.display());
    stub
}

const TWO: &str = r#"
driver = "580.95.05"
[[gpu]]
uuid = "GPU-a"
name = "Stub H100"
memory_total_bytes = 1000
memory_used_bytes = 400
memory_reserved_bytes = 50
utilization_percent = 37
memory_utilization_percent = 100
[[gpu]]
uuid = "GPU-b"
"#;

fn two_with(answers: &str) -> String {
    format!("{TWO}answers = {{ {answers} }}\n")
}

fn at(seconds: u64) -> MonoNs {
    MonoNs(seconds * 1_000_000_000)
}

fn gpus(state: State) -> Vec<Sample> {
    match state {
        State::Present { gpus, .. } => gpus,
        State::Absent { why } => panic!("absent: {why}"),
    }
}

fn uuids(state: State) -> Vec<String> {
    gpus(state).into_iter().map(|gpu| gpu.uuid).collect()
}

fn why(state: State) -> String {
    match state {
        State::Absent { why } => why,
        State::Present { gpus, .. } => panic!("{} GPUs", gpus.len()),
    }
}

#[test]
fn every_gpu_is_read_whole() {
    let machine = Machine::new(TWO);
    let State::Present { driver, gpus, .. } = Session::new(&machine.config).step(at(3)) else { panic!("absent") };
    assert_eq!(driver.as_deref(), Some("580.95.05"));
    let first = Sample {
        index: 0,
        uuid: "GPU-a".to_owned(),
        name: Some("Stub H100".to_owned()),
        at: at(3),
        memory_used_bytes: Some(400),
        memory_total_bytes: Some(1000),
        utilization: Some(0.37),
        memory_utilization: Some(1.0),
        ..Sample::default()
    };
    assert_eq!(Sample { more: More::default(), ..gpus[0].clone() }, first);
    assert_eq!((gpus[1].index, gpus[1].utilization), (1, Some(0.0)), "an idle GPU is zero, not unknown");
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

/// The real thread and the real watchdog: a call that hangs becomes a reason, and its end becomes readings again.
#[test]
fn a_hanging_call_stalls_nobody() {
    let machine = Machine::new(TWO);
    let (states, seen) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sampling =
        tachograph::gpu::run(machine.config.clone(), Arc::new(System), move |state| drop(states.send(state)));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { () = sampling => {}, _ = ended => {} }
        });
    });
    let next = |wanted: fn(&State) -> bool| {
        std::iter::from_fn(|| seen.recv_timeout(Duration::from_mins(1)).ok()).find(wanted).expect("a state in time")
    };
    let present = |state: &State| matches!(state, State::Present { .. });
    let absent = |state: &State| matches!(state, State::Absent { .. });
    next(present);
    machine.becomes(&two_with("memory = \"hang\""));
    assert!(why(next(absent)).starts_with("NVML has not answered for "));
    machine.becomes(TWO);
    assert_eq!(uuids(next(present)).len(), 2);
    drop(end);
    running.join().unwrap();
}

#[test]
fn switched_off_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (states, seen) = mpsc::channel();
    let config = Config { enabled: false, ..Config::default() };
    runtime.block_on(tachograph::gpu::run(config, Arc::new(System), move |state| drop(states.send(state))));
    assert_eq!(why(seen.recv().unwrap()), "GPU sampling is switched off");
}
