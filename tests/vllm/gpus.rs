//! A real vLLM whose worker stands on a stub GPU in; what each request's span says of engine and GPU out.

use crate::PLAIN;
use crate::door::Door;
use crate::place;
use crate::process::Folder;
use crate::process::Running;
use crate::process::ask;
use crate::process::free_port;
use crate::process::word;
use crate::run::KNOCK;
use crate::run::Place;
use crate::run::knock;
use crate::truth::lines;
use agent_tests::nvml;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::process::Command;
use tachograph::discover::procfs;
use tachograph::ident::Pid;

/// Watts of the stub.
const WATTS: f64 = 250.0;
/// What the span of every request that the engine served says.
const TOLD: [&str; 10] = [
    "tachograph.engine_at.queued.kv_usage",
    "tachograph.engine_at.first_token.kv_usage",
    "tachograph.engine_at.first_token.running",
    "tachograph.engine_at.first_token.waiting",
    "tachograph.gpu.ids",
    "tachograph.gpu.utilization",
    "tachograph.gpu.power",
    "tachograph.used.engine_time",
    "tachograph.used.energy",
    "tachograph.used.cost_dollars",
];

#[test]
fn every_span_carries_engine_and_gpu() -> Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let folder = Folder::new("gpus")?;
    let (serves, listens) = (Door::Tcp(free_port()?), free_port()?);
    let (file, library) = (folder.file("spans.jsonl"), folder.file("libnvidia-ml.so.1"));
    let script = Place::script("otlp_receiver.py");
    let receiver = [word(&place.python)?, &script, word(&file)?];
    let mut receiver = Running::start(&receiver, &[], folder.file("receiver.log"))?;
    let port: u16 = receiver.until(30, |receiver| receiver.log().trim().parse().ok())?;

    let mut vllm = place.serve(&PLAIN, &serves, None, folder.file("vllm.log"))?;
    vllm.until(300, |_| serves.ask("GET", "/health", "").ok())?;
    nvml::install(&library, &scenario(worker(vllm.pid())?))?;
    let collector = format!("http://127.0.0.1:{port}");
    let settings = [
        ("TACHOGRAPH_NVML_LIBRARY", word(&library)?),
        ("TACHOGRAPH_OTLP_ENDPOINT", collector.as_str()),
        ("TACHOGRAPH_PRICES_GPU_HOUR", "2.5"),
    ];
    let mut agent = place.record(listens, &settings, folder.file("agent.log"))?;
    agent.until(60, |_| knock(&serves, listens, vllm.pid()).ok().filter(|&seen| seen))?;
    let saw = folder.file("saw.jsonl");
    let mut drive = Command::new(&place.python);
    drive.arg(Place::script("drive.py")).arg(serves.to_string()).arg(&saw).args(["--share", "0.2"]);
    ensure!(drive.status()?.success(), "the load client failed");
    let sent = lines::<Value>(&saw)?.len();
    agent.until(30, |_| lines::<Value>(&file).ok().filter(|spans| requests(spans).count() >= sent))?;

    let spans: Vec<Value> = lines(&file)?;
    let (mut served, mut joules, mut seconds) = (0, 0.0, 0.0);
    // Who left before the first token has no state at the first token.
    for span in requests(&spans).filter(|span| span.get("error.type").is_none()) {
        served += 1;
        for name in TOLD {
            ensure!(span.get(name).is_some(), "no {name}: {span:#}");
        }
        let number = |name| span.get(name).and_then(Value::as_f64).context("no number");
        joules += number("tachograph.used.energy")?;
        seconds += number("tachograph.used.engine_time")?;
    }
    println!("gpus: {served} served requests of {sent}, {joules:.3} J in {seconds:.3} s of the engine");
    ensure!(served > sent / 2, "too few were served");
    // Power is constant, so energy is power times the engine's time.
    ensure!((joules - seconds * WATTS).abs() <= 0.01 * joules, "{joules} J, {seconds} s");
    // The two are comparable when the engine has been quiet for a moment.
    let kv = agent.until(30, |_| {
        let snapshot: Value = serde_json::from_str(&ask(listens, "GET", "/api/v1/snapshot", "").ok()?).ok()?;
        let engines = snapshot.get("engines")?.as_array()?;
        engines.iter().find_map(|engine| engine.pointer("/checks/tallies/kv_usage")).cloned()
    })?;
    println!("gpus: KV usage beside vLLM's own gauge: {kv}");
    let tally = |name| kv.get(name).and_then(Value::as_u64);
    ensure!(tally("agreed") > Some(0) && tally("disagreed") == Some(0), "{kv}");
    Ok(())
}

/// The attributes of the agent's spans of the load's requests: not of knocks, before the first of which no step
/// has told how the engine stands, and which may have begun before the agent came.
fn requests(spans: &[Value]) -> impl Iterator<Item = &Value> {
    let own = spans.iter().filter_map(|span| span.get("attributes"));
    own.filter(|span| {
        let knocks = span.get("gen_ai.request.temperature").is_some_and(|temperature| *temperature == KNOCK);
        span.get("tachograph.serial").is_some() && span.get("http.request.method").is_some() && !knocks
    })
}

/// The process that computes for this vLLM.
fn worker(vllm: u32) -> Result<u32> {
    let below = |pid: Pid| procfs::lineage(pid).contains(&Pid(vllm));
    let title = |pid: Pid| procfs::cmdline(pid).first().is_some_and(|title| title.starts_with("VLLM::Worker"));
    let mut all = procfs::processes().into_keys();
    Ok(all.find(|pid| title(*pid) && below(*pid)).context("vLLM has no worker")?.0)
}

fn scenario(worker: u32) -> String {
    let milliwatts = WATTS * 1e3;
    format!(
        "driver = \"580.95.05\"\n[[gpu]]\nuuid = \"GPU-0\"\nname = \"Stub\"\npower_milliwatts = {milliwatts:.0}\n\
         memory_total_bytes = 1000000\nmemory_used_bytes = 600000\nenergy_millijoules = 1000\nutilization_percent = 80\n\
         process = [{{ pid = {worker}, memory_bytes = 500000 }}]\nload = {{ since_ns = 1 }}\n"
    )
}
