//! A command in; a child process out that is ended with its owner, its words kept in a file.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::MonoNs;
use tachograph::clock::System;

const EVERY: Duration = Duration::from_millis(20);
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The kernel looks for the next free process id behind this one.
pub const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// A process that has ended keeps its id until its parent knows.
const FREE: Duration = Duration::from_secs(30);

/// Sends a signal, by its name, to any process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let told = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    ensure!(told.success(), "cannot send {name} to {pid}");
    Ok(())
}

/// A child process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Running {
    /// Starts it; what it says goes to `log`.
    pub fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name, log })
    }

    /// As [`Running::start`], under the process id of one that has gone, once that is free.
    pub fn start_as(pid: u32, name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let deadline = System.now().plus(FREE);
        while System.now() < deadline {
            if Path::new(&format!("/proc/{pid}")).exists() {
                std::thread::sleep(EVERY);
                continue;
            }
            std::fs::write(LAST_PID, pid.saturating_sub(1).to_string()).context(LAST_PID)?;
            let mut running = Self::start(name, command, log.to_owned())?;
            if running.pid() == pid {
                return Ok(running);
            }
            // Somebody else's new process came between.
            running.kill()?;
        }
        bail!("process id {pid} did not become free")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says so; an error if the process ends before, or time runs out.
    pub fn until_ready(&mut self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = System.now().plus(within);
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended too early: {status}\n{}", self.name, self.words());
            }
            self.pause(deadline)?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits for that; what it said comes back.
    pub fn stop(mut self, within: Duration) -> Result<String> {
        self.end(within)?;
        Ok(self.words())
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its own end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = System.now().plus(within);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.pause(deadline)?;
        }
    }

    /// What it has said so far.
    pub fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As [`Running::words`], once they are `enough`; an error if that takes too long.
    pub fn words_when(&mut self, within: Duration, enough: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = System.now().plus(within);
        loop {
            let words = self.words();
            if enough(&words) {
                return Ok(words);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended too early: {status}\n{words}", self.name);
            }
            self.pause(deadline)?;
        }
    }

    /// Asks it to end (SIGTERM), and does not wait.
    pub fn ask_to_end(&self) -> Result<()> {
        signal(self.pid(), "TERM").with_context(|| self.name)
    }

    fn end(&mut self, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.ask_to_end()?;
        self.wait(within)
    }

    fn pause(&self, deadline: MonoNs) -> Result<()> {
        if System.now() >= deadline {
            bail!("{} took too long\n{}", self.name, self.words());
        }
        std::thread::sleep(EVERY);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its own end is better, because it cleans up; but it must not stay.
        if self.end(LAST_WORDS).is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
