//! A scenario in; a stub NVML of its own that plays it out, and words for what a session says of it.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use tachograph::clock::MonoNs;
use tachograph::gpu::Sample;
use tachograph::gpu::State;
use tachograph::gpu::nvml::Config;

/// A machine of its own: a copy of the stub with its scenario beside it.
pub(super) struct Machine {
    dir: PathBuf,
    pub(super) config: Config,
}

impl Machine {
    pub(super) fn new(scenario: &str) -> Self {
        let machine = Self::without_library();
        machine.install();
        machine.becomes(scenario);
        machine
    }

    pub(super) fn without_library() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("tachograph-nvml-{}-{number}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let config = Config { library: Some(dir.join("libnvidia-ml.so.1")), ..Config::default() };
        Self { dir, config }
    }

    pub(super) fn library(&self) -> &Path {
        self.config.library.as_deref().unwrap()
    }

    /// Puts the library in place in one step, as a package manager does.
    pub(super) fn install(&self) {
        let next = self.dir.join("next.so");
        fs::copy(stub(), &next).unwrap();
        fs::rename(next, self.library()).unwrap();
    }

    /// The library without one of its functions: the name is another one, so that nobody finds it.
    pub(super) fn without(scenario: &str, symbol: &str) -> Self {
        let machine = Self::without_library();
        let mut bytes = fs::read(stub()).unwrap();
        let name = format!("\0{symbol}\0").into_bytes();
        // The first place is the loader's own list of names.
        let place = bytes.windows(name.len()).position(|part| part == name);
        let place = place.unwrap_or_else(|| panic!("the stub has no {symbol}"));
        bytes[place + symbol.len()] = b'#';
        fs::write(machine.library(), bytes).unwrap();
        machine.becomes(scenario);
        machine
    }

    /// What NVML's user had not given back when it closed the session.
    pub(super) fn held(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("libnvidia-ml.so.1.held")).ok()
    }

    /// Replaces the scenario in one step, as the stub reads it at each call.
    pub(super) fn becomes(&self, scenario: &str) {
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

pub(super) const TWO: &str = r#"
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

pub(super) fn two_with(answers: &str) -> String {
    format!("{TWO}answers = {{ {answers} }}\n")
}

pub(super) fn at(seconds: u64) -> MonoNs {
    MonoNs(seconds * 1_000_000_000)
}

pub(super) fn gpus(state: State) -> Vec<Sample> {
    match state {
        State::Present { gpus, .. } => gpus,
        State::Absent { why } => panic!("absent: {why}"),
    }
}

pub(super) fn uuids(state: State) -> Vec<String> {
    gpus(state).into_iter().map(|gpu| gpu.uuid).collect()
}

pub(super) fn why(state: State) -> String {
    match state {
        State::Absent { why } => why,
        State::Present { gpus, .. } => panic!("{} GPUs", gpus.len()),
    }
}
