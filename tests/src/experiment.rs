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
use anyhow::anyhow;
use anyhow::ensure;
use serde_json::Value;
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
    /// Its `/api/v1/snapshot` then.
    pub snapshot: Value,
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
        let report = self.right_but(kinds, fields)?;
        self.lossless_but(&[])?;
        Ok(report)
    }

    /// Every request that was sent is recorded once, and every record is right, but for some fields of some kinds.
    pub fn right_but(&self, kinds: &[&str], fields: &[&str]) -> Result<Report> {
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
        Ok(report)
    }

    /// No loss was counted but those that had to be.
    pub fn lossless_but(&self, known: &[(&str, u64)]) -> Result<()> {
        for counter in LOSSES {
            let count = agent::count(&self.metrics, counter)?;
            let due = known.iter().find(|(name, _)| *name == counter).map_or(0, |(_, count)| *count);
            ensure!(count == due, "{counter} is {count} instead of {due}");
        }
        Ok(())
    }

    /// Takes out what concerns callers with such an X-Request-Id.
    pub fn take(&mut self, fits: impl Fn(&str) -> bool) -> (Vec<Record>, Vec<Truth>) {
        let theirs = |id: &Option<String>| id.as_deref().is_some_and(&fits);
        let records = self.records.extract_if(.., |record| theirs(&record.x_request_id)).collect();
        (records, self.truths.extract_if(.., |truth| theirs(&truth.x_request_id)).collect())
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
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests of guests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guests {
    /// That the agent records.
    pub records: usize,
    /// That the stand-in knows of.
    pub truths: usize,
}

/// Runs a plan from its start to its end.
pub fn run(tools: &Tools, plan: Plan<'_>) -> Result<Outcome> {
    run_with(tools, plan, &[])
}

/// The same, with further settings of the agent (`TACHOGRAPH_*`).
pub fn run_with(tools: &Tools, plan: Plan<'_>, settings: &[(&str, &str)]) -> Result<Outcome> {
    conduct(tools, plan, |_| Ok(()), settings, |_, _| Ok(Guests::default()))
}

/// The same; `before` is called when the stand-in runs and the agent does not yet.
pub fn run_after(
    tools: &Tools,
    plan: Plan<'_>,
    before: impl FnOnce(&Standin) -> Result<()>,
    settings: &[(&str, &str)],
) -> Result<Outcome> {
    conduct(tools, plan, before, settings, |_, _| Ok(Guests::default()))
}

/// As [`run`], with guests who come to the server's port while the load runs, again and again until they have gone.
pub fn visited(
    tools: &Tools,
    plan: Plan<'_>,
    visits: impl FnOnce(u16, &Agent) -> Result<Guests> + Send,
) -> Result<Outcome> {
    conduct(tools, plan, |_| Ok(()), &[], visits)
}

fn conduct(
    tools: &Tools,
    plan: Plan<'_>,
    before: impl FnOnce(&Standin) -> Result<()>,
    settings: &[(&str, &str)],
    visits: impl FnOnce(u16, &Agent) -> Result<Guests> + Send,
) -> Result<Outcome> {
    let _turn = turn();
    let scratch = Scratch::new(plan.mix)?;
    let mut standin = Standin::start(&tools.python, &scratch, plan.scenario, plan.wire)?;
    before(&standin)?;
    let agent = Agent::start(&tools.agent, &scratch, settings)?;
    let port = standin.port();
    let (seen, guests) = std::thread::scope(|scope| {
        let visiting = scope.spawn(|| visits(port, &agent));
        let mut load = || -> Result<Vec<Seen>> {
            let mut seen = Vec::new();
            while seen.is_empty() || !visiting.is_finished() {
                seen.extend(standin.load(&scratch, plan.mix, u32::try_from(seen.len())?)?);
            }
            Ok(seen)
        };
        (load(), visiting.join().unwrap_or_else(|_| Err(anyhow!("the guests panicked"))))
    });
    let (seen, guests) = (seen?, guests?);
    agent.records_when(&[standin.pid()], seen.len() + guests.records, RECORDS)?;
    let requests = agent.requests()?;
    let metrics = agent.metrics()?;
    let snapshot = agent.snapshot()?;
    let losses = Losses::of(agent.pid())?;
    let words = agent.stop()?;
    ensure!(!words.contains("panicked"), "{words}");
    let truths = stop(standin, &scratch, seen.len() + guests.truths)?;
    let records = agent::of(&truth::pids(&truths), &requests)?;
    Ok(Outcome { records, truths, seen, metrics, snapshot, losses })
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
