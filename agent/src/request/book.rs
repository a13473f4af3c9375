//! [`Message`]s in, [`Update`]s out: the tables of what is under way, both sides of it.
//!
//! Both sides are kept apart while they live and joined when the HTTP side ends (`settle`), so that every
//! join is made with all that is known.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::Role;
use crate::request::Incomplete;
use crate::request::Update;
use crate::request::engine::Core;
use crate::request::engine::Due;
use crate::request::engine::Life;
use crate::request::engine::Stop;
use crate::request::engine::believed;
use crate::request::evidence::Habits;
use crate::request::http::Close;
use crate::request::http::Http;
use crate::request::http::Tap;
use crate::stream::Added;
use crate::stream::AskHead;
use crate::stream::Break;
use crate::stream::Chunk;
use crate::stream::Exchange;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Message;
use crate::stream::Step;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

/// How long after an engine's processes were followed its engine requests may belong to exchanges that had
/// begun before.
const LATE_SETTLES: Duration = Duration::from_secs(1);

/// The bounds of a [`Book`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// HTTP exchanges kept at most; the oldest ends early where there are more.
    pub requests: usize,
    /// Engine requests kept at most, likewise.
    pub engine_requests: usize,
    /// How long one side is waited for after the other ended.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { requests: 16_384, engine_requests: 65_536, grace: Duration::from_secs(2) }
    }
}

/// A traced process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) engine: EngineId,
    pub(super) kind: EngineKind,
    pub(super) role: Role,
}

/// Every request under way.
#[derive(Debug)]
pub struct Book {
    pub(super) config: Config,
    pub(super) serial: u64,
    next: u64,
    processes: BTreeMap<Pid, Process>,
    cores: BTreeMap<Pid, Core>,
    /// Exchanges in the order in which they began.
    pub(super) exchanges: BTreeMap<u64, Http>,
    open: HashMap<Exchange, u64>,
    /// Exchanges whose HTTP side ended.
    pub(super) waiting: BTreeSet<u64>,
    /// Exchanges by the response ids they have or may have.
    pub(super) callers: HashMap<String, Vec<u64>>,
    /// Engine requests in the order in which they were first seen.
    pub(super) lives: BTreeMap<u64, Life>,
    /// Engine requests that ended.
    pub(super) ended: BTreeSet<u64>,
    /// Engine requests by the response ids they may belong to.
    pub(super) named: HashMap<String, Vec<u64>>,
    pub(super) habits: BTreeMap<Option<EngineId>, Habits>,
    /// When it was last noticed that exchanges may have been lost whole.
    pub(super) exchanges_lost: Option<MonoNs>,
}

impl Book {
    /// An empty book.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            serial: 0,
            next: 0,
            processes: BTreeMap::new(),
            cores: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            open: HashMap::new(),
            waiting: BTreeSet::new(),
            callers: HashMap::new(),
            lives: BTreeMap::new(),
            ended: BTreeSet::new(),
            named: HashMap::new(),
            habits: BTreeMap::new(),
            exchanges_lost: None,
        }
    }

    /// Takes in one message; what it ends is appended to `out`.
    pub fn push(&mut self, message: &Message, vitals: &Vitals, out: &mut Vec<Update>) {
        match message {
            Message::Appeared { process, engine, kind, role, at, late } => {
                let known = Process { engine: *engine, kind: *kind, role: *role };
                let new = self.processes.insert(process.pid, known).is_none();
                match role {
                    Role::Core => {
                        let core = self.cores.entry(process.pid).or_default();
                        core.whole.get_or_insert(at.plus(LATE_SETTLES));
                        // What they asked for was not seen.
                        let engine = Some(*engine);
                        let untapped =
                            |http: &&mut Http| http.engine == engine && http.received.is_some() && http.tap == Tap::Off;
                        for http in self.exchanges.values_mut().filter(untapped) {
                            http.flags.insert(Incomplete::AttachedLate);
                        }
                    }
                    Role::Frontend if *late && new => {
                        let habits = self.habits.entry(Some(*engine)).or_default();
                        habits.settled = habits.settled.max(at.plus(LATE_SETTLES));
                    }
                    Role::Frontend => {}
                }
            }
            Message::Gone { pid, at } => self.gone(*pid, *at, vitals, out),
            Message::Begun { exchange, at, head } => self.begin(*exchange, *at, head, vitals, out),
            Message::Received { exchange, at, body } => {
                let tap = self.tap(exchange.conn.pid);
                if let Some(http) = self.http(exchange) {
                    http.receive(*at, body);
                    http.tap = tap;
                }
            }
            Message::Responded { exchange, at, head } => {
                if let Some(http) = self.http(exchange) {
                    http.reply.get_or_insert_with(|| (*at, head.clone()));
                }
            }
            Message::Said { exchange, at, chunk } => self.say(exchange, *at, chunk),
            Message::Ended { exchange, at } => self.close_exchange(exchange, *at, Close::Ended, vitals, out),
            Message::Broken { exchange, at, why } => {
                self.close_exchange(exchange, *at, Close::Broken(*why), vitals, out);
            }
            Message::Blocked { exchange, at: _, ns } => {
                if let Some(http) = self.http(exchange) {
                    http.blocked_ns = http.blocked_ns.saturating_add(*ns);
                }
            }
            Message::Lost { exchange, at: _ } => {
                if let Some(http) = self.http(exchange) {
                    http.flags.insert(Incomplete::RecordsLost);
                }
            }
            Message::ExchangesLost { at } => self.exchanges_lost = Some(*at),
            Message::Added { engine, at, request } => self.add(*engine, *at, request, vitals, out),
            Message::Aborted { engine, at, ids } => {
                for id in ids {
                    self.abort(*engine, *at, id);
                }
            }
            Message::Stepped { engine, at, step } => self.step(*engine, *at, step, vitals, out),
            Message::Slept { engine, at, asleep } => {
                self.cores.entry(*engine).or_default().pace.sleep(*at, *asleep);
            }
            Message::Died { engine, at } => self.died(*engine, *at),
            Message::EngineLost { engine, at: _ } => self.lost(*engine),
        }
    }

    /// Looks at what time alone decides and reads off the gauges; called about ten times a second.
    pub fn tick(&mut self, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        self.settle(now, vitals, out);
        self.gauges(now, out);
    }

    /// The agent stops: everything under way ends now.
    pub fn close(&mut self, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        self.open.clear();
        for (key, http) in &mut self.exchanges {
            http.close(now, Close::Unseen);
            self.waiting.insert(*key);
        }
        self.settle_all(now, vitals, out);
        for life in self.lives.values_mut() {
            life.stop(now, Stop::Gone, None);
        }
        for key in self.lives.keys().copied().collect::<Vec<u64>>() {
            self.without_http(key, now, vitals, out);
        }
    }

    fn http(&mut self, exchange: &Exchange) -> Option<&mut Http> {
        self.exchanges.get_mut(self.open.get(exchange)?)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn engine_of(&self, pid: Pid) -> Option<EngineId> {
        self.processes.get(&pid).map(|process| process.engine)
    }

    /// What kind of engine a process belongs to.
    pub(super) fn kind_of(&self, pid: Pid) -> EngineKind {
        self.processes.get(&pid).map_or(EngineKind::Vllm, |process| process.kind)
    }

    fn tap(&self, frontend: Pid) -> Tap {
        let engine = self.engine_of(frontend);
        let core = |process: &Process| process.role == Role::Core && Some(process.engine) == engine;
        if self.processes.values().any(core) { Tap::On } else { Tap::Off }
    }

    fn begin(&mut self, exchange: Exchange, at: MonoNs, head: &AskHead, vitals: &Vitals, out: &mut Vec<Update>) {
        self.close_exchange(&exchange, at, Close::Unseen, vitals, out);
        while self.exchanges.len() >= self.config.requests.max(1) {
            let Some(mut oldest) = self.exchanges.first_entry() else { break };
            let (key, exchange) = (*oldest.key(), oldest.get().exchange);
            oldest.get_mut().flags.insert(Incomplete::Evicted);
            oldest.get_mut().close(at, Close::Unseen);
            if self.open.get(&exchange) == Some(&key) {
                self.open.remove(&exchange);
            }
            vitals.evicted.one();
            self.conclude(key, at, vitals, out);
        }
        let key = self.number();
        let mut http = Http::new(exchange, at, head.clone());
        http.engine = self.engine_of(exchange.conn.pid);
        http.kind = self.kind_of(exchange.conn.pid);
        http.tap = self.tap(exchange.conn.pid);
        self.exchanges.insert(key, http);
        self.open.insert(exchange, key);
        self.file(key);
    }

    /// Files the exchange under the names it has now.
    fn file(&mut self, key: u64) {
        let Some(http) = self.exchanges.get_mut(&key) else { return };
        let now = http.names();
        let before = std::mem::replace(&mut http.filed, now.clone());
        for name in before {
            unfile(&mut self.callers, &name, key);
        }
        for name in now {
            self.callers.entry(name).or_default().push(key);
        }
    }

    fn say(&mut self, exchange: &Exchange, at: MonoNs, chunk: &Chunk) {
        let Some(key) = self.open.get(exchange).copied() else { return };
        let Some(http) = self.exchanges.get_mut(&key) else { return };
        let unnamed = http.id.is_none();
        http.say(at, chunk);
        if unnamed && http.id.is_some() {
            self.file(key);
        }
    }

    fn close_exchange(&mut self, exchange: &Exchange, at: MonoNs, how: Close, vitals: &Vitals, out: &mut Vec<Update>) {
        let Some(key) = self.open.remove(exchange) else { return };
        if let Some(http) = self.exchanges.get_mut(&key) {
            http.close(at, how);
            self.waiting.insert(key);
            self.consider(key, at, vitals, out);
        }
    }

    fn add(&mut self, core: Pid, at: MonoNs, request: &Added, vitals: &Vitals, out: &mut Vec<Update>) {
        let mut life = Life::added(core, self.engine_of(core), at, request);
        life.load.queued = self.load(core);
        self.habits.entry(life.engine).or_default().added(&life);
        self.enter(life, vitals, out);
    }

    fn enter(&mut self, mut life: Life, vitals: &Vitals, out: &mut Vec<Update>) -> u64 {
        while self.lives.len() >= self.config.engine_requests.max(1) {
            let Some(oldest) = self.lives.first_key_value().map(|(key, _)| *key) else { break };
            vitals.evicted.one();
            self.evict(oldest, life.seen, vitals, out);
        }
        let key = self.number();
        life.key = key;
        let core = self.cores.entry(life.core).or_default();
        if let Some(Some(former)) = core.requests.insert(life.id.clone(), Some(key)) {
            let load = core.load.map(|(_, load)| load);
            self.stop(former, life.seen, Stop::Gone, load);
        }
        for reading in &life.names.readings {
            self.named.entry(reading.base.clone()).or_default().push(key);
        }
        self.lives.insert(key, life);
        key
    }

    fn stop(&mut self, key: u64, at: MonoNs, why: Stop, load: Option<Load>) {
        if let Some(life) = self.lives.get_mut(&key) {
            life.stop(at, why, load);
            self.ended.insert(key);
        }
    }

    fn evict(&mut self, key: u64, at: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        life.flags.insert(Incomplete::Evicted);
        life.stop(at, Stop::Gone, None);
        let base = life.names.base().to_owned();
        let callers = self.callers.get(&base).cloned().unwrap_or_default();
        for caller in &callers {
            if let Some(http) = self.exchanges.get_mut(caller) {
                http.flags.insert(Incomplete::Evicted);
            }
        }
        if callers.is_empty() {
            self.without_http(key, at, vitals, out);
        } else {
            self.take(key);
        }
    }

    fn abort(&mut self, core: Pid, at: MonoNs, id: &str) {
        let load = self.load(core);
        if let Some(key) = self.life(core, id)
            && let Some(life) = self.lives.get_mut(&key)
        {
            life.abort(at, load);
            self.ended.insert(key);
            self.left(core, key, at);
        }
    }

    /// An engine request ended that may never have answered: it may have been worked for all the same.
    fn left(&mut self, core: Pid, key: u64, at: MonoNs) {
        let Some(life) = self.lives.get(&key).filter(|life| !life.answered()) else { return };
        let (added, prompt_tokens) = (life.seen, life.prompt_tokens.unwrap_or(0));
        let others = || self.lives.values().filter(|other| other.core == core && other.end.is_none());
        let before =
            self.lives.range(..key).filter(|(_, other)| other.core == core && other.end.is_none() && !other.answered());
        let (before, alone) = (u32::try_from(before.count()).unwrap_or(u32::MAX), others().next().is_none());
        self.cores.entry(core).or_default().work.left(key, added, at, prompt_tokens, before, alone);
    }

    fn life(&self, core: Pid, id: &str) -> Option<u64> {
        self.cores.get(&core)?.requests.get(id).copied().flatten()
    }

    fn load(&self, core: Pid) -> Option<Load> {
        self.cores.get(&core)?.load.map(|(_, load)| load)
    }

    fn step(&mut self, pid: Pid, at: MonoNs, step: &Step, vitals: &Vitals, out: &mut Vec<Update>) {
        let timestamp = believed(step.timestamp, at, vitals);
        let core = self.cores.entry(pid).or_default();
        if let Some(load) = step.load {
            core.load = Some((at, load));
        }
        let load = core.load.map(|(_, load)| load);
        let (lost, whole) = (core.lost, core.whole);
        let (mut finished, mut parts, mut decoding) = (Vec::new(), Vec::new(), 0);
        for output in &step.outputs {
            let known = self.cores.get(&pid).and_then(|core| core.requests.get(&output.id)).copied();
            let key = match known {
                Some(Some(key)) => key,
                Some(None) => continue,
                None => {
                    let mut life = Life::found(pid, self.engine_of(pid), at, &output.id, None);
                    let queued = output.marks.iter().find(|(mark, _)| *mark == Mark::Queued);
                    let lost = lost || queued.zip(whole).is_some_and(|((_, queued), whole)| *queued > whole);
                    let why = if lost { Incomplete::EngineMessagesLost } else { Incomplete::AttachedLate };
                    life.flags.insert(why);
                    self.enter(life, vitals, out)
                }
            };
            let Some(life) = self.lives.get_mut(&key) else { continue };
            let answered = life.answered();
            life.step(output, timestamp, at, load, vitals);
            parts.extend(life.part(output.tokens, answered));
            decoding += u32::from(life.decodes());
            if output.finish.is_some() {
                self.ended.insert(key);
                finished.push(key);
            }
        }
        if let Some(timestamp) = timestamp {
            let running = load.and_then(|load| load.running).unwrap_or(0);
            // Mostly all that run are in the step itself; only else the others need to be counted.
            let all = || self.lives.values().filter(|life| life.core == pid && life.decodes()).count();
            let answered = if running > decoding { u32::try_from(all()).unwrap_or(u32::MAX) } else { running };
            let unseen = running.saturating_sub(answered);
            self.cores.entry(pid).or_default().work.step(timestamp, &parts, unseen);
        }
        let going_on = step.outputs.iter().any(|output| output.finish.is_none());
        let busy = load.map_or(going_on, |load| load.running.unwrap_or(0) + load.waiting.unwrap_or(0) > 0);
        if let Some(core) = self.cores.get_mut(&pid) {
            core.pace.step(at, timestamp, busy);
        }
        for key in finished {
            let Some(life) = self.lives.get(&key) else { continue };
            for caller in self.callers.get(life.names.base()).cloned().unwrap_or_default() {
                self.consider(caller, at, vitals, out);
            }
        }
    }

    fn died(&mut self, core: Pid, at: MonoNs) {
        let load = self.load(core);
        for key in self.live_on(core) {
            self.stop(key, at, Stop::Gone, load);
        }
        let engine = self.engine_of(core);
        for http in self.exchanges.values_mut().filter(|http| http.end.is_none() && http.engine == engine) {
            http.engine_dead = true;
        }
    }

    fn lost(&mut self, core: Pid) {
        for key in self.live_on(core) {
            if let Some(life) = self.lives.get_mut(&key) {
                life.flags.insert(Incomplete::EngineMessagesLost);
            }
        }
        self.cores.entry(core).or_default().lost = true;
        let engine = self.engine_of(core);
        // An ADD may be among what was lost: an exchange that finds no engine request has this reason.
        for http in self.exchanges.values_mut().filter(|http| http.engine == engine) {
            http.engine_lost = true;
        }
    }

    fn live_on(&self, core: Pid) -> Vec<u64> {
        let live = self.lives.iter().filter(|(_, life)| life.core == core && life.end.is_none());
        live.map(|(key, _)| *key).collect()
    }

    fn gone(&mut self, pid: Pid, at: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let load = self.load(pid);
        for key in self.live_on(pid) {
            self.stop(key, at, Stop::Gone, load);
        }
        // What its connections did not say, its exit says.
        let open: Vec<Exchange> = self.open.keys().filter(|exchange| exchange.conn.pid == pid).copied().collect();
        let keys: BTreeMap<u64, Exchange> =
            open.into_iter().filter_map(|exchange| Some((*self.open.get(&exchange)?, exchange))).collect();
        for exchange in keys.values() {
            self.close_exchange(exchange, at, Close::Broken(Break::ProcessGone), vitals, out);
        }
        for habits in self.habits.values_mut() {
            habits.clients.retain(|(core, _), frontend| *core != pid && *frontend != pid);
        }
        self.cores.remove(&pid);
        if self.processes.remove(&pid).is_some() {
            out.push(Update::Gone(pid));
        }
        self.habits.retain(|engine, _| {
            engine.is_none_or(|engine| self.processes.values().any(|process| process.engine == engine))
        });
    }

    /// Takes an engine request out of all tables; what still comes of it is known not to be new.
    pub(super) fn take(&mut self, key: u64) -> Option<Life> {
        let life = self.lives.remove(&key)?;
        self.ended.remove(&key);
        for reading in &life.names.readings {
            unfile(&mut self.named, &reading.base, key);
        }
        if let Some(core) = self.cores.get_mut(&life.core) {
            core.bury(&life.id, key, self.config.engine_requests);
        }
        Some(life)
    }

    /// Takes an exchange out of all tables.
    pub(super) fn take_exchange(&mut self, key: u64) -> Option<Http> {
        let http = self.exchanges.remove(&key)?;
        self.waiting.remove(&key);
        for name in &http.filed {
            unfile(&mut self.callers, name, key);
        }
        Some(http)
    }

    fn gauges(&mut self, now: MonoNs, out: &mut Vec<Update>) {
        let mut live: BTreeMap<Pid, (u64, u32)> = BTreeMap::new();
        let mut due: BTreeMap<Pid, Due> = BTreeMap::new();
        for life in self.lives.values_mut().filter(|life| life.end.is_none()) {
            let (queued, count) = live.entry(life.core).or_default();
            *count += 1;
            // The end of one that is damaged may be among what was lost.
            let damaged = life.flags.contains(&Incomplete::EngineMessagesLost);
            let unknown = self.cores.get(&life.core).is_some_and(|core| core.pace.without(life.seen));
            if !damaged && !unknown {
                due.insert(life.core, Due::with(due.get(&life.core).copied(), life));
            }
            if !life.answered() {
                *queued = queued.saturating_add(life.prompt_tokens.unwrap_or(0));
                if let Some((_, load)) = self.cores.get(&life.core).and_then(|core| core.load) {
                    life.wait(load);
                }
            }
        }
        let mut flying: BTreeMap<Pid, u32> = BTreeMap::new();
        for exchange in self.open.keys() {
            *flying.entry(exchange.conn.pid).or_default() += 1;
        }
        for (pid, process) in &self.processes {
            let requests = flying.get(pid).copied().unwrap_or(0);
            match process.role {
                Role::Frontend => out.push(Update::InFlight { pid: *pid, requests }),
                Role::Core => {
                    let (queued_tokens, live) = live.get(pid).copied().unwrap_or_default();
                    let (at, load) = self.cores.get(pid).and_then(|core| core.load).unwrap_or((now, Load::default()));
                    let pace = self.cores.get(pid).map(|core| &core.pace);
                    let steps = pace.map(|pace| pace.steps(due.get(pid).copied())).unwrap_or_default();
                    let engine = process.engine;
                    out.push(Update::Engine { core: *pid, engine, at, load, steps, queued_tokens, live });
                    let (upto, slots) = self.cores.entry(*pid).or_default().work.settle(now, live > 0);
                    out.push(Update::Worked { core: *pid, upto, slots });
                }
            }
        }
    }
}

fn unfile(table: &mut HashMap<String, Vec<u64>>, name: &str, key: u64) {
    if let Some(keys) = table.get_mut(name) {
        keys.retain(|other| *other != key);
        if keys.is_empty() {
            table.remove(name);
        }
    }
}
