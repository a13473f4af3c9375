//! Troubles in, and around, a real vLLM: each request that misses an objective gets the cause that it had, and an
//! engine of which a process stands still is wedged until it steps.

use crate::PLAIN;
use crate::door::Door;
use crate::place;
use crate::process::Folder;
use crate::process::Running;
use crate::process::ask;
use crate::process::free_port;
use crate::run::Case;
use crate::run::Place;
use crate::run::knock;
use crate::truth::lines;
use agent_tests::confusion::Confusion;
use agent_tests::process::signal;
use agent_tests::standin::Seen;
use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;
use tachograph::discover::procfs;
use tachograph::ident::Pid;

/// Seconds.
const TTFT: f64 = 1.5;
const TPOT: f64 = 0.08;
const DURATION: f64 = 4.0;
/// As near to a limit, a truth is neither above nor below it.
const NEAR: f64 = 0.03;
const STOPS: u32 = 18;
const STOP: Duration = Duration::from_millis(4_500);
const BETWEEN: Duration = Duration::from_millis(2_500);
/// No mix has as many requests.
const NUMBERS: u32 = 10_000;
/// An engine must be called wedged by then, seconds.
const BY: f64 = 15.0;

const ROOMY: &[&str] = &[
    "--max-num-seqs",
    "32",
    "--max-model-len",
    "4096",
    "--max-num-batched-tokens",
    "4096",
    "--num-gpu-blocks-override",
    "2000",
    "--no-enable-prefix-caching",
];
const TWO_SEATS: &[&str] = &["--max-num-seqs", "2", "--num-gpu-blocks-override", "2000"];
const FEW_BLOCKS: &[&str] = &["--max-num-seqs", "16", "--num-gpu-blocks-override", "12", "--no-enable-prefix-caching"];

/// A vLLM and an agent.
struct Scene {
    serves: u16,
    listens: u16,
    loads: u32,
    seen: PathBuf,
    agent: Running,
    vllm: Running,
    folder: Folder,
}

/// What a client saw and the agent found.
struct Met {
    seen: Seen,
    found: Found,
}

/// Of a record.
#[derive(Debug, Clone, Deserialize)]
struct Found {
    cause: Option<String>,
    phases: Value,
    blocked_seconds: Value,
}

impl Scene {
    fn open(place: &Place, name: &'static str, flags: &'static [&'static str]) -> Result<Self> {
        let folder = Folder::new(name)?;
        let (serves, listens) = (free_port()?, free_port()?);
        let door = Door::Tcp(serves);
        let case = Case { name, flags, has_spans: false, ..PLAIN };
        let mut vllm = place.serve(&case, &door, None, folder.file("vllm.log"))?;
        vllm.until(300, |_| door.ask("GET", "/health", "").ok())?;
        let [ttft, tpot, duration] = [TTFT, TPOT, DURATION].map(|limit| limit.to_string());
        let settings = [
            ("TACHOGRAPH_SLO_TTFT_SECONDS", ttft.as_str()),
            ("TACHOGRAPH_SLO_TPOT_SECONDS", &tpot),
            ("TACHOGRAPH_SLO_DURATION_SECONDS", &duration),
            ("TACHOGRAPH_REQUESTS_KEPT", "10000"),
        ];
        let mut agent = place.record(listens, &settings, folder.file("agent.log"))?;
        agent.until(30, |_| ask(listens, "GET", "/readyz", "").ok())?;
        let engine = vllm.pid();
        agent.until(60, |_| knock(&door, listens, engine).ok().filter(|&seen| seen))?;
        let seen = folder.file("seen.jsonl");
        let mut scene = Self { serves, listens, loads: 0, seen, agent, vllm, folder };
        scene.load(place, "calm")?;
        Ok(scene)
    }

    fn begin(&mut self, place: &Place, mix: &str) -> Result<Running> {
        self.loads += 1;
        let log = self.folder.file(&format!("load-{}.log", self.loads));
        place.send(self.serves, mix, self.loads * NUMBERS, &self.seen, log)
    }

    fn load(&mut self, place: &Place, mix: &str) -> Result<()> {
        self.begin(place, mix)?.finish()
    }

    /// The engine core of this vLLM and its workers.
    fn engine(&self) -> Result<(u32, Vec<u32>)> {
        let family = procfs::states(Pid(self.vllm.pid()));
        let processes = procfs::processes();
        let titled = |title: &str| {
            let has =
                |pid: &Pid| processes.get(pid).is_some_and(|it| it.cmdline.iter().any(|word| word.contains(title)));
            family.iter().map(|(pid, ..)| *pid).filter(has).map(|pid| pid.0).collect::<Vec<_>>()
        };
        let core = titled("EngineCore").first().copied().context("no engine core")?;
        Ok((core, titled("Worker")))
    }

    /// Every request that was sent, with the cause that the agent gave it.
    fn close(mut self) -> Result<Vec<Met>> {
        let seen: Vec<Seen> = lines(&self.seen)?;
        let path = format!("/api/v1/requests?limit={}", 2 * NUMBERS);
        let (listens, engine) = (self.listens, self.vllm.pid());
        // The machine may have other engines, whose requests have the same temperatures.
        let own = |record: &&Value| record.pointer("/target/engine/pid").is_some_and(|pid| *pid == engine);
        let records = || {
            let answer: Value = serde_json::from_str(&ask(listens, "GET", &path, "").ok()?).ok()?;
            let found: BTreeMap<u64, Found> = answer
                .get("requests")?
                .as_array()?
                .iter()
                .filter(own)
                .filter_map(|record| {
                    let identity = record.pointer("/params/temperature")?.as_f64()?.to_bits();
                    Some((identity, serde_json::from_value(record.clone()).ok()?))
                })
                .collect();
            seen.iter().all(|seen| found.contains_key(&seen.temperature.to_bits())).then_some(found)
        };
        let mut found = self.agent.until(30, |_| records())?;
        let meet = |seen: Seen| {
            let found = found.remove(&seen.temperature.to_bits()).context("a request without a record")?;
            Ok(Met { seen, found })
        };
        seen.clone().into_iter().map(meet).collect()
    }
}

/// What the agent on this port says now.
fn snapshot(port: u16) -> Option<Value> {
    serde_json::from_str(&ask(port, "GET", "/api/v1/snapshot", "").ok()?).ok()
}

fn core_of(snapshot: &Value, pid: u32) -> Option<&Value> {
    snapshot.get("cores")?.as_array()?.iter().find(|core| core.get("pid").is_some_and(|own| *own == pid))
}

/// Whether a request missed an objective as its client saw it; `None` where that is too near to say.
fn missed(seen: &Seen) -> Option<bool> {
    if seen.kind == "doomed" || seen.end.as_deref() != Some("complete") || seen.status != Some(200) {
        return Some(true);
    }
    let sent = seen.sent?.0;
    let since = |at: u64| at.saturating_sub(sent) as f64 / 1e9;
    let (first, last) = (seen.first_content?.at, seen.last?.at);
    // Not every token has a text of its own.
    let gaps = seen.usage?.completion_tokens.saturating_sub(1).max(1) as f64;
    let tpot = last.saturating_sub(first) as f64 / 1e9 / gaps;
    let most = (since(first) / TTFT).max(tpot / TPOT).max(since(last) / DURATION);
    ((most - 1.0).abs() > NEAR).then_some(most > 1.0)
}

/// What a request suffered from, if it did; `Err` where the client cannot tell.
fn injected(seen: &Seen, stops: &[(u64, u64)]) -> Result<Option<&'static str>, ()> {
    Ok(match seen.kind.as_str() {
        "uploads" | "stalls_and_uploads_longer" => Some("receive"),
        "stalls" | "uploads_and_stalls_longer" => Some("slow_client"),
        "decodes" => Some("batch_interference"),
        "crowded" => Some("queue"),
        "big" => Some("kv_pressure"),
        "doomed" => Some("error"),
        // Beside each other, long prompts wait for and slow each other: they are here for the decodes.
        "long_prompt" => return Err(()),
        _ => {
            let (sent, first, last) =
                (seen.sent.ok_or(())?.0, seen.first_content.ok_or(())?.at, seen.last.ok_or(())?.at);
            // One that was not answered before a stop may have been read only after it.
            if stops.iter().any(|(from, to)| sent < *to && first > *from) {
                return Err(());
            }
            stops.iter().any(|(from, to)| first < *from && last > *to).then_some("frontend")
        }
    })
}

fn matrix(met: &[Met], stops: &[(u64, u64)]) -> Confusion {
    let mut matrix = Confusion::default();
    for Met { seen, found } in met {
        let cause = found.cause.as_deref();
        let (Ok(injected), Some(missed)) = (injected(seen, stops), missed(seen)) else { continue };
        if injected.filter(|_| missed) != cause {
            let [injected, cause] = [injected, cause].map(|cause| cause.unwrap_or("none"));
            println!(
                "{}: {cause}, where it was {injected}: {}, blocked {}",
                seen.kind, found.phases, found.blocked_seconds
            );
        }
        matrix.judge(injected, missed, cause);
    }
    println!("{matrix}\n");
    matrix
}

#[test]
fn every_injected_cause_is_found_where_it_was_and_nowhere_else() -> Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let mut all = Confusion::default();

    let mut roomy = Scene::open(&place, "roomy", ROOMY)?;
    roomy.load(&place, "callers")?;
    let mut calls = roomy.begin(&place, "calls")?;
    let mut stops = Vec::new();
    for _ in 0..STOPS {
        sleep(BETWEEN);
        signal(roomy.vllm.pid(), "STOP")?;
        let from = System.now().0;
        sleep(STOP);
        stops.push((from, System.now().0));
        signal(roomy.vllm.pid(), "CONT")?;
    }
    calls.finish()?;
    let long = roomy.begin(&place, "long_prompts")?;
    roomy.load(&place, "decoders")?;
    // They are there as long as the decodes.
    drop(long);
    all.add(&matrix(&roomy.close()?, &stops));

    let mut seats = Scene::open(&place, "two-seats", TWO_SEATS)?;
    seats.load(&place, "crowded")?;
    let mut doomed = seats.begin(&place, "doomed")?;
    let (core, _) = seats.engine()?;
    let all_there = |snapshot: &Value| {
        let live = core_of(snapshot, core).and_then(|core| core.get("live"));
        live.and_then(Value::as_u64) >= Some(105)
    };
    let listens = seats.listens;
    doomed.until(60, |_| snapshot(listens).filter(all_there))?;
    signal(core, "KILL")?;
    doomed.finish()?;
    all.add(&matrix(&seats.close()?, &[]));

    let mut blocks = Scene::open(&place, "few-blocks", FEW_BLOCKS)?;
    blocks.load(&place, "big")?;
    all.add(&matrix(&blocks.close()?, &[]));

    println!("{all}");
    all.verify(&["receive", "slow_client", "frontend", "batch_interference", "queue", "error", "kv_pressure"])
}

#[test]
fn a_vllm_of_which_a_process_stands_still_is_wedged_until_it_steps() -> Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let mut scene = Scene::open(&place, "wedged", ROOMY)?;
    let (core, workers) = scene.engine()?;
    let listens = scene.listens;
    let state = |snapshot: &Value| core_of(snapshot, core).and_then(|core| core.get("wedged")).cloned();
    let wedged = |snapshot: &Value| state(snapshot).is_some_and(|state| !state.is_null());
    for pid in std::iter::once(core).chain(workers.first().copied()) {
        let mut load = scene.begin(&place, "calls")?;
        sleep(BETWEEN);
        signal(pid, "STOP")?;
        let stopped = System.now();
        let found = scene.vllm.until(40, |_| snapshot(listens).filter(wedged));
        let found = found?;
        let took = System.now().since(stopped).unwrap_or(u64::MAX) as f64 / 1e9;
        let wedge = state(&found).unwrap_or_default();
        println!("{pid}: wedged after {took:.1} s: {wedge}");
        anyhow::ensure!(took < BY, "found after {took} s");
        let processes = wedge.get("processes").and_then(Value::as_array).into_iter().flatten();
        let stopped = processes.filter(|process| process.get("state").and_then(Value::as_str) == Some("T"));
        anyhow::ensure!(stopped.count() == 1, "{found:#}");
        signal(pid, "CONT")?;
        scene.vllm.until(20, |_| snapshot(listens).filter(|snapshot| !wedged(snapshot)))?;
        load.finish()?;
    }
    anyhow::ensure!(!workers.is_empty(), "this vLLM has no worker");
    Ok(())
}
