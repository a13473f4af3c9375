//! A command in; a process group that runs until it is dropped, and then is gone; and what it serves.

use crate::door::Door;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(100);
/// Polls until a group that was asked to end is killed: 20 s.
const GRACE: usize = 200;

/// A process with all it starts; ends with this value, and with the test process however that ends.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(command: &[&str], environment: &[(&str, &str)], log: PathBuf) -> Result<Self> {
        let out = File::create(&log).with_context(|| log.display().to_string())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .args(command)
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .with_context(|| command.join(" "))?;
        Ok(Self { child, log })
    }

    /// Its process id, which is that of the command: whoever starts it becomes it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Polls `ready` until it gives something; an error if the process ends first, or after so many seconds.
    pub(crate) fn until<T>(&mut self, seconds: usize, ready: impl Fn(&Self) -> Option<T>) -> Result<T> {
        for _ in 0..seconds * 10 {
            if let Some(it) = ready(self) {
                return Ok(it);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}:\n{}", self.log());
            }
            sleep(POLL);
        }
        bail!("not ready after {seconds} s:\n{}", self.log())
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "ended with {status}:\n{}", self.log());
        Ok(())
    }

    fn signal(&self, signal: &str) -> bool {
        let group = format!("-{}", self.child.id());
        let mut kill = Command::new("kill");
        kill.args([signal, "--", &group]).stderr(Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("-TERM");
        for _ in 0..GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) && !self.signal("-0") {
                return;
            }
            sleep(POLL);
        }
        self.signal("-KILL");
        drop(self.child.wait());
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The body of an answer with status 200, over plain TCP.
pub(crate) fn ask(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    Door::Tcp(port).ask(method, path, body)
}

/// A folder that is empty now and removed with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tachograph-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A path as a word of a command line.
pub(crate) fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}
