//! What is heard of engine cores in; which of them have work, should have stepped, and have not, out.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::correlate::devices::Errors;
use crate::correlate::usual::Part;
use crate::correlate::usual::Spent;
use crate::correlate::usual::Usual;
use crate::ident::Pid;
use crate::request::Request;
use crate::request::Steps;
use serde::Serialize;
use std::collections::BTreeMap;

/// No engine is wedged sooner.
pub const LEAST_NS: u64 = 10_000_000_000;
/// How many usual steps may pass without one.
const STEPS: u64 = 10;
/// How many times the usual the longest prompt may take.
const PREFILLS: u64 = 3;
/// For each token of a prompt on an engine that has answered none yet: generous, for a processor.
const UNKNOWN_TOKEN_NS: u64 = 10_000_000;
/// Silence after which it is worth looking at an engine's processes.
const SUSPECT_NS: u64 = 2_000_000_000;

/// A process of an engine core as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The process.
    pub pid: Pid,
    /// Its name.
    pub name: String,
    /// `R` runs, `S` waits, `D` waits for hardware, `T` is stopped, `Z` has died.
    pub state: char,
}

impl Process {
    /// It does nothing, whatever it had to do.
    fn is_still(&self) -> bool {
        matches!(self.state, 'T' | 't' | 'Z' | 'X')
    }
}

/// An engine core that has work and does nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wedged {
    /// Since when: its last step, or the first request after it.
    pub since: MonoNs,
    /// Age of its last step when this was last looked at, seconds.
    pub last_step_age_seconds: Option<f64>,
    /// The usual time from one step to the next, seconds.
    pub usual_step_seconds: Option<f64>,
    /// The core and its workers when they were last looked at.
    pub processes: Vec<Process>,
    /// Critical errors that its GPUs have had since the agent started.
    pub gpu_errors: Vec<Errors>,
}

/// An engine core began or ceased to be wedged.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The engine core process.
    pub core: Pid,
    /// How it is; `None` when it steps again.
    pub wedged: Option<Wedged>,
}

/// All engine cores. What is kept for each is bounded; there are as many as its owner tells of.
#[derive(Debug, Default)]
pub struct Watch {
    cores: BTreeMap<Pid, Core>,
}

#[derive(Debug, Default)]
struct Core {
    steps: Steps,
    /// What prompts took.
    usual: Usual,
    processes: Vec<Process>,
    wedged: Option<Wedged>,
    /// Whether it has recovered and nobody was told yet.
    recovered: bool,
}

impl Watch {
    /// A core as a tick found it.
    pub fn heard(&mut self, core: Pid, steps: Steps) {
        let core = self.cores.entry(core).or_default();
        let stepped = core.steps.last != steps.last;
        core.steps = steps;
        if stepped || steps.asleep_since.is_some() {
            core.processes.clear();
            core.recovered |= core.wedged.take().is_some();
        }
    }

    /// What a finished request says of its core's prefill.
    pub fn ended(&mut self, request: &Request) {
        for engine in &request.engine_requests {
            let tokens = engine.prompt_tokens.map(|all| all.saturating_sub(engine.cached_tokens.unwrap_or(0)));
            let (_, prefill, _) = engine.phases();
            if let (Some(core), Some(ns), Some(tokens)) = (self.cores.get_mut(&engine.engine), prefill, tokens) {
                core.usual.learn(&Spent { part: Part::Prefill, ns, tokens });
            }
        }
    }

    /// A core is no longer traced.
    pub fn gone(&mut self, core: Pid) {
        self.cores.remove(&core);
    }

    /// The cores whose processes are worth a look. `asked_since` is since when a core's front ends have had
    /// requests without a break.
    pub fn suspects(&self, now: MonoNs, asked_since: impl Fn(Pid) -> Option<MonoNs>) -> Vec<Pid> {
        let silent = |pid: Pid, core: &Core| {
            let work = [core.steps.work_since, asked_since(pid)].into_iter().flatten().min();
            work.and_then(|work| core.silence_ns(now, work)).is_some_and(|ns| ns >= SUSPECT_NS)
        };
        self.cores.iter().filter(|(pid, core)| silent(**pid, core)).map(|(pid, _)| *pid).collect()
    }

    /// A core and its workers, looked at just now.
    pub fn seen(&mut self, core: Pid, processes: Vec<Process>) {
        if let Some(core) = self.cores.get_mut(&core) {
            core.processes = processes;
        }
    }

    /// Decides who is wedged now; what changed since the last look.
    pub fn look(
        &mut self,
        now: MonoNs,
        asked_since: impl Fn(Pid) -> Option<MonoNs>,
        gpu_errors: impl Fn(Pid) -> Vec<Errors>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (pid, core) in &mut self.cores {
            if std::mem::take(&mut core.recovered) {
                changes.push(Change { core: *pid, wedged: None });
            }
            // Until it steps it stays so, even when its callers have given up.
            let before = core.wedged.as_ref().map(|wedged| wedged.since);
            let Some(since) = before.or_else(|| core.stuck_since(now, asked_since(*pid))) else { continue };
            let wedged = Wedged {
                since,
                last_step_age_seconds: core.steps.last.and_then(|last| now.since(last)).map(seconds),
                usual_step_seconds: core.steps.usual_ns.map(seconds),
                processes: core.processes.clone(),
                gpu_errors: gpu_errors(*pid),
            };
            if before.is_none() {
                changes.push(Change { core: *pid, wedged: Some(wedged.clone()) });
            }
            core.wedged = Some(wedged);
        }
        changes
    }

    /// How a core is, where it is wedged.
    pub fn wedged(&self, core: Pid) -> Option<&Wedged> {
        self.cores.get(&core)?.wedged.as_ref()
    }
}

impl Core {
    /// How long it has not stepped while it had work since then; `None` for one that sleeps.
    fn silence_ns(&self, now: MonoNs, work: MonoNs) -> Option<u64> {
        if self.steps.asleep_since.is_some() {
            return None;
        }
        now.since(self.steps.last.map_or(work, |last| last.max(work)))
    }

    /// Since when it is stuck, if it is. A process that is stopped reads no request either, so there the
    /// callers' word counts, and no prompt is an excuse.
    fn stuck_since(&self, now: MonoNs, asked_since: Option<MonoNs>) -> Option<MonoNs> {
        let still = self.processes.iter().any(Process::is_still);
        let asked = asked_since.filter(|_| still);
        let work = [self.steps.work_since, asked].into_iter().flatten().min()?;
        let silence = self.silence_ns(now, work)?;
        let steps = self.steps.usual_ns.unwrap_or(0).saturating_mul(STEPS);
        let prompt = if still { 0 } else { self.prompt_ns() };
        (silence >= LEAST_NS.max(steps).max(prompt)).then(|| MonoNs(now.0 - silence))
    }

    /// How long the longest prompt may take in one step.
    fn prompt_ns(&self) -> u64 {
        let tokens = self.steps.longest_prompt;
        let usual = self.usual.of(Part::Prefill, tokens).unwrap_or(tokens.saturating_mul(UNKNOWN_TOKEN_NS));
        usual.saturating_mul(PREFILLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::streamed;

    const CORE: Pid = Pid(42);

    fn s(seconds: u64) -> MonoNs {
        MonoNs(seconds * 1_000_000_000)
    }

    /// Its last step at 100 s, 20 ms a step, work since 90 s.
    const BUSY: Steps = Steps {
        last: Some(MonoNs(100_000_000_000)),
        usual_ns: Some(20_000_000),
        work_since: Some(MonoNs(90_000_000_000)),
        longest_prompt: 0,
        asleep_since: None,
    };

    fn watch(steps: Steps, states: &str) -> Watch {
        let mut watch = Watch::default();
        watch.heard(CORE, steps);
        let process = |(at, state)| Process { pid: Pid(42 + at), name: "VLLM::Worker".to_owned(), state };
        watch.seen(CORE, (0_u32..).zip(states.chars()).map(process).collect());
        watch
    }

    /// The first second at which it is found wedged, up to 200 s.
    fn found(mut watch: Watch, asked_since: Option<MonoNs>) -> Option<u64> {
        (100..200).find(|second| {
            watch.look(s(*second), |_| asked_since, |_| Vec::new());
            watch.wedged(CORE).is_some()
        })
    }

    #[test]
    fn an_engine_that_has_work_and_does_not_step_is_wedged() {
        let idle = Steps { work_since: None, ..BUSY };
        let slow = Steps { usual_ns: Some(3_000_000_000), ..BUSY };
        let fresh = Steps { last: None, usual_ns: None, work_since: Some(s(100)), ..BUSY };
        let late = Steps { work_since: Some(s(150)), ..BUSY };
        let asleep = Steps { asleep_since: Some(s(95)), ..BUSY };
        for (name, steps, states, asked, expected) in [
            ("busy", BUSY, "RS", None, Some(110)),
            ("idle", idle, "SS", None, None),
            ("idle with callers", idle, "SS", Some(s(100)), None),
            ("stopped, and idle until then", idle, "TS", Some(s(105)), Some(115)),
            ("stopped and without callers", idle, "TS", None, None),
            ("ten slow steps", slow, "RR", None, Some(130)),
            ("never stepped", fresh, "RR", None, Some(110)),
            ("idle for long, then asked", late, "RR", None, Some(160)),
            ("asleep", asleep, "SS", Some(s(100)), None),
            ("stopped asleep", asleep, "TS", Some(s(100)), None),
        ] {
            assert_eq!(found(watch(steps, states), asked), expected, "{name}");
        }
    }

    #[test]
    fn a_long_prompt_is_no_wedge_unless_a_process_stands_still() {
        let long = |tokens| Steps { longest_prompt: tokens, ..BUSY };
        assert_eq!(found(watch(long(2_000), "RR"), None), Some(160), "3 · 2000 · 10 ms where no pace is known");
        assert_eq!(found(watch(long(2_000), "RT"), None), Some(110));
        let mut learned = watch(long(2_000), "RR");
        // 8 uncached tokens in 100 ms.
        (0..5).for_each(|serial| learned.ended(&streamed(serial)));
        let after = found(learned, None).unwrap() - 100;
        assert!((70..=80).contains(&after), "{after} s, for 3 · 2000 · 12.5 ms");
        assert_eq!(found(watch(long(100), "RR"), None), Some(110));
    }

    #[test]
    fn it_is_told_once_and_ends_with_the_next_step() {
        let mut watch = watch(BUSY, "ST");
        let look = |watch: &mut Watch, second| {
            let changes = watch.look(s(second), |_| None, |_| Vec::new());
            changes.into_iter().map(|change| change.wedged.map(|wedged| wedged.since)).collect::<Vec<_>>()
        };
        assert_eq!(look(&mut watch, 109), []);
        assert_eq!(look(&mut watch, 110), [Some(s(100))]);
        assert_eq!(look(&mut watch, 115), []);
        watch.heard(CORE, Steps { work_since: None, ..BUSY });
        assert_eq!(look(&mut watch, 116), [], "its callers have left, it has not moved");
        let wedged = watch.wedged(CORE).unwrap();
        assert_eq!((wedged.last_step_age_seconds, wedged.processes.len()), (Some(16.0), 2));
        watch.heard(CORE, Steps { last: Some(s(117)), ..BUSY });
        assert_eq!(watch.wedged(CORE), None);
        assert_eq!(look(&mut watch, 118), [None]);
        assert_eq!(look(&mut watch, 119), []);
    }

    #[test]
    fn silence_makes_a_suspect_before_it_makes_a_wedge() {
        let suspects = |steps, asked: Option<u64>, now| watch(steps, "").suspects(s(now), |_| asked.map(s));
        let idle = Steps { work_since: None, ..BUSY };
        assert_eq!(suspects(BUSY, None, 101), []);
        assert_eq!(suspects(BUSY, None, 102), [CORE]);
        assert_eq!(suspects(idle, None, 200), []);
        assert_eq!(suspects(idle, Some(150), 152), [CORE]);
        assert_eq!(suspects(Steps { asleep_since: Some(s(1)), ..BUSY }, None, 200), []);
    }
}
