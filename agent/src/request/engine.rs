//! What one engine core said about its requests in, the life of each engine request out.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::Pid;
use crate::request::EngineAt;
use crate::request::EngineRequest;
use crate::request::Incomplete;
use crate::request::Steps;
use crate::request::names::Names;
use crate::request::work::Begun;
use crate::request::work::Part;
use crate::request::work::Work;
use crate::stream::Added;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Output;
use crate::stream::Params;
use crate::vitals::Vitals;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Steps remembered for finding the step of the last delivered token.
const HISTORY: usize = 256;
/// Two probes on two threads may fire in the other order by this much.
const PROBE_SLACK: Duration = Duration::from_micros(50);

/// An engine that has read an ADD knows of the request by then.
const ADMITTED: Duration = Duration::from_secs(1);

/// Why an engine request makes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The engine finished it.
    Finished,
    /// The front end aborted it.
    Aborted,
    /// The engine died, left, or is no longer looked at.
    Gone,
}

/// Tokens made up to and with a step.
#[derive(Debug, Clone, Copy)]
struct Made {
    total: u64,
    timestamp: Option<MonoNs>,
    at: MonoNs,
}

/// What of an engine request reached the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Exactly so many tokens.
    Tokens(u64),
    /// All of it.
    All,
    /// What had left the engine by this instant, and came before the end of the response.
    Until(MonoNs),
    /// None of it.
    Nothing,
}

/// The life of one engine request.
#[derive(Debug)]
pub(super) struct Life {
    /// Where the book keeps it.
    pub(super) key: u64,
    pub(super) id: String,
    pub(super) names: Names,
    pub(super) external_id: Option<String>,
    pub(super) client_index: Option<u32>,
    pub(super) core: Pid,
    pub(super) engine: Option<EngineId>,
    pub(super) params: Params,
    pub(super) output_kind: Option<u32>,
    pub(super) seen: MonoNs,
    pub(super) added: Option<MonoNs>,
    pub(super) queued: Option<MonoNs>,
    pub(super) scheduled: Option<MonoNs>,
    pub(super) aborted: Option<MonoNs>,
    preempted: Option<MonoNs>,
    preemptions: u32,
    preempted_ns: u64,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) cached_tokens: Option<u64>,
    pub(super) tokens: u64,
    first: Option<Made>,
    history: VecDeque<Made>,
    /// Tokens made before the oldest step remembered.
    forgotten: u64,
    pub(super) finish: Option<Finish>,
    pub(super) end: Option<(MonoNs, Stop)>,
    pub(super) load: EngineAt,
    running_max: Option<u32>,
    kv_usage_waiting: Option<f64>,
    pub(super) flags: BTreeSet<Incomplete>,
    pub(super) marked: bool,
    pub(super) untrusted: bool,
    /// Whether an exchange that may be its own ended without claiming it.
    pub(super) disputed: bool,
}

impl Life {
    /// From its ADD.
    pub(super) fn added(core: Pid, engine: Option<EngineId>, at: MonoNs, request: &Added) -> Self {
        let mut life = Self::found(core, engine, at, &request.id, request.external_id.as_deref());
        life.external_id.clone_from(&request.external_id);
        life.client_index = request.client_index;
        life.params = request.params.clone();
        life.output_kind = request.output_kind;
        life.added = Some(at);
        life.prompt_tokens = request.prompt_tokens.map(u64::from);
        life
    }

    /// From its first sign, where the ADD was not seen.
    pub(super) fn found(core: Pid, engine: Option<EngineId>, at: MonoNs, id: &str, external: Option<&str>) -> Self {
        Self {
            key: 0,
            id: id.to_owned(),
            names: Names::read(id, external),
            external_id: None,
            client_index: None,
            core,
            engine,
            params: Params::default(),
            output_kind: None,
            seen: at,
            added: None,
            queued: None,
            scheduled: None,
            aborted: None,
            preempted: None,
            preemptions: 0,
            preempted_ns: 0,
            prompt_tokens: None,
            cached_tokens: None,
            tokens: 0,
            first: None,
            history: VecDeque::new(),
            forgotten: 0,
            finish: None,
            end: None,
            load: EngineAt::default(),
            running_max: None,
            kv_usage_waiting: None,
            flags: BTreeSet::new(),
            marked: false,
            untrusted: false,
            disputed: false,
        }
    }

    /// One step's output. `timestamp` is the step's, already held against its probe.
    pub(super) fn step(
        &mut self,
        output: &Output,
        timestamp: Option<MonoNs>,
        at: MonoNs,
        load: Option<Load>,
        vitals: &Vitals,
    ) {
        for (mark, when) in &output.marks {
            self.marked = true;
            if self.believes(*when, timestamp) {
                self.mark(*mark, *when);
            } else {
                self.untrusted = true;
                vitals.clock_untrusted.one();
            }
        }
        self.prompt_tokens = self.prompt_tokens.or(output.prompt_tokens.map(u64::from));
        self.cached_tokens = self.cached_tokens.or(output.cached_tokens.map(u64::from));
        self.tokens = self.tokens.saturating_add(u64::from(output.tokens));
        // A finish without tokens is an output where nothing else was: pooling.
        if output.tokens > 0 || (output.finish.is_some() && self.first.is_none()) {
            let made = Made { total: self.tokens, timestamp, at };
            if self.first.is_none() {
                self.first = Some(made);
                self.load.first_token = load;
            } else {
                self.running_max = self.running_max.max(load.and_then(|load| load.running));
            }
            if self.history.len() >= HISTORY {
                self.forgotten = self.history.pop_front().map_or(self.forgotten, |oldest| oldest.total);
            }
            self.history.push_back(made);
        }
        if let Some(finish) = output.finish
            && self.finish.is_none()
        {
            self.finish = Some(finish);
            self.stop(at, Stop::Finished, load);
        }
    }

    /// The engine read an ABORT for it.
    pub(super) fn abort(&mut self, at: MonoNs, load: Option<Load>) {
        if self.aborted.is_none() && self.finish.is_none() {
            self.aborted = Some(at);
            self.stop(at, Stop::Aborted, load);
        }
    }

    /// It makes nothing more.
    pub(super) fn stop(&mut self, at: MonoNs, why: Stop, load: Option<Load>) {
        if self.end.is_none() {
            self.end = Some((at, why));
            self.load.finish = load;
        }
    }

    fn believes(&self, when: MonoNs, timestamp: Option<MonoNs>) -> bool {
        let after_add = self.added.is_none_or(|added| when.plus(PROBE_SLACK) >= added);
        after_add && timestamp.is_some_and(|timestamp| when <= timestamp)
    }

    fn mark(&mut self, mark: Mark, when: MonoNs) {
        match mark {
            Mark::Queued => {
                self.queued.get_or_insert(when);
            }
            Mark::Scheduled => {
                self.scheduled.get_or_insert(when);
                if let Some(gap) = self.preempted.take().and_then(|since| when.since(since)) {
                    self.preempted_ns = self.preempted_ns.saturating_add(gap);
                }
            }
            Mark::Preempted => {
                self.preemptions = self.preemptions.saturating_add(1);
                self.preempted = Some(when);
            }
        }
    }

    /// The scheduler's last word while it waits for its first token.
    pub(super) fn wait(&mut self, load: Load) {
        self.kv_usage_waiting = [self.kv_usage_waiting, load.kv_usage].into_iter().flatten().reduce(f64::max);
    }

    /// Whether anything came out.
    pub(super) fn answered(&self) -> bool {
        self.first.is_some()
    }

    /// Whether it runs and the scheduler's messages show it.
    pub(super) fn decodes(&self) -> bool {
        self.answered() && self.end.is_none() && self.preempted.is_none()
    }

    /// What a step that has just been taken in did for it; `answered` is whether it had answered before.
    pub(super) fn part(&self, made: u32, answered: bool) -> Option<Part> {
        let key = self.key;
        let computed = self.prompt_tokens.unwrap_or(0).saturating_sub(self.cached_tokens.unwrap_or(0));
        if answered {
            return (made > 0).then_some(Part { key, tokens: made.into(), begun: None });
        }
        let begun = self.scheduled.map(Begun::At).or(self.added.map(Begun::After));
        self.answered().then_some(Part { key, tokens: computed.max(1), begun })
    }

    /// When the first output left the engine.
    pub(super) fn first_sent(&self) -> Option<MonoNs> {
        self.first.map(|made| made.at)
    }

    /// Whether nothing more can be heard of it; an aborted one may be in a step that is under way.
    pub(super) fn settled(&self, now: MonoNs, wait: Duration) -> bool {
        self.end.is_some_and(|(at, why)| why != Stop::Aborted || now >= at.plus(wait))
    }

    /// Whether the step lies before the end that the caller saw.
    fn in_time(&self, made: Made, finished: MonoNs) -> bool {
        made.timestamp.is_none_or(|timestamp| timestamp <= finished)
            && self.aborted.is_none_or(|aborted| made.at < aborted)
    }

    /// The request as the record shows it, for a caller who got `share` of it by `finished`.
    pub(super) fn record(&self, share: Share, finished: MonoNs) -> EngineRequest {
        let by = |limit: MonoNs| {
            let in_time = self.history.iter().rev().find(|made| made.at <= limit && self.in_time(**made, finished));
            in_time.map_or(self.forgotten, |made| made.total)
        };
        let in_time = by(MonoNs(u64::MAX));
        let output_tokens = match share {
            Share::Tokens(tokens) => tokens.min(self.tokens),
            Share::All => self.tokens,
            Share::Until(limit) => by(limit),
            Share::Nothing => 0,
        };
        let whole = matches!(share, Share::Tokens(_) | Share::All);
        // Where nothing was delivered, decoding still ran until the end.
        let last_token = if whole || output_tokens > 0 { output_tokens } else { in_time };
        let first = self.first.filter(|made| whole || self.in_time(*made, finished));
        let found = self.history.iter().find(|made| made.total >= last_token);
        let last = found.filter(|_| first.is_some() && (last_token > self.forgotten || self.forgotten == 0));
        let seen_end = if whole { output_tokens } else { in_time };
        EngineRequest {
            key: self.key,
            id: self.id.clone(),
            external_id: self.external_id.clone(),
            client_index: self.client_index,
            engine: self.core,
            added: self.added,
            queued: self.queued.filter(|at| *at <= finished),
            scheduled: self.scheduled.filter(|at| *at <= finished),
            first_output: first.and_then(|made| made.timestamp),
            last_output: last.and_then(|made| made.timestamp),
            aborted: self.aborted,
            preemptions: self.preemptions,
            preempted_ns: self.preempted_ns,
            kv_usage_waiting: self.kv_usage_waiting,
            running_max: self.running_max,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            output_tokens,
            engine_tokens: self.tokens,
            overrun_tokens: self.tokens.saturating_sub(seen_end.max(output_tokens)),
            finish: self.finish,
        }
    }
}

/// The requests of an engine core that have not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    since: MonoNs,
    longest_prompt: u64,
}

impl Due {
    /// With this one among them.
    pub(super) fn with(due: Option<Self>, life: &Life) -> Self {
        let unread = if life.answered() { 0 } else { life.prompt_tokens.unwrap_or(0) };
        due.map_or(Self { since: life.seen, longest_prompt: unread }, |due| Self {
            since: due.since.min(life.seen),
            longest_prompt: due.longest_prompt.max(unread),
        })
    }
}

/// When an engine core steps, and how often.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<MonoNs>,
    /// The step's own instant: the messages of one step, one for each front end, share it.
    timestamp: Option<MonoNs>,
    /// Whether the last step left work behind.
    busy: bool,
    /// When a step last left none.
    idle: Option<MonoNs>,
    usual_ns: Option<u64>,
    asleep_since: Option<MonoNs>,
    woken: Option<MonoNs>,
}

impl Pace {
    /// One message of a step, after which there is work, or none.
    pub(super) fn step(&mut self, at: MonoNs, timestamp: Option<MonoNs>, busy: bool) {
        let same = timestamp.is_some() && timestamp == self.timestamp;
        if self.busy
            && !same
            && let Some(took) = self.last.and_then(|last| at.since(last))
        {
            self.usual_ns = Some(self.usual_ns.map_or(took, |usual| towards(usual, took)));
        }
        self.last = Some(at);
        self.timestamp = timestamp;
        self.busy = busy;
        self.idle = if busy { self.idle } else { Some(at) };
        self.asleep_since = None;
    }

    /// Whether the engine has said since then that it has no work.
    pub(super) fn without(&self, seen: MonoNs) -> bool {
        self.idle.is_some_and(|idle| idle > seen.plus(ADMITTED))
    }

    /// It was told to sleep, or to wake.
    pub(super) fn sleep(&mut self, at: MonoNs, asleep: bool) {
        self.woken = if asleep { self.woken } else { Some(at) };
        self.asleep_since = asleep.then(|| self.asleep_since.unwrap_or(at));
    }

    pub(super) fn steps(&self, due: Option<Due>) -> Steps {
        Steps {
            last: self.last,
            usual_ns: self.usual_ns,
            work_since: due.map(|due| self.woken.map_or(due.since, |woken| woken.max(due.since))),
            longest_prompt: due.map_or(0, |due| due.longest_prompt),
            asleep_since: self.asleep_since,
        }
    }
}

/// A running median: each observation moves it by one part in 32, whatever its size.
fn towards(usual: u64, took: u64) -> u64 {
    let by = usual / 32 + 1;
    if took > usual { usual.saturating_add(by) } else { usual.saturating_sub(by) }
}

/// One engine core process.
#[derive(Debug, Default)]
pub(super) struct Core {
    /// Since when every ADD is seen.
    pub(super) whole: Option<MonoNs>,
    /// The scheduler's last word.
    pub(super) load: Option<(MonoNs, Load)>,
    pub(super) pace: Pace,
    /// Its requests by engine id; `None` for one whose record is made.
    pub(super) requests: HashMap<String, Option<u64>>,
    /// Ids whose record is made, oldest first.
    recorded: VecDeque<String>,
    /// Whether messages of it were lost.
    pub(super) lost: bool,
    /// Who had its time.
    pub(super) work: Work,
}

impl Core {
    /// Keeps the id of a recorded request for a while, so that what still comes is not taken for a new one.
    pub(super) fn bury(&mut self, id: &str, life: u64, keep: usize) {
        if self.requests.get(id) == Some(&Some(life)) {
            self.requests.insert(id.to_owned(), None);
            self.recorded.push_back(id.to_owned());
        }
        while self.recorded.len() > keep {
            if let Some(oldest) = self.recorded.pop_front()
                && self.requests.get(&oldest) == Some(&None)
            {
                self.requests.remove(&oldest);
            }
        }
    }
}

/// The step's timestamp where its own probe does not contradict it.
pub(super) fn believed(timestamp: Option<MonoNs>, at: MonoNs, vitals: &Vitals) -> Option<MonoNs> {
    let believed = timestamp.filter(|timestamp| *timestamp <= at.plus(PROBE_SLACK));
    if believed.is_none() && timestamp.is_some() {
        vitals.clock_untrusted.one();
    }
    believed
}
