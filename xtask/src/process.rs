//! A command in; a process group that runs until it is dropped, and then is gone.

use crate::step::as_root;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// How long a group has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(20);
/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// A process with all it starts; ends with this value.
pub(crate) struct Running {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Running {
    /// Starts `command` in a group of its own, so that a Ctrl-C reaches it only through us.
    pub(crate) fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
        Self::start_with(name, command, logs, Stdio::null())
    }

    /// As [`Running::start`], with something to read.
    pub(crate) fn start_with(name: &'static str, command: &mut Command, logs: &Path, input: Stdio) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| log.display().to_string())?;
        command.process_group(0).stdin(input).stderr(out.try_clone()?).stdout(out);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.try_wait()?.map_or(Ok(()), |status| Err(self.ended(status)))
    }

    /// Whether it has ended well; an error with the end of its log, if it has ended otherwise.
    pub(crate) fn has_finished(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        anyhow::anyhow!("{} ended with {status}:\n{}", self.name, tail.join("\n"))
    }

    /// Waits until `ready`; an error if it ends or time runs out.
    pub(crate) fn until(&mut self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !ready() {
            self.check()?;
            if began.elapsed() > within {
                bail!("{} is not ready after {:.0} s", self.name, began.elapsed().as_secs_f64());
            }
            std::thread::sleep(EVERY);
        }
        Ok(())
    }

    /// The whole group is asked, or made, to end. It may be root's, under sudo.
    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        let mut kill = as_root("kill");
        kill.args([signal, "--", &group]).stderr(Stdio::null());
        if let Err(error) = kill.status() {
            println!("  cannot signal {}: {error}", self.name);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        while began.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(EVERY);
        }
        self.signal("-KILL");
        if let Err(error) = self.child.wait() {
            println!("  {} did not end: {error}", self.name);
        }
    }
}
