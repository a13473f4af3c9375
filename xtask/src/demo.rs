//! Nothing in; the agent at work on an engine with load, a line a request, until the time is over or Ctrl-C.

use crate::agent;
use crate::agent::Profile;
use crate::http;
use crate::process::Running;
use crate::setup;
use crate::step::as_root;
use crate::step::cache;
use crate::step::is_root;
use crate::step::root;
use crate::step::step;
use crate::vllm;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

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
    let logs = cache()?.join(format!("demo-{}", std::process::id()));
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let shown = show(seconds, engine, &python, &agent, &logs, &stop);
    std::fs::remove_dir_all(&logs).with_context(|| logs.display().to_string())?;
    shown
}

/// Becomes true at Ctrl-C or when asked to terminate.
fn on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
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
    let mut server = step("engine", || {
        let mut server = Running::start("engine", &mut serve(engine, python, serves), logs)?;
        until(&mut server, stop, || http::get(serves, "/health").is_ok())?;
        Ok(server)
    })?;
    let mut recorder = step("agent", || {
        let mut command = as_root("env");
        command.arg(format!("TACHOGRAPH_LISTEN=127.0.0.1:{listens}")).arg(agent).arg("run");
        let mut recorder = Running::start("agent", &mut command, logs)?;
        until(&mut recorder, stop, || http::get(listens, "/readyz").is_ok())?;
        Ok(recorder)
    })?;
    let mut client = Running::start("load", &mut load(engine, python, serves, logs), logs)?;

    println!("\nMetrics: http://127.0.0.1:{listens}/metrics   Ctrl-C ends it\n\n{}", Line::HEADER);
    let began = Instant::now();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) && seconds.is_none_or(|limit| began.elapsed().as_secs() < limit) {
        server.check()?;
        recorder.check()?;
        if client.check().is_err() {
            client = Running::start("load", &mut load(engine, python, serves, logs), logs)?;
        }
        let answer: Value = serde_json::from_str(&http::get(listens, &format!("/api/v1/requests?limit={LIMIT}"))?)?;
        let requests = answer.get("requests").and_then(Value::as_array).context("no requests in the answer")?;
        for request in requests.iter().rev() {
            if seen.is_new(request) {
                println!("{}", Line(request));
            }
        }
        std::thread::sleep(EVERY);
    }
    println!("\n{} requests in {:.0} s", seen.total, began.elapsed().as_secs_f64());
    for (status, count) in &seen.by_status {
        println!("  {status}: {count}");
    }
    if seen.total == 0 && !stop.load(Ordering::Relaxed) {
        bail!("the agent recorded nothing");
    }
    Ok(())
}

fn serve(engine: Engine, python: &Path, port: u16) -> Command {
    match engine {
        Engine::Standin => {
            let mut serve = Command::new(python);
            serve.current_dir(root().join("tests")).args(["-m", "standin", "serve", "--port", &port.to_string()]);
            serve
        }
        Engine::Vllm => {
            let folder = python.ancestors().nth(2).unwrap_or(python);
            vllm::serve(folder, &folder.with_file_name(vllm::MODEL), port)
        }
    }
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

/// Waits until `ready`; an error if the process ends or time runs out.
fn until(process: &mut Running, stop: &AtomicBool, ready: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !ready() {
        process.check()?;
        if stop.load(Ordering::Relaxed) || began.elapsed() > START {
            bail!("given up after {:.0} s", began.elapsed().as_secs_f64());
        }
        std::thread::sleep(EVERY);
    }
    Ok(())
}

/// Which requests were shown, and what became of them.
#[derive(Default)]
struct Seen {
    ids: BTreeSet<String>,
    total: usize,
    by_status: BTreeMap<String, usize>,
}

impl Seen {
    fn is_new(&mut self, request: &Value) -> bool {
        let new = self.ids.insert(request["id"].to_string());
        if new {
            self.total += 1;
            *self.by_status.entry(word(&request["status"])).or_default() += 1;
        }
        new
    }
}

/// One request as a line of the terminal.
struct Line<'a>(&'a Value);

impl Line<'_> {
    const HEADER: &'static str =
        "status operation          in   out     ttft    queue  prefill   decode    total  finish";
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(request) = self;
        let phases = &request["phases"];
        write!(
            f,
            "{:<6} {:<16} {:>4} {:>5} ",
            word(&request["status"]),
            word(&request["operation"]),
            word(&request["input_tokens"]),
            word(&request["output_tokens"])
        )?;
        for seconds in [
            &request["ttft_seconds"],
            &phases["queue"],
            &phases["prefill"],
            &phases["decode"],
            &request["duration_seconds"],
        ] {
            write!(f, "{:>8} ", milliseconds(seconds))?;
        }
        let reasons =
            request["finish_reasons"].as_array().map(|all| all.iter().map(word).collect::<Vec<_>>().join(","));
        let error = Some(&request["error_type"]).filter(|error| !error.is_null()).map(word);
        write!(f, " {}", error.or(reasons).unwrap_or_default())
    }
}

/// A JSON value without its quotes; what is unknown is a dash.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn milliseconds(seconds: &Value) -> String {
    seconds.as_f64().map_or_else(|| "–".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}
