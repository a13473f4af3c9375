//! A load that outlasts its agents in; what each agent recorded, when it watched, and what was true out.

use crate::account::Entry;
use crate::account::Standing;
use crate::account::account;
use crate::agent;
use crate::agent::Agent;
use crate::experiment;
use crate::gate::Tools;
use crate::http;
use crate::record::Record;
use crate::scratch::Scratch;
use crate::standin::Standin;
use crate::standin::Wire;
use crate::truth;
use crate::truth::Truth;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 1_500;
/// Longer than any record waits for its other side.
const SETTLED: Duration = Duration::from_secs(3);
const RUNNING: &str = "vllm:num_requests_running";

/// The time in which an agent watched, CLOCK_MONOTONIC nanoseconds, and all that it recorded.
#[derive(Debug)]
pub struct Watch {
    /// When it began and when it was told to end.
    pub time: (u64, u64),
    /// Its finished requests as it served them.
    requests: Vec<Value>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The agents, in their order.
    pub watches: Vec<Watch>,
    /// What was true.
    pub truths: Vec<Truth>,
}

impl Outcome {
    /// What each agent recorded of the requests.
    pub fn records(&self) -> Result<Vec<Vec<Record>>> {
        let pids = truth::pids(&self.truths);
        self.watches.iter().map(|watch| agent::of(&pids, &watch.requests)).collect()
    }

    /// What began and ended under one agent has one right record; what was seen in part is marked; what was
    /// not seen at all may be missing. How many requests stand how: right, marked, missing.
    pub fn verify(&self) -> Result<[usize; 3]> {
        let records: Vec<Record> = self.records()?.into_iter().flatten().collect();
        let mut counts = [0; 3];
        for entry in account(&records, &self.truths)? {
            let Entry { truth, standing, .. } = entry;
            let [whole, part] =
                [Watch::saw_all, Watch::saw_some].map(|saw| self.watches.iter().any(|it| saw(it, truth)));
            ensure!(!whole || standing == Standing::Right, "{standing:?}, and it was all seen: {truth:?}");
            ensure!(!part || standing != Standing::Missing, "missing, and it was seen in part: {truth:?}");
            if let Some(count) = counts.get_mut(standing as usize) {
                *count += 1;
            }
        }
        Ok(counts)
    }
}

impl Watch {
    fn saw_all(&self, truth: &Truth) -> bool {
        let (from, until) = self.time;
        truth.instants.accepted.0 >= from && truth.instants.finished.1 < until
    }

    /// Its beginning on the wire, or a step of the engine.
    fn saw_some(&self, truth: &Truth) -> bool {
        let time = self.time.0..self.time.1;
        let stepped = truth.engine.iter().flat_map(|engine| &engine.steps).any(|(at, _)| time.contains(at));
        stepped || time.contains(&truth.instants.accepted.0)
    }
}

/// An agent that starts when so many requests run, and stays to the end.
pub fn late(tools: &Tools, mix: &str, running: f64) -> Result<Outcome> {
    under_load(tools, mix, |scratch, port| {
        for _ in 0..LOOKS {
            if agent::metric(&http::get(port, "/metrics")?, RUNNING)? >= running {
                return Ok((Vec::new(), Agent::start(&tools.agent, scratch, &[])?));
            }
            thread::sleep(EVERY);
        }
        bail!("never {running} requests at a time")
    })
}

/// An agent that ends under load when it has recorded so many requests, and another one after it.
pub fn restarted(tools: &Tools, mix: &str, recorded: usize) -> Result<Outcome> {
    under_load(tools, mix, |scratch, _port| {
        let first = Agent::start(&tools.agent, scratch, &[])?;
        let from = now();
        for _ in 0..LOOKS {
            if first.requests()?.len() >= recorded {
                let until = now();
                let watch = Watch { time: (from, until), requests: first.last_requests()? };
                return Ok((vec![watch], Agent::start(&tools.agent, scratch, &[])?));
            }
            thread::sleep(EVERY);
        }
        bail!("never {recorded} records")
    })
}

/// Repeats a load while `agents` makes agents come and go, and once more under the last one, which stays.
fn under_load(
    tools: &Tools,
    mix: &str,
    agents: impl FnOnce(&Scratch, u16) -> Result<(Vec<Watch>, Agent)>,
) -> Result<Outcome> {
    let _turn = experiment::turn();
    let scratch = Scratch::new(mix)?;
    let mut standin = Standin::start(&tools.python, &scratch, "plain", Wire::Plain)?;
    let port = standin.port();
    let came = AtomicBool::new(false);
    let (mut watches, last, from, seen) = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut seen = 0;
            loop {
                let watched = came.load(Ordering::Acquire);
                seen += standin.load(&scratch, mix, u32::try_from(seen)?)?.len();
                if watched {
                    return anyhow::Ok(seen);
                }
            }
        });
        let came_or_failed = agents(&scratch, port);
        let from = now();
        came.store(true, Ordering::Release);
        let seen = load.join().map_err(|_panic| anyhow!("the load panicked"))??;
        let (watches, last) = came_or_failed?;
        anyhow::Ok((watches, last, from, seen))
    })?;
    let requests = settled(&last)?;
    watches.push(Watch { time: (from, now()), requests });
    last.stop()?;
    let (truths, _) = standin.stop(&scratch, seen)?;
    ensure!(truths.len() == seen, "{} truths of {seen} requests", truths.len());
    Ok(Outcome { watches, truths })
}

/// All finished requests, once no more come.
fn settled(agent: &Agent) -> Result<Vec<Value>> {
    let mut requests = agent.requests()?;
    loop {
        thread::sleep(SETTLED);
        let later = agent.requests()?;
        if later.len() == requests.len() {
            return Ok(later);
        }
        requests = later;
    }
}

fn now() -> u64 {
    System.now().0
}
