//! A scenario in; the stub NVML that plays it out.

use crate::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

/// Puts the stub with its scenario beside it into this place, which is what the agent is to load.
pub fn install(library: &Path, scenario: &str) -> Result<()> {
    // Cargo leaves the stub beside each test, since the package depends on it.
    let stub = std::env::current_exe()?.with_file_name("libnvml_stub.so");
    std::fs::write(beside(library, ".toml"), scenario)?;
    std::fs::copy(&stub, library).with_context(|| stub.display().to_string())?;
    Ok(())
}

/// Another scenario for a stub that is at work, all at once.
pub fn replace(library: &Path, scenario: &str) -> Result<()> {
    let new = beside(library, ".new");
    std::fs::write(&new, scenario)?;
    Ok(std::fs::rename(new, beside(library, ".toml"))?)
}

fn beside(library: &Path, suffix: &str) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// One GPU under half its load, on which one process computes, and which a test throttles and harms.
#[derive(Debug)]
pub struct Gpu {
    library: String,
    pid: u64,
    since_ns: u64,
    /// Seconds after `since_ns`, and the share of its load from then on; full is throttled.
    steps: Vec<(f64, f64)>,
    xids: Vec<u64>,
}

impl Gpu {
    /// The GPU's `hw.id`.
    pub const UUID: &str = "GPU-trial";

    /// Puts it there.
    pub fn install(scratch: &Scratch, pid: u64) -> Result<Self> {
        let library = scratch.file("libnvidia-ml.so.1");
        let text = library.to_str().context("a path that is no text")?.to_owned();
        let gpu = Self { library: text, pid, since_ns: System.now().0, steps: vec![(0.0, 0.5)], xids: Vec::new() };
        install(&library, &gpu.scenario())?;
        Ok(gpu)
    }

    /// What makes an agent read it.
    pub fn setting(&self) -> (&'static str, &str) {
        ("TACHOGRAPH_NVML_LIBRARY", &self.library)
    }

    /// Its clocks are held down from now on, or no longer.
    pub fn throttle(&mut self, on: bool) -> Result<()> {
        let seconds = (System.now().0 - self.since_ns) as f64 / 1e9;
        self.steps.push((seconds, if on { 1.0 } else { 0.5 }));
        replace(Path::new(&self.library), &self.scenario())
    }

    /// It has a critical error.
    pub fn xid(&mut self, code: u64) -> Result<()> {
        self.xids.push(code);
        replace(Path::new(&self.library), &self.scenario())
    }

    fn scenario(&self) -> String {
        let steps: Vec<String> =
            self.steps.iter().map(|(at, share)| format!("{{ at_seconds = {at:.9}, share = {share:.1} }}")).collect();
        format!(
            "driver = \"580.95.05\"\n[[gpu]]\nuuid = \"{}\"\nname = \"Stub\"\npower_milliwatts = 300000\n\
             xids = {:?}\nprocess = [{{ pid = {}, memory_bytes = 1000 }}]\n\
             load = {{ since_ns = {}, full_load_event = {HARDWARE_THERMAL}, step = [{}] }}\n",
            Self::UUID,
            self.xids,
            self.pid,
            self.since_ns,
            steps.join(", "),
        )
    }
}

/// Index into `clock_event_ns`.
const HARDWARE_THERMAL: usize = 3;
