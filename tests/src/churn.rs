//! An agent and a number of engines in, which come, serve one request and leave, several at a time; what the agent
//! recorded of each, and what it holds before and after, out.

use crate::account::Standing;
use crate::account::account;
use crate::agent::Agent;
use crate::held::Held;
use crate::held::descriptors;
use crate::held::is_probe;
use crate::held::map_id;
use crate::http;
use crate::python::Python;
use crate::scratch::Scratch;
use crate::stage::until;
use crate::standin::Standin;
use crate::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

const RECORDED: Duration = Duration::from_secs(20);
/// The kernel lets go of probes one grace period after another, and a connection to the agent ends some time later.
const LETS_GO: Duration = Duration::from_mins(1);
const ASK: &str = r#"{"model": "standin", "temperature": 0.5, "max_tokens": 3, "stream": true,
    "messages": [{"role": "user", "content": "who goes there"}]}"#;

/// What an agent holds, whomever it traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burden {
    /// File descriptors, but for those of probes.
    pub descriptors: usize,
    /// Maps of the kernel side.
    pub maps: usize,
    /// Threads.
    pub threads: usize,
}

impl Burden {
    /// As it is now.
    pub fn of(agent: &Agent) -> Result<Self> {
        let held = descriptors(agent.pid())?;
        let threads = std::fs::read_dir(format!("/proc/{}/task", agent.pid()))?.count();
        let maps: BTreeSet<u32> = held.iter().filter_map(|text| map_id(text)).collect();
        let descriptors = held.iter().filter(|text| !is_probe(text)).count();
        Ok(Self { descriptors, maps: maps.len(), threads })
    }

    /// Waits until an agent holds as much as this, and nothing of engines that were there: no probe, no entry in a
    /// table, no series.
    pub fn until_again(self, agent: &Agent, gone: &BTreeSet<u64>) -> Result<()> {
        until(LETS_GO, || {
            let (held, burden, page) = (Held::by(agent.pid())?, Self::of(agent)?, agent.metrics()?);
            let entries = held.entries.iter().filter(|(pid, _)| gone.contains(&u64::from(*pid)));
            let named = |line: &&str| gone.iter().any(|pid| line.contains(&format!("\"{pid}\"")));
            let (entries, series): (Vec<_>, Vec<_>) = (entries.collect(), page.lines().filter(named).collect());
            let clean = burden == self && entries.is_empty() && series.is_empty();
            Ok(clean.then_some(()).ok_or_else(|| format!("{burden:?}, not {self:?}; {entries:?}; {series:?}")))
        })
    }
}

/// Bytes of an agent in memory.
pub fn resident_bytes(agent: &Agent) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

/// Lets so many engines come and go, a few at a time, and gives their processes. Each must be recorded from its first
/// request on.
pub fn engines(agent: &Agent, python: &Python, count: usize, at_once: usize) -> Result<BTreeSet<u64>> {
    let next = AtomicUsize::new(0);
    let visit = || {
        let turns = std::iter::from_fn(|| (next.fetch_add(1, Ordering::Relaxed) < count).then_some(()));
        turns.map(|()| engine(agent, python)).collect::<Result<Vec<_>>>()
    };
    std::thread::scope(|scope| {
        let visits: Vec<_> = std::iter::repeat_with(|| scope.spawn(visit)).take(at_once).collect();
        let pids = visits.into_iter().map(|visit| visit.join().map_err(|_panic| anyhow!("a visit panicked"))?);
        Ok(pids.collect::<Result<Vec<_>>>()?.into_iter().flatten().flatten().collect())
    })
}

/// One engine, from its start to its end; nobody waits for the agent.
fn engine(agent: &Agent, python: &Python) -> Result<Vec<u64>> {
    let scratch = Scratch::new("churn")?;
    let standin = Standin::start(python, &scratch, "loading", Wire::Plain)?;
    http::say(standin.port(), "/v1/chat/completions", ASK)?;
    let pids = standin.pids();
    let records = agent.records_when(&pids, 1, RECORDED)?;
    let (truths, _) = standin.stop(&scratch, 1)?;
    let accounts = account(&records, &truths)?;
    let right = accounts.len() == 1 && accounts.iter().all(|entry| entry.standing == Standing::Right);
    ensure!(right, "of the first request: {accounts:?}");
    Ok(pids)
}
