//! Stand-in engines that come and go in; what one agent, which stays, recorded of each of them out.

use crate::agent::Agent;
use crate::agent::traced;
use crate::container::Container;
use crate::experiment;
use crate::experiment::Outcome;
use crate::gate::Tools;
use crate::held::Held;
use crate::losses::Losses;
use crate::python::Python;
use crate::record::Record;
use crate::scratch::Scratch;
use crate::standin::Birth;
use crate::standin::Load;
use crate::standin::Seen;
use crate::standin::Standin;
use crate::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::MutexGuard;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const RECORDS: Duration = Duration::from_secs(15);
/// The kernel lets go of probes one grace period after another.
const LETS_GO: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(100);
/// More than the outputs that may be on their way when an engine is killed.
const MESSAGES: u64 = 20;

/// An agent that was there first.
#[derive(Debug)]
pub struct Stage {
    /// The agent.
    pub agent: Agent,
    python: Python,
    /// The ids of all processes that were on it.
    pids: BTreeSet<u64>,
    _scratch: Scratch,
    _turn: MutexGuard<'static, ()>,
}

/// A stand-in engine on it, with all its processes.
#[derive(Debug)]
pub struct Player {
    /// The engine.
    pub standin: Standin,
    /// The process that serves HTTP and the engine core.
    pub pids: [u64; 2],
    /// Before its start, CLOCK_MONOTONIC nanoseconds.
    entered: u64,
    scratch: Scratch,
}

impl Stage {
    /// Starts the agent.
    pub fn open(tools: &Tools) -> Result<Self> {
        Self::open_with(tools, &[])
    }

    /// The same, with further settings of the agent (`TACHOGRAPH_*`).
    pub fn open_with(tools: &Tools, settings: &[(&str, &str)]) -> Result<Self> {
        let turn = experiment::turn();
        let scratch = Scratch::new("stage")?;
        let agent = Agent::start(&tools.agent, &scratch, settings)?;
        Ok(Self { agent, python: tools.python.clone(), pids: BTreeSet::new(), _scratch: scratch, _turn: turn })
    }

    /// A stand-in enters, and is traced when this returns.
    pub fn enter(&mut self, birth: Birth, scenario: &str, wire: Wire) -> Result<Player> {
        let (scratch, entered) = (Scratch::new(scenario)?, System.now().0);
        let standin = Standin::born(birth, &self.python, &scratch, scenario, wire)?;
        let player = self.entered(standin, entered, scratch)?;
        self.until_traced(&player)?;
        Ok(player)
    }

    /// As [`Stage::enter`], in a container.
    pub fn enter_in(&mut self, container: &Container<'_>, scenario: &str, wire: Wire) -> Result<Player> {
        let player = self.serves_in(container, scenario, wire)?;
        self.until_traced(&player)?;
        Ok(player)
    }

    /// A stand-in in a container serves when this returns; nobody waits for the agent.
    pub fn serves_in(&mut self, container: &Container<'_>, scenario: &str, wire: Wire) -> Result<Player> {
        let (scratch, entered) = (Scratch::new(scenario)?, System.now().0);
        let standin = Standin::contained(container, &self.python, &scratch, scenario, wire)?;
        self.entered(standin, entered, scratch)
    }

    fn entered(&mut self, standin: Standin, entered: u64, scratch: Scratch) -> Result<Player> {
        let pids: [u64; 2] = standin.pids().try_into().map_err(|pids| anyhow!("one engine has {pids:?}"))?;
        self.pids.extend(pids);
        Ok(Player { standin, pids, entered, scratch })
    }

    fn until_traced(&self, player: &Player) -> Result<()> {
        self.agent.until(|snapshot| player.pids.iter().all(|pid| traced(snapshot).contains(pid)))
    }

    /// When the agent says that a stand-in's engine began, in ticks.
    pub fn start_of(&self, player: &Player) -> Result<u64> {
        let snapshot = self.agent.snapshot()?;
        let targets = snapshot.get("targets").and_then(Value::as_array);
        let engines = targets.into_iter().flatten().filter_map(|target| target.get("engine"));
        let number = |engine: &Value, key| engine.get(key).and_then(Value::as_u64);
        let mut ours = engines.filter(|engine| number(engine, "pid") == Some(player.pids[0]));
        ours.next().and_then(|engine| number(engine, "start_ticks")).context("the engine is not traced")
    }

    /// Waits until an engine has so many requests under way, of which so many run, and has said something of them.
    pub fn until_under_way(&self, player: &Player, requests: u64, running: u64) -> Result<()> {
        let messages = |snapshot: &Value| snapshot.pointer("/vitals/engine_messages").and_then(Value::as_u64);
        self.agent.until(|snapshot| {
            let cores = snapshot.get("cores").and_then(Value::as_array);
            let number = |core: &Value, at| core.pointer(at).and_then(Value::as_u64);
            let core = cores.into_iter().flatten().find(|core| number(core, "/pid") == Some(player.pids[1]));
            core.is_some_and(|core| {
                number(core, "/live") == Some(requests) && number(core, "/load/running") == Some(running)
            })
        })?;
        let before = messages(&self.agent.snapshot()?).unwrap_or(0);
        self.agent.until(|snapshot| messages(snapshot) >= Some(before + MESSAGES))
    }

    /// A stand-in leaves, orderly; what was recorded of its requests.
    pub fn leave(&self, player: Player, seen: Vec<Seen>) -> Result<Outcome> {
        self.until_recorded(&player, seen.len())?;
        let (metrics, snapshot) = (self.agent.metrics()?, self.agent.snapshot()?);
        let losses = Losses::of(self.agent.pid())?;
        let truths = experiment::stop(player.standin, &player.scratch, seen.len())?;
        let records = self.records(player.pids, player.entered)?;
        Ok(Outcome { records, truths, seen, metrics, snapshot, losses })
    }

    /// Waits until there are as many records of a stand-in.
    pub fn until_recorded(&self, player: &Player, count: usize) -> Result<()> {
        until(RECORDS, || {
            let records = self.records(player.pids, player.entered)?;
            Ok((records.len() >= count).then_some(()).ok_or(format!("{} records of {count}", records.len())))
        })
    }

    /// The records of some processes since an instant: who had their ids before has records of its own.
    fn records(&self, pids: [u64; 2], since: u64) -> Result<Vec<Record>> {
        let mut records = self.agent.records(&pids)?;
        records.retain(|record| record.instants.finished.is_some_and(|at| at >= since));
        Ok(records)
    }

    /// Waits until nobody who was here is traced, and nothing is held of them.
    pub fn until_empty(&self) -> Result<()> {
        self.until_forgotten(&self.pids)
    }

    /// Waits until none of these is traced, nothing is held of them, and where nobody is traced no probe.
    pub fn until_forgotten(&self, pids: &BTreeSet<u64>) -> Result<()> {
        until(LETS_GO, || {
            let traced = traced(&self.agent.snapshot()?);
            let held = Held::by(self.agent.pid())?;
            let known = held.entries.iter().any(|(pid, _)| pids.contains(&u64::from(*pid)));
            let probed = traced.is_empty() && held.probes > 0;
            let wrong = known || probed || !traced.is_disjoint(pids);
            Ok(if wrong { Err(format!("of {pids:?}: {traced:?} are traced, {held:?}")) } else { Ok(()) })
        })
    }
}

/// Waits until nothing is wrong any more; what still is where that takes too long.
pub(crate) fn until(within: Duration, wrong: impl Fn() -> Result<Result<(), String>>) -> Result<()> {
    let deadline = System.now().plus(within);
    while let Err(what) = wrong()? {
        ensure!(System.now() < deadline, "{what}");
        std::thread::sleep(EVERY);
    }
    Ok(())
}

impl Player {
    /// Begins a load.
    pub fn begin(&mut self, mix: &str) -> Result<Load> {
        self.standin.begin(&self.scratch, mix, 0)
    }

    /// Runs a load from its start to its end.
    pub fn load(&mut self, mix: &str) -> Result<Vec<Seen>> {
        self.begin(mix)?.finish()
    }
}
