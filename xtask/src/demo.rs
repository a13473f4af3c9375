//! Nothing in; the agent at work on an engine with load, a line a request, until the time is over or Ctrl-C.

use crate::agent;
use crate::agent::Profile;
use crate::http;
use crate::process::Running;
use crate::setup;
use crate::step::as_root;
use crate::step::is_root;
use crate::step::root;
use crate::step::step;
use crate::vllm;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use screen::Screen;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

mod screen;

/// How long an engine has to come up.
const START: Duration = Duration::from_mins(5);
/// How often finished requests are asked for, and at most how many.
const EVERY: Duration = Duration::from_millis(500);
const LIMIT: usize = 500;

/// What serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The tests' stand-in.
    Standin,
    /// A real vLLM on the CPU.
    Vllm,
}

impl Engine {
    /// Names it to people.
    fn name(self) -> &'static str {
        match self {
            Self::Standin => "the stand-in engine",
            Self::Vllm => "vLLM on the CPU",
        }
    }
}

/// Installs, builds, starts, shows, and ends what it started.
pub(crate) fn run(seconds: Option<u64>, engine: Engine) -> Result<()> {
    let python = match engine {
        Engine::Standin => setup::standin()?,
        Engine::Vllm => vllm::environment(vllm::VERSION)?.folder.join("bin/python"),
    };
    let agent = agent::build(Profile::Debug)?;
    if !is_root() {
        println!("  the agent loads eBPF programs, which this user may not: it is started under sudo");
        crate::step::run(Command::new("sudo").arg("-v"))?;
    }
    let stop = on_interrupt()?;
    // Short, since sockets lie in it too: the name of one has little more than a hundred bytes.
    let logs = std::env::temp_dir().join(format!("tachograph-demo-{}", std::process::id()));
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let shown = show(seconds, engine, &python, &agent, &logs, &stop);
    std::fs::remove_dir_all(&logs).with_context(|| logs.display().to_string())?;
    shown
}

/// Becomes true at Ctrl-C, when asked to terminate, or when the terminal goes away.
fn on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
                _ = hangup.recv() => Ok(()),
            }
        })?;
        told.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    });
    Ok(stop)
}

fn show(
    seconds: Option<u64>,
    engine: Engine,
    python: &Path,
    agent: &Path,
    logs: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    let (serves, listens) = (http::free_port()?, http::free_port()?);
    let mut server = Running::start("engine", &mut serve(engine, python, serves, logs), logs)?;
    step("start of the engine", || until(&mut server, stop, || http::get(serves, "/health").is_ok()))?;
    let mut command = as_root("env");
    command.arg(format!("TACHOGRAPH_LISTEN=127.0.0.1:{listens}")).arg(agent).arg("run");
    let mut recorder = Running::start("agent", &mut command, logs)?;
    step("start of the agent", || until(&mut recorder, stop, || http::get(listens, "/readyz").is_ok()))?;
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }

    let mut client = Running::start("load", &mut load(engine, python, serves, logs), logs)?;
    let mut screen = Screen::open(engine.name(), listens);
    let limit = seconds.map(Duration::from_secs);
    while !stop.load(Ordering::Relaxed) && limit.is_none_or(|limit| screen.age() < limit) {
        std::thread::sleep(EVERY);
        server.check()?;
        recorder.check()?;
        if client.has_finished()? {
            client = Running::start("load", &mut load(engine, python, serves, logs), logs)?;
        }
        let answer = ask(listens, &format!("/api/v1/requests?limit={LIMIT}"))?;
        let requests = answer.get("requests").and_then(Value::as_array).context("no requests in the answer")?;
        // The agent sees every engine of this machine; this is about one of them.
        let ours = |request: &&Value| request.pointer("/target/engine/pid").is_some_and(|pid| *pid == server.pid());
        screen.show(&requests.iter().filter(ours).collect::<Vec<_>>());
    }
    if screen.requests() == 0 && !stop.load(Ordering::Relaxed) {
        bail!("the agent recorded nothing");
    }
    screen.close(&ask(listens, "/api/v1/snapshot")?);
    println!("\nEnding the load, the agent and the engine.");
    Ok(())
}

fn ask(port: u16, path: &str) -> Result<Value> {
    serde_json::from_str(&http::get(port, path)?).context("no JSON in the answer")
}

fn serve(engine: Engine, python: &Path, port: u16, sockets: &Path) -> Command {
    let mut serve = match engine {
        Engine::Standin => {
            let mut serve = Command::new(python);
            serve.current_dir(root().join("tests")).args(["-m", "standin", "serve", "--port", &port.to_string()]);
            serve
        }
        Engine::Vllm => {
            let folder = python.ancestors().nth(2).unwrap_or(python);
            vllm::serve(folder, &folder.with_file_name(vllm::MODEL), port)
        }
    };
    serve.env("TMPDIR", sockets);
    serve
}

fn load(engine: Engine, python: &Path, port: u16, logs: &Path) -> Command {
    let mut load = Command::new(python);
    let port = port.to_string();
    match engine {
        Engine::Standin => load.current_dir(root().join("tests")).args(["-m", "standin", "load", "--port", &port]),
        Engine::Vllm => load.arg(vllm::script("drive.py")).arg(&port).arg(logs.join("saw.jsonl")),
    };
    load
}

/// Waits until `ready` or until asked to stop; an error if the process ends or time runs out.
fn until(process: &mut Running, stop: &AtomicBool, ready: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !ready() && !stop.load(Ordering::Relaxed) {
        process.check()?;
        if began.elapsed() > START {
            bail!("not ready after {:.0} s", began.elapsed().as_secs_f64());
        }
        std::thread::sleep(EVERY);
    }
    Ok(())
}
