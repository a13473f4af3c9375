//! A vLLM that serves in; its loads, and what its clients, it and the agent say of them, out.

use crate::door::Door;
use crate::process::Folder;
use crate::process::Running;
use crate::process::ask;
use crate::process::free_port;
use crate::process::word;
use crate::run::Case;
use crate::run::Ground;
use crate::run::KNOCK;
use crate::run::Place;
use crate::run::Tally;
use crate::run::knock;
use crate::truth::Record;
use crate::truth::counters;
use crate::truth::lines;
use crate::truth::spans;
use agent_tests::standin::Wire;
use agent_tests::standin::certificate;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;
use tachograph::discover::family;
use tachograph::discover::procfs;
use tachograph::ident::Pid;

/// More than a run sends.
pub(crate) const LIMIT: usize = 10_000;

/// A vLLM, beside the receiver of the spans that it makes itself.
pub(crate) struct Server {
    door: Door,
    vllm: Running,
    /// The process that its records name.
    engine: u32,
    loads: u32,
    spans: PathBuf,
    _receiver: Running,
    folder: Folder,
}

/// A load under way, with what was so before.
pub(crate) struct Load {
    drive: Running,
    saw: PathBuf,
    since: i64,
    /// How many it had made.
    spans: usize,
    before: HashMap<String, f64>,
}

impl Server {
    /// Begins to start one.
    pub(crate) fn start(place: &Place, case: &Case) -> Result<Self> {
        let folder = Folder::new(case.name)?;
        let door = match case.wire {
            Wire::Plain => Door::Tcp(free_port()?),
            Wire::Tls => Door::Tls(free_port()?, folder.file("both.pem")),
            Wire::Unix => Door::Unix(folder.file("vllm.sock")),
        };
        if let Door::Tls(_, file) = &door {
            certificate(file)?;
        }
        let spans = folder.file("spans.jsonl");
        let script = Place::script("otlp_receiver.py");
        let receiver = [word(&place.python)?, &script, word(&spans)?];
        let mut receiver = Running::start(&receiver, &[], folder.file("receiver.log"))?;
        let traces = receiver.until(30, |receiver| receiver.log().trim().parse().ok())?;
        let vllm = place.serve(case, &door, case.has_spans.then_some(traces), folder.file("vllm.log"))?;
        let engine = vllm.pid();
        Ok(Self { door, vllm, engine, loads: 0, spans, _receiver: receiver, folder })
    }

    /// Waits until it serves.
    pub(crate) fn until_ready(&mut self) -> Result<()> {
        let door = &self.door;
        self.vllm.until(300, |_| door.ask("GET", "/health", "").ok())?;
        self.engine = started(self.vllm.pid()).context("no vLLM among what was started")?;
        Ok(())
    }

    /// Waits until the agent records its requests.
    pub(crate) fn until_recorded(&self, agent: &mut Running, listens: u16) -> Result<()> {
        agent.until(60, |_| knock(&self.door, listens, self.engine).ok().filter(|&seen| seen)).map(drop)
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        procfs::states(Pid(self.vllm.pid())).iter().map(|(pid, ..)| pid.0).collect()
    }

    /// Begins a load.
    pub(crate) fn begin(&mut self, place: &Place, listens: u16, share: &str) -> Result<Load> {
        settle(listens, self.engine)?;
        let before = counters(&self.door.ask("GET", "/metrics", "")?);
        let (since, spans) = (i64::try_from(System.now().0)?, spans(&self.spans)?.len());
        self.loads += 1;
        let saw = self.folder.file(&format!("saw-{}.jsonl", self.loads));
        let (script, url) = (Place::script("drive.py"), self.door.to_string());
        let command = [word(&place.python)?, &script, &url, word(&saw)?, "--share", share];
        let log = self.folder.file(&format!("drive-{}.log", self.loads));
        let drive = Running::start(&command, &[("PYTHONDONTWRITEBYTECODE", "1")], log)?;
        Ok(Load { drive, saw, since, spans, before })
    }

    /// Waits for the load's end and for what is said of it.
    pub(crate) fn ground(&self, listens: u16, mut load: Load) -> Result<Ground> {
        load.drive.finish().with_context(|| self.vllm.log())?;
        settle(listens, self.engine)?;
        // Spans are sent in batches, some time after the request.
        sleep(Duration::from_secs(6));

        let after = counters(&self.door.ask("GET", "/metrics", "")?);
        let rose = after.iter().map(|(name, value)| (name.clone(), value - load.before.get(name).unwrap_or(&0.0)));
        let snapshot: Value = serde_json::from_str(&ask(listens, "GET", "/api/v1/snapshot", "")?)?;
        let vitals = snapshot.get("vitals").and_then(Value::as_object).context("no vitals in the snapshot")?;
        let own = |record: &Record| {
            let knock = record.params.temperature == Some(KNOCK);
            !knock && record.instants.accepted.is_none_or(|at| at >= load.since)
        };
        Ok(Ground {
            saw: lines(&load.saw)?,
            spans: spans(&self.spans)?.into_iter().skip(load.spans).filter(|span| span.temperature != KNOCK).collect(),
            records: records(listens, self.engine)?.into_iter().filter(own).collect(),
            counters: rose.collect(),
            vitals: vitals.clone().into_iter().collect(),
            checks: if matches!(self.door, Door::Unix(_)) { BTreeMap::new() } else { checks(&snapshot, self.engine)? },
        })
    }
}

/// The process that is vLLM itself: the topmost among those that this one became or started.
fn started(pid: u32) -> Option<u32> {
    let processes = procfs::processes();
    let below = procfs::states(Pid(pid)).into_iter().map(|(pid, ..)| pid);
    let mut all = below.filter(|pid| processes.get(pid).is_some_and(|it| family::starts_vllm(&it.cmdline)));
    all.by_ref().min_by_key(|pid| procfs::lineage(*pid).len()).map(|pid| pid.0)
}

/// What the agent compared of this engine by itself.
fn checks(snapshot: &Value, engine: u32) -> Result<BTreeMap<String, Tally>> {
    let engines = snapshot.get("engines").and_then(Value::as_array).context("no engines in the snapshot")?;
    let own = engines.iter().find(|view| view.pointer("/engine/pid").is_some_and(|pid| *pid == engine));
    let tallies = own.and_then(|view| view.pointer("/checks/tallies")).context("the engine was never asked")?;
    Ok(serde_json::from_value(tallies.clone())?)
}

/// What the agent on this port recorded of this engine; the machine may have others.
pub(crate) fn records(port: u16, engine: u32) -> Result<Vec<Record>> {
    let mut answer: Value = serde_json::from_str(&ask(port, "GET", &format!("/api/v1/requests?limit={LIMIT}"), "")?)?;
    let requests = answer.get_mut("requests").and_then(Value::as_array_mut).context("no requests in the answer")?;
    requests.retain(|request| request.pointer("/target/engine/pid").is_some_and(|pid| *pid == engine));
    serde_json::from_value(std::mem::take(requests).into()).context("the agent's records")
}

/// Waits until the agent's list no longer grows.
fn settle(port: u16, engine: u32) -> Result<()> {
    let mut last = usize::MAX;
    loop {
        let now = records(port, engine)?.len();
        if now == last {
            return Ok(());
        }
        last = now;
        sleep(Duration::from_secs(2));
    }
}
