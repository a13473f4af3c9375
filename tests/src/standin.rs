//! A scenario in; a running stand-in engine out, which takes loads and at its end gives the truth.

use crate::container::Container;
use crate::http;
use crate::process::Running;
use crate::process::signal;
use crate::python::Python;
use crate::scratch::Scratch;
use crate::truth::Truth;
use crate::truth::lines;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tachograph::discover::family::Process;
use tachograph::discover::procfs;
use tachograph::ident::Pid;

const NAME: &str = "the stand-in engine";
const LOG: &str = "standin.log";
const START: Duration = Duration::from_secs(30);
/// How often, and how many times, it is looked whether all truth is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);
const TOLD_LOOKS: u32 = 200;
const STOP: Duration = Duration::from_secs(15);
/// What the engine core calls itself.
const CORE: &str = "EngineCore";
const LOAD: Duration = Duration::from_secs(90);
/// It ends by itself after so long, whatever became of its owner.
const LIFE_SECONDS: &str = "300";

/// How the engine speaks with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP.
    Plain,
    /// HTTPS with a certificate of its own.
    Tls,
    /// HTTP over a Unix socket.
    Unix,
}

/// How the process comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// As a new process.
    New,
    /// As a shell, which becomes it.
    Shell,
    /// As a new process with the id of one that has gone.
    As(u32),
}

/// A kernel receive stamp of the client.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Stamp {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at: u64,
    /// By how much it may be off, nanoseconds.
    pub error: u64,
    /// Whether it is the stamp of bytes that came later in the same read.
    pub joined: bool,
}

/// What a server said of tokens.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the response; embeddings have none.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// What the client saw of one request.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// The kind in the mix.
    pub kind: String,
    /// The hidden identity.
    pub temperature: f64,
    /// The caller's span, where it told one.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// CLOCK_MONOTONIC nanoseconds just before and just after the request was sent.
    #[serde(default)]
    pub sent: Option<(u64, u64)>,
    /// The status of the response.
    #[serde(default)]
    pub status: Option<u16>,
    /// The id in the response.
    #[serde(default)]
    pub id: Option<String>,
    /// The response's `usage`.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Pieces of the response with text.
    #[serde(default)]
    pub content_chunks: u64,
    /// The first bytes with text; plain streams only.
    #[serde(default)]
    pub first_content: Option<Stamp>,
    /// The last byte.
    #[serde(default)]
    pub last: Option<Stamp>,
    /// `complete`, `aborted` by the client, or `closed` by the server.
    #[serde(default)]
    pub end: Option<String>,
    /// Why it came to nothing.
    #[serde(default)]
    pub failed: Option<String>,
}

/// A running stand-in engine.
#[derive(Debug)]
pub struct Standin {
    running: Running,
    /// The process that serves HTTP, where it is not the one that was started.
    inner: Option<u32>,
    /// Whether only processes of its network reach it.
    alone: bool,
    python: Python,
    port: u16,
    wire: Wire,
    loads: u32,
}

impl Standin {
    /// Starts one with `standin/scenarios/SCENARIO.json` and waits until it serves.
    pub fn start(python: &Python, scratch: &Scratch, scenario: &str, wire: Wire) -> Result<Self> {
        Self::born(Birth::New, python, scratch, scenario, wire)
    }

    /// As [`Standin::start`], but for how its process comes about.
    pub fn born(birth: Birth, python: &Python, scratch: &Scratch, scenario: &str, wire: Wire) -> Result<Self> {
        let port = http::free_port()?;
        let mut command = serve(python, scratch, scenario, (port, wire))?;
        let (name, log) = (NAME, scratch.file(LOG));
        let mut running = match birth {
            Birth::New => Running::start(name, &mut command, log)?,
            Birth::Shell => Running::start(name, &mut by_shell(&command), log)?,
            Birth::As(pid) => Running::start_as(pid, name, &mut command, &log)?,
        };
        running.until_ready(START, || match wire {
            Wire::Plain | Wire::Tls => http::listens(port),
            Wire::Unix => UnixStream::connect(socket(scratch)).is_ok(),
        })?;
        Ok(Self { running, inner: None, alone: false, python: python.clone(), port, wire, loads: 0 })
    }

    /// As [`Standin::start`], in a container; on a port.
    pub fn contained(
        container: &Container<'_>,
        python: &Python,
        scratch: &Scratch,
        scenario: &str,
        wire: Wire,
    ) -> Result<Self> {
        let port = http::free_port()?;
        let mut command = container.around(&serve(python, scratch, scenario, (port, wire))?, scratch)?;
        let mut running = Running::start(NAME, &mut command, scratch.file(LOG))?;
        let started = running.pid();
        let inner = || {
            let child = |process: &Process| process.parent.0 == started;
            let children = procfs::processes().into_values().filter(child);
            if container.has_parent() { children.map(|process| process.id.pid.0).next() } else { Some(started) }
        };
        running.until_ready(START, || inner().is_some_and(|pid| procfs::listening(Pid(pid)).contains(&port)))?;
        let alone = container.has_network();
        Ok(Self { running, inner: inner(), alone, python: python.clone(), port, wire, loads: 0 })
    }

    /// The process that serves HTTP.
    pub fn pid(&self) -> u64 {
        u64::from(self.inner.unwrap_or_else(|| self.running.pid()))
    }

    /// Where it serves, unless that is a Unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that serves HTTP, and the engine core.
    pub fn pids(&self) -> Vec<u64> {
        let is_core = |process: &Process| {
            u64::from(process.parent.0) == self.pid() && process.cmdline.iter().any(|word| word.contains(CORE))
        };
        let processes = procfs::processes().into_values();
        let cores = processes.filter(is_core).map(|process| u64::from(process.id.pid.0));
        std::iter::once(self.pid()).chain(cores).collect()
    }

    /// Ends the process that serves HTTP at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Sends `standin/mixes/MIX.json` and waits for its end; `first` numbers the first request.
    pub fn load(&mut self, scratch: &Scratch, mix: &str, first: u32) -> Result<Vec<Seen>> {
        self.begin(scratch, mix, first)?.finish()
    }

    /// As [`Standin::load`], without waiting.
    pub fn begin(&mut self, scratch: &Scratch, mix: &str, first: u32) -> Result<Load> {
        let out = scratch.file(&format!("seen-{}.jsonl", self.loads));
        self.loads += 1;
        let network = self.alone.then(|| self.pid());
        Load::begin(&self.python, scratch, (self.port, self.wire), mix, first, &out, network)
    }

    /// Ends it once it has told the truth of as many requests; all of it, and the widths of the brackets in
    /// words. A request is told of when its engine side has ended too, which may be after the response.
    pub fn stop(mut self, scratch: &Scratch, requests: usize) -> Result<(Vec<Truth>, String)> {
        let file = scratch.file("truth.jsonl");
        let told = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        for _ in 0..TOLD_LOOKS {
            if told() >= requests {
                break;
            }
            std::thread::sleep(TOLD_EVERY);
        }
        if let Some(inner) = self.inner.filter(|inner| *inner != self.running.pid()) {
            // What stands above it in a container ends with it.
            signal(inner, "TERM")?;
            self.running.wait(STOP)?;
        }
        let words = self.running.stop(STOP)?;
        Ok((lines(&scratch.file("truth.jsonl"))?, words))
    }
}

/// Sends `standin/mixes/MIX.json` to whatever serves there; what the client saw is also written to `out`.
pub fn send(
    python: &Python,
    scratch: &Scratch,
    (port, wire): (u16, Wire),
    mix: &str,
    first: u32,
    out: &Path,
) -> Result<Vec<Seen>> {
    Load::begin(python, scratch, (port, wire), mix, first, out, None)?.finish()
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    running: Running,
    out: PathBuf,
}

impl Load {
    fn begin(
        python: &Python,
        scratch: &Scratch,
        (port, wire): (u16, Wire),
        mix: &str,
        first: u32,
        out: &Path,
        network: Option<u64>,
    ) -> Result<Self> {
        let mut command = python.standin();
        command.args(["load", "--first", &first.to_string()]);
        place(&mut command, scratch, (port, wire));
        command.args(["--seconds", &LOAD.as_secs().to_string(), "--mix", &format!("standin/mixes/{mix}.json")]);
        command.arg("--out").arg(out);
        if wire == Wire::Tls {
            command.arg("--tls");
        }
        if let Some(pid) = network {
            command = behind(&["nsenter", &format!("--net=/proc/{pid}/ns/net"), "--"], &command);
        }
        let running = Running::start("the load", &mut command, scratch.file("load.log"))?;
        Ok(Self { running, out: out.to_owned() })
    }

    /// Waits for its end; what the client saw.
    pub fn finish(mut self) -> Result<Vec<Seen>> {
        let status = self.running.wait(LOAD.saturating_mul(2))?;
        ensure!(status.success(), "the load failed: {}", self.running.words());
        lines(&self.out)
    }
}

/// What serves a scenario there.
fn serve(python: &Python, scratch: &Scratch, scenario: &str, (port, wire): (u16, Wire)) -> Result<Command> {
    let mut command = python.standin();
    command.args(["serve", "--seconds", LIFE_SECONDS]);
    place(&mut command, scratch, (port, wire));
    command.args(["--scenario", &format!("standin/scenarios/{scenario}.json")]);
    command.arg("--truth").arg(scratch.file("truth.jsonl"));
    if wire == Wire::Tls {
        let file = scratch.file("both.pem");
        certificate(&file)?;
        command.arg("--tls-cert").arg(&file).arg("--tls-key").arg(&file);
    }
    Ok(command)
}

/// The same command, as what a shell becomes once it has run something else.
fn by_shell(command: &Command) -> Command {
    behind(&["sh", "-c", "true; exec \"$0\" \"$@\""], command)
}

/// The same command, as arguments of another.
fn behind(words: &[&str], command: &Command) -> Command {
    let mut other = Command::new(words.first().copied().unwrap_or_default());
    other.args(words.iter().skip(1)).arg(command.get_program()).args(command.get_args());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        other.current_dir(folder);
    }
    other
}

/// Names the place to serve on, or to send to.
fn place(command: &mut Command, scratch: &Scratch, (port, wire): (u16, Wire)) {
    match wire {
        Wire::Plain | Wire::Tls => command.args(["--port", &port.to_string()]),
        Wire::Unix => command.arg("--uds").arg(socket(scratch)),
    };
}

fn socket(scratch: &Scratch) -> PathBuf {
    scratch.file("engine.sock")
}

/// Makes a certificate that its own key has signed; both are in the file.
pub fn certificate(file: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    command.arg("-keyout").arg(file).arg("-out").arg(file);
    let output = command.output().context("openssl makes the certificate")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
