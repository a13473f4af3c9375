//! A scenario and objectives in; loads and troubles take their course; out comes what each request missed in truth
//! and which cause the agent gave it.

use crate::agent;
use crate::agent::Agent;
use crate::experiment;
use crate::gate::Tools;
use crate::http;
use crate::nvml::Gpu;
use crate::process::signal;
use crate::record::Record;
use crate::scratch::Scratch;
use crate::standin::Load;
use crate::standin::Seen;
use crate::standin::Standin;
use crate::standin::Wire;
use crate::truth;
use crate::truth::Truth;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const RECORDS: Duration = Duration::from_secs(30);
/// No load has as many requests, so every request of a trial has a number of its own.
const NUMBERS: u32 = 10_000;
/// A truth that is this near to a limit is neither above nor below it.
const NEAR: f64 = 0.03;

/// The limits of a trial, seconds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time to first token.
    pub ttft: f64,
    /// Time for each token after the first.
    pub tpot: f64,
    /// Duration.
    pub duration: f64,
}

impl Limits {
    /// As settings of the agent.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("TACHOGRAPH_SLO_TTFT_SECONDS", self.ttft.to_string()),
            ("TACHOGRAPH_SLO_TPOT_SECONDS", self.tpot.to_string()),
            ("TACHOGRAPH_SLO_DURATION_SECONDS", self.duration.to_string()),
        ]
    }

    /// Whether a request missed one of them in truth; `None` where that is too near to say.
    fn missed(&self, truth: &Truth) -> Option<bool> {
        if truth.error {
            return Some(true);
        }
        let since = |at: u64| at.saturating_sub(truth.instants.accepted.0) as f64 / 1e9;
        let each = truth.engine.iter().filter_map(|one| {
            let gaps = one.delivered_tokens.checked_sub(1).filter(|gaps| *gaps > 0)?;
            Some(one.last_output()?.saturating_sub(one.first_output()?) as f64 / 1e9 / gaps as f64)
        });
        let shares = [
            truth.instants.first_content.map(|at| since(at.0) / self.ttft),
            each.reduce(f64::max).map(|tpot| tpot / self.tpot),
            Some(since(truth.instants.finished.0) / self.duration),
        ];
        let most = shares.into_iter().flatten().fold(0.0, f64::max);
        ((most - 1.0).abs() > NEAR).then_some(most > 1.0)
    }
}

/// One request of a trial.
#[derive(Debug)]
pub struct Case {
    /// Its kind in the mix.
    pub kind: String,
    /// The truth.
    pub truth: Truth,
    /// What the agent made of it.
    pub record: Record,
    /// Whether it missed an objective in truth; `None` where that is too near to say.
    pub missed: Option<bool>,
}

/// A stand-in, an agent, and what has happened so far.
#[derive(Debug)]
pub struct Trial {
    /// The agent.
    pub agent: Agent,
    /// The GPU that its engine core computes on.
    pub gpu: Gpu,
    standin: Standin,
    scratch: Scratch,
    limits: Limits,
    loads: u32,
    seen: Vec<Seen>,
    _turn: MutexGuard<'static, ()>,
}

impl Trial {
    /// Starts both.
    pub fn open(tools: &Tools, scenario: &str, limits: Limits) -> Result<Self> {
        let turn = experiment::turn();
        let scratch = Scratch::new("trial")?;
        let standin = Standin::start(&tools.python, &scratch, scenario, Wire::Plain)?;
        let gpu = Gpu::install(&scratch, standin.pid())?;
        let limits_set = limits.settings();
        let settings = limits_set.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<(&str, &str)> = settings.chain([gpu.setting()]).collect();
        let agent = Agent::start(&tools.agent, &scratch, &settings)?;
        Ok(Self { agent, gpu, standin, scratch, limits, loads: 0, seen: Vec::new(), _turn: turn })
    }

    /// The process that serves HTTP, and the engine core.
    pub fn pids(&self) -> Result<(u32, u32)> {
        let pids = self.standin.pids();
        let pid = |at: usize| pids.get(at).copied().context("the stand-in has two processes");
        Ok((u32::try_from(pid(0)?)?, u32::try_from(pid(1)?)?))
    }

    /// Asks the stand-in for something that is no inference.
    pub fn post(&self, path: &str) -> Result<()> {
        http::post(self.standin.port(), path).map(drop)
    }

    /// Begins a load.
    pub fn begin(&mut self, mix: &str) -> Result<Load> {
        self.loads += 1;
        self.standin.begin(&self.scratch, mix, self.loads * NUMBERS)
    }

    /// Waits for its end.
    pub fn finish(&mut self, load: Load) -> Result<()> {
        self.seen.extend(load.finish()?);
        Ok(())
    }

    /// A load from its start to its end.
    pub fn load(&mut self, mix: &str) -> Result<()> {
        let load = self.begin(mix)?;
        self.finish(load)
    }

    /// Stops the process that serves HTTP for a while; from when to when it stood still at least.
    pub fn stop_front_end(&self, for_: Duration) -> Result<(u64, u64)> {
        let (front, _) = self.pids()?;
        signal(front, "STOP")?;
        let from = System.now().0;
        std::thread::sleep(for_);
        let to = System.now().0;
        signal(front, "CONT")?;
        Ok((from, to))
    }

    /// Throttles the GPU for a while, and with it the engine; from when to when that was so at most.
    pub fn throttle(&mut self, for_: Duration) -> Result<(u64, u64)> {
        let from = System.now().0;
        self.gpu.throttle(true)?;
        self.post("/throttle")?;
        std::thread::sleep(for_);
        self.post("/unthrottle")?;
        self.gpu.throttle(false)?;
        Ok((from, System.now().0))
    }

    /// Ends all; every request with its truth and its record.
    pub fn close(self) -> Result<Vec<Case>> {
        let Self { agent, standin, scratch, limits, seen, .. } = self;
        agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;
        let requests = agent.requests()?;
        agent.stop()?;
        let truths = experiment::stop(standin, &scratch, seen.len())?;
        let records = agent::of(&truth::pids(&truths), &requests)?;
        let mut records: BTreeMap<u64, Record> =
            records.into_iter().filter_map(|record| Some((record.params.temperature?.to_bits(), record))).collect();
        let kinds: BTreeMap<u64, String> =
            seen.into_iter().map(|seen| (seen.temperature.to_bits(), seen.kind)).collect();
        let case = |truth: Truth| {
            let identity = truth.temperature.context("a truth without identity")?.to_bits();
            let record = records.remove(&identity).context("a request without a record")?;
            let kind = kinds.get(&identity).context("a request that nobody sent")?.clone();
            Ok(Case { kind, missed: limits.missed(&truth), truth, record })
        };
        truths.into_iter().map(case).collect()
    }
}
