//! A scenario and a mix in; what the agent recorded, what the client saw and what was true out.

use crate::agent;
use crate::agent::Agent;
use crate::compare;
use crate::compare::Report;
use crate::gate::Tools;
use crate::losses::Losses;
use crate::python::Python;
use crate::record::Record;
use crate::scratch::Scratch;
use crate::standin::Seen;
use crate::standin::Standin;
use crate::standin::Wire;
use crate::truth;
use crate::truth::Truth;
use anyhow::Result;
use anyhow::ensure;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

const RECORDS: Duration = Duration::from_secs(15);

/// What must not happen where nothing is overloaded.
const LOSSES: [&str; 8] = [
    "tachograph_agent_records_lost_total",
    "tachograph_agent_records_undecoded_total",
    "tachograph_agent_http_undecoded_total",
    "tachograph_agent_engine_lost_total",
    "tachograph_agent_engine_undecoded_total",
    "tachograph_agent_clock_untrusted_total",
    "tachograph_agent_evicted_total",
    "tachograph_agent_updates_dropped_total",
];

/// One at a time: two of them would share the machine's cores and its processes.
static TURN: Mutex<()> = Mutex::new(());

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// A file of `standin/scenarios`.
    pub scenario: &'a str,
    /// A file of `standin/mixes`.
    pub mix: &'a str,
    /// How client and server speak.
    pub wire: Wire,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the agent recorded.
    pub records: Vec<Record>,
    /// What was true.
    pub truths: Vec<Truth>,
    /// What the client saw.
    pub seen: Vec<Seen>,
    /// The agent's metrics when all was over.
    pub metrics: String,
    /// What was lost, where the agent was told to keep it.
    pub losses: Losses,
}

impl Outcome {
    /// Every request that was sent is recorded once, every record is right, and no loss was counted.
    pub fn verify(&self) -> Result<Report> {
        self.verify_but(&[], &[])
    }

    /// The same, but for some fields of some kinds of the mix.
    pub fn verify_but(&self, kinds: &[&str], fields: &[&str]) -> Result<Report> {
        let failed = self.seen.iter().filter(|seen| seen.failed.is_some()).count();
        ensure!(failed == 0, "{failed} requests of the load failed");
        ensure!(self.truths.len() == self.seen.len(), "{} truths of {} requests", self.truths.len(), self.seen.len());
        let mut report = compare::hold(&self.records, &self.truths);
        let loose = self.seen.iter().filter(|seen| kinds.contains(&seen.kind.as_str()));
        for seen in loose {
            let names = fields.iter().map(|field| format!("temperature {}: {field}: ", seen.temperature));
            for name in names {
                report.wrong.retain(|difference| !difference.starts_with(&name));
            }
        }
        report.verify()?;
        for counter in LOSSES {
            let count = agent::metric(&self.metrics, counter)?;
            ensure!(count == 0.0, "{counter} is {count}");
        }
        Ok(report)
    }

    /// The records of one kind of the mix, each with its truth.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Record, &'a Truth)> {
        let truths: BTreeMap<u64, &Truth> =
            self.truths.iter().filter_map(|truth| Some((truth.temperature?.to_bits(), truth))).collect();
        let kinds: BTreeMap<u64, &str> =
            self.seen.iter().map(|seen| (seen.temperature.to_bits(), seen.kind.as_str())).collect();
        self.records.iter().filter_map(move |record| {
            let identity = record.params.temperature?.to_bits();
            (kinds.get(&identity) == Some(&kind)).then_some((record, *truths.get(&identity)?))
        })
    }
}

/// Waits until no other experiment runs in this process.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a plan from its start to its end.
pub fn run(tools: &Tools, plan: Plan<'_>) -> Result<Outcome> {
    run_with(tools, plan, &[])
}

/// The same, with further settings of the agent (`TACHOGRAPH_*`).
pub fn run_with(tools: &Tools, plan: Plan<'_>, settings: &[(&str, &str)]) -> Result<Outcome> {
    let _turn = turn();
    let scratch = Scratch::new(plan.mix)?;
    let mut standin = Standin::start(&tools.python, &scratch, plan.scenario, plan.wire)?;
    let agent = Agent::start(&tools.agent, &scratch, settings)?;
    let seen = standin.load(&scratch, plan.mix, 0)?;
    agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;
    let requests = agent.requests()?;
    let metrics = agent.metrics()?;
    let losses = Losses::of(agent.pid())?;
    agent.stop()?;
    let truths = stop(standin, &scratch, seen.len())?;
    let records = agent::of(&truth::pids(&truths), &requests)?;
    Ok(Outcome { records, truths, seen, metrics, losses })
}

/// Runs a plan without an agent: what the client saw, and what was true.
pub fn rehearse(python: &Python, plan: Plan<'_>) -> Result<(Vec<Seen>, Vec<Truth>)> {
    let _turn = turn();
    let scratch = Scratch::new(plan.mix)?;
    let mut standin = Standin::start(python, &scratch, plan.scenario, plan.wire)?;
    let seen = standin.load(&scratch, plan.mix, 0)?;
    let truths = stop(standin, &scratch, seen.len())?;
    Ok((seen, truths))
}

/// Ends a stand-in once it has told the truth of as many requests.
pub fn stop(standin: Standin, scratch: &Scratch, requests: usize) -> Result<Vec<Truth>> {
    let (truths, widths) = standin.stop(scratch, requests)?;
    #[expect(clippy::print_stdout, reason = "the widths of the brackets are part of the result")]
    {
        println!("{widths}");
    }
    Ok(truths)
}
