//! What accumulates between snapshots: updates and samples in, [`Finished`] and [`Snapshot`] out.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::CoreView;
use crate::correlate::Finished;
use crate::correlate::OTHER;
use crate::correlate::Own;
use crate::correlate::Reading;
use crate::correlate::Series;
use crate::correlate::Snapshot;
use crate::correlate::TargetView;
use crate::correlate::bounds::Bounds;
use crate::correlate::content::Content;
use crate::correlate::devices::Devices;
use crate::correlate::during;
use crate::correlate::engines::Engines;
use crate::correlate::engines::Word;
use crate::correlate::events::Event;
use crate::correlate::events::Events;
use crate::correlate::events::What;
use crate::correlate::judge::Judge;
use crate::correlate::labels;
use crate::correlate::places::Places;
use crate::correlate::prices::Prices;
use crate::correlate::redact::Rules;
use crate::correlate::serving::Lineage;
use crate::correlate::slo;
use crate::correlate::split;
use crate::correlate::split::Halves;
use crate::correlate::split::Split;
use crate::correlate::totals::Totals;
use crate::correlate::trace;
use crate::correlate::trace::Random;
use crate::correlate::users::Users;
use crate::correlate::wedged;
use crate::correlate::wedged::Change;
use crate::discover::cgroup::Place;
use crate::engine;
use crate::gpu;
use crate::ident::EngineId;
use crate::ident::Pid;
use crate::request::Request;
use crate::request::Update;
use crate::vitals::Count;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// How long a snapshot serves every reader, nanoseconds: at most four are built a second.
pub const SNAPSHOT_NS: u64 = 250_000_000;

/// Processes and engines that are held at most; traced processes are far fewer.
const PROCESSES_MAX: usize = 4_096;

/// How long a finished request waits until it is known what it used: readings come ten times a second.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Finished requests kept for readers.
    pub requests_kept: usize,
    /// Series before a new model becomes `other`.
    pub series_cap: usize,
    /// What requests may take; each threshold becomes a bucket bound.
    pub objectives: slo::Objectives,
    /// What things cost.
    pub prices: Prices,
    /// Users whose use is added up; 0 for nobody's.
    pub users: usize,
    /// What is taken out of captured content; without rules none is passed on.
    pub redact: Option<Arc<Rules>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_kept: 1_000,
            series_cap: 1_000,
            objectives: slo::Objectives::default(),
            prices: Prices::default(),
            users: 0,
            redact: None,
        }
    }
}

/// Joins what the side lines say to what the requests say. Shared; every call is short.
#[derive(Debug)]
pub struct Correlator {
    state: Mutex<State>,
}

impl Correlator {
    /// An empty one; totals count from `started`, and `random` makes the ids of traces and spans.
    pub fn new(settings: &Settings, vitals: Arc<Vitals>, started: Anchor, random: Random) -> Self {
        let state = State {
            bounds: Bounds::new(&settings.objectives),
            requests_kept: settings.requests_kept,
            series_cap: settings.series_cap,
            started,
            histograms_since: started,
            settings: None,
            redact: settings.redact.clone(),
            vitals,
            random,
            served: labels::Served::new(settings.series_cap),
            series: Arc::default(),
            series_overflow: 0,
            kept: VecDeque::new(),
            kept_view: Arc::default(),
            in_flight: BTreeMap::new(),
            targets: Vec::new(),
            places: Places::default(),
            cores: BTreeMap::new(),
            judge: Judge::new(settings.objectives.clone()),
            watch: wedged::Watch::default(),
            asked_since: BTreeMap::new(),
            devices: Devices::default(),
            events: Events::default(),
            prices: settings.prices.clone(),
            users: Users::new(settings.users),
            halves: Halves::default(),
            pending: VecDeque::new(),
            engines: Engines::default(),
            own: None,
            latest: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// Goes on with other settings. Where a threshold is new, histograms begin anew, since what they have counted
    /// cannot be told apart by it.
    pub fn set(&self, settings: &Settings, now: Anchor) {
        let Settings { requests_kept, series_cap, objectives, prices, users, redact } = settings;
        let state = &mut *self.lock();
        let bounds = Bounds::new(objectives);
        if bounds != state.bounds {
            for totals in Arc::make_mut(&mut state.series).values_mut() {
                totals.rebound(&bounds);
            }
            (state.bounds, state.histograms_since) = (bounds, now);
        }
        state.judge.set(objectives.clone());
        state.requests_kept = *requests_kept;
        state.kept.truncate(*requests_kept);
        state.series_cap = *series_cap;
        state.served.set_cap(*series_cap);
        state.prices = prices.clone();
        state.users.set_most(*users);
        state.redact.clone_from(redact);
        state.latest = None;
    }

    /// The settings were read, and could be used or not.
    pub fn settings_read(&self, successful: bool, now: Anchor) {
        let settings = &mut self.lock().settings;
        let before = settings.map_or(now.unix_ns, |reading| reading.success_unix_ns);
        *settings = Some(Reading { successful, success_unix_ns: if successful { now.unix_ns } else { before } });
    }

    /// Takes in what the book says. Requests that ended come back, in order, with their place in a trace and
    /// what the side lines knew of them, once it is known what they used or they have waited long enough;
    /// `anchor` is now, and ties their instants to the wall clock.
    pub fn update(&self, update: Update, anchor: Anchor) -> Vec<Arc<Finished>> {
        // Before the lock, for rules take their time.
        let (update, content) = self.redacted(update);
        let mut state = self.lock();
        match update {
            Update::Ended(request) => state.pending.push_back(Pending { request, anchor, content }),
            Update::Engine { core, engine, at, load, steps, queued_tokens, live } => {
                let view = CoreView { pid: core, engine, at, load, queued_tokens, live, steps, wedged: None };
                state.bounded(|state| &mut state.cores, core, view);
                if state.cores.contains_key(&core) {
                    state.watch.heard(core, steps);
                }
                if let Some(word) = state.word(engine) {
                    let losses = state.losses();
                    state.engines.ticked(engine, &word, anchor.mono, losses);
                }
            }
            Update::InFlight { pid, requests } => {
                if requests == 0 {
                    state.asked_since.remove(&pid);
                } else if state.asked_since.len() < PROCESSES_MAX {
                    state.asked_since.entry(pid).or_insert(anchor.mono);
                }
                state.bounded(|state| &mut state.in_flight, pid, requests);
            }
            Update::Worked { core, upto, slots } => state.devices.ledger.worked(core, upto, slots),
            Update::Gone(pid) => state.gone(pid),
        }
        state.due(|state, request| state.devices.is_known(request) || anchor.mono > request.finished.plus(PATIENCE))
    }

    /// The agent stops: the requests that still wait.
    pub fn flush(&self) -> Vec<Arc<Finished>> {
        self.lock().due(|_, _| true)
    }

    /// The GPUs as NVML told at `now`.
    pub fn gpu(&self, gpus: gpu::State, now: MonoNs) {
        let state = &mut *self.lock();
        state.events.gpus(&gpus, now);
        state.devices.read(gpus, &state.targets, &state.prices);
    }

    /// What stands above the processes on GPUs.
    pub fn lineage(&self, lineage: Lineage) {
        self.lock().devices.set_lineage(lineage);
    }

    /// What asking an engine about itself gave.
    pub fn engine(&self, outcome: engine::scrape::Outcome) {
        let mut state = self.lock();
        if let Ok(sample) = &outcome.scraped {
            for model in &sample.models {
                state.served.learn(model);
            }
        }
        let (word, losses) = (state.word(outcome.engine), state.losses());
        if !state.engines.asked(outcome, word.as_ref(), losses) {
            state.vitals.evicted.one();
        }
    }

    /// The processes that are traced now; engines that have none left are forgotten.
    pub fn targets(&self, targets: Vec<TargetView>) {
        let mut state = self.lock();
        state.engines.retain(|engine| targets.iter().any(|target| target.engine == engine));
        state.targets = targets;
    }

    /// Where a process runs. Of one that is to be traced it must be told before anything of it is seen.
    pub fn placed(&self, pid: Pid, place: Place) {
        let state = &mut *self.lock();
        let (targets, lineage) = (&state.targets, state.devices.lineage());
        let needed = |pid| lineage.contains_key(&pid) || targets.iter().any(|target| target.pid == pid);
        state.places.set(pid, place, needed);
    }

    /// Engine cores that have been silent for so long that their processes are worth a look.
    pub fn suspects(&self, now: MonoNs) -> Vec<Pid> {
        let state = self.lock();
        state.watch.suspects(now, |core| state.asked(core))
    }

    /// A core and its workers, looked at just now.
    pub fn processes(&self, core: Pid, processes: Vec<wedged::Process>) {
        self.lock().watch.seen(core, processes);
    }

    /// Decides which engine cores are wedged; all that happened since it was last asked.
    pub fn events(&self, now: MonoNs) -> Vec<Event> {
        let mut state = self.lock();
        let mut watch = std::mem::take(&mut state.watch);
        let changes = watch.look(now, |core| state.asked(core), |core| state.devices.errors(core));
        state.watch = watch;
        for Change { core, wedged } in changes {
            let view = state.cores.get(&core).cloned().map(Box::new);
            let what = wedged.map_or(What::Stepping { core }, |wedged| What::Wedged { core, wedged, view });
            state.events.push(Event { at: now, what });
        }
        state.events.take()
    }

    /// What the agent itself uses.
    pub fn own(&self, own: Own) {
        self.lock().own = Some(own);
    }

    /// What readers may see: the latest snapshot, rebuilt when it is a quarter of a second old.
    pub fn snapshot(&self, now: Anchor) -> Arc<Snapshot> {
        let mut state = self.lock();
        if let Some(latest) = &state.latest
            && now.mono.since(latest.at).is_some_and(|age| age < SNAPSHOT_NS)
        {
            return Arc::clone(latest);
        }
        let snapshot = Arc::new(state.build(now));
        state.latest = Some(Arc::clone(&snapshot));
        snapshot
    }

    fn redacted(&self, mut update: Update) -> (Update, Option<Box<Content>>) {
        let Update::Ended(request) = &mut update else { return (update, None) };
        let content = request.said.take().and_then(|said| Some((said, self.lock().redact.clone()?)));
        let content = content.map(|(said, rules)| Box::new(Content::of(&said, &rules)));
        (update, content)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has ended, the tie between the clocks then, and what may be shown of its content.
struct Pending {
    request: Box<Request>,
    anchor: Anchor,
    content: Option<Box<Content>>,
}

struct State {
    bounds: Bounds,
    requests_kept: usize,
    series_cap: usize,
    started: Anchor,
    histograms_since: Anchor,
    settings: Option<Reading>,
    redact: Option<Arc<Rules>>,
    vitals: Arc<Vitals>,
    random: Random,
    served: labels::Served,
    /// Copied on write: a snapshot that is still read keeps the old one.
    series: Arc<BTreeMap<Series, Totals>>,
    series_overflow: u64,
    /// Newest first.
    kept: VecDeque<Arc<Finished>>,
    kept_view: Arc<Vec<Arc<Finished>>>,
    in_flight: BTreeMap<Pid, u32>,
    targets: Vec<TargetView>,
    places: Places,
    cores: BTreeMap<Pid, CoreView>,
    judge: Judge,
    watch: wedged::Watch,
    /// Since when front ends have had requests without a break.
    asked_since: BTreeMap<Pid, MonoNs>,
    devices: Devices,
    events: Events,
    prices: Prices,
    users: Users,
    halves: Halves,
    /// Requests of which it is not yet known what they used, in the order of their ends.
    pending: VecDeque<Pending>,
    engines: Engines,
    own: Option<Own>,
    latest: Option<Arc<Snapshot>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("series", &self.series.len())
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The requests at the head of those that wait, as long as `ready` says so.
    fn due(&mut self, ready: impl Fn(&Self, &Request) -> bool) -> Vec<Arc<Finished>> {
        let mut finished = Vec::new();
        while self.pending.front().is_some_and(|pending| ready(self, &pending.request)) {
            let Some(Pending { request, anchor, content }) = self.pending.pop_front() else { break };
            let ended = self.ended(*request, anchor);
            // What is kept for readers stays without.
            let with = |content| Arc::new(Finished { content: Some(content), ..Finished::clone(&ended) });
            finished.push(content.map_or_else(|| Arc::clone(&ended), with));
        }
        finished
    }

    fn ended(&mut self, request: Request, anchor: Anchor) -> Arc<Finished> {
        let (gpus, used) = (self.devices.during(&request), self.devices.claim(&request));
        let token_dollars = self.prices.tokens(&request);
        self.users.add(&request, used.as_ref(), token_dollars);
        let trace = trace::place(request.traceparent.as_deref(), &mut self.random);
        let end_unix_ns = anchor.unix_ns(request.finished);
        let series = self.series_of(&request);
        let verdict = self.judge.ended(&request, &series, during::throttled_ns(&gpus));
        self.watch.ended(&request);
        let bounds = &self.bounds;
        let totals = Arc::make_mut(&mut self.series).entry(series).or_insert_with(|| Totals::new(bounds));
        totals.add(&request, &trace, end_unix_ns, bounds);
        totals.add_use(used.as_ref(), token_dollars);
        self.engines.ended(&request);
        let engine = request.engine.and_then(|engine| self.engines.get(engine));
        let engine_sample = engine.and_then(|engine| engine.sample.clone());
        let engine_facts = engine.map(|engine| Arc::clone(&engine.facts));
        let place = self.places.of(request.pid);
        let split::Ended { split, earlier } = self.halves.ended(&request, &trace, &self.vitals);
        let finished = Arc::new(Finished {
            request,
            trace,
            end_unix_ns,
            anchor,
            gpus,
            gpus_by: self.devices.how(),
            used,
            token_dollars,
            engine_sample,
            engine_facts,
            place,
            verdict,
            split,
            content: None,
        });
        if let Some((serial, split)) = earlier {
            self.keep_split(serial, split);
        }
        self.kept.push_front(Arc::clone(&finished));
        self.kept.truncate(self.requests_kept);
        finished
    }

    /// Readers see of the half that ended first what only its other half has told.
    fn keep_split(&mut self, serial: u64, split: Box<Split>) {
        let kept = self.kept.iter_mut().find(|kept| kept.request.serial == serial);
        if let Some(kept) = kept {
            Arc::make_mut(kept).split = Some(split);
            self.kept_view = Arc::default();
        }
    }

    /// A new series beyond the cap goes to model `other`, of which there are few.
    fn series_of(&mut self, request: &Request) -> Series {
        let series = Series {
            engine: request.kind,
            model: self.served.label(request),
            operation: labels::operation(request.operation),
        };
        if self.series.len() < self.series_cap || self.series.contains_key(&series) || series.model == OTHER {
            return series;
        }
        self.series_overflow += 1;
        Series { model: OTHER.to_owned(), ..series }
    }

    /// Puts one entry into a table of processes, unless that is full of others.
    fn bounded<K: Ord, V>(&mut self, table: impl FnOnce(&mut Self) -> &mut BTreeMap<K, V>, key: K, value: V) {
        let table = table(self);
        if table.len() < PROCESSES_MAX || table.contains_key(&key) {
            table.insert(key, value);
        } else {
            self.vitals.evicted.one();
        }
    }

    /// What the messages of an engine's cores last said.
    fn word(&self, engine: EngineId) -> Option<Word> {
        let members = self.targets.iter().filter(|target| target.engine == engine);
        let in_flight = members.filter_map(|target| self.in_flight.get(&target.pid)).sum();
        let cores: Vec<&CoreView> = self.cores.values().filter(|core| core.engine == engine).collect();
        Word::of(&cores, in_flight)
    }

    /// How much may be missing in records, in all.
    fn losses(&self) -> u64 {
        let Vitals { records_lost, engine_lost, engine_undecoded, updates_dropped, .. } = &*self.vitals;
        [records_lost, engine_lost, engine_undecoded, updates_dropped].map(Count::get).iter().sum()
    }

    fn gone(&mut self, pid: Pid) {
        self.in_flight.remove(&pid);
        self.asked_since.remove(&pid);
        self.cores.remove(&pid);
        self.devices.ledger.gone(pid);
        self.watch.gone(pid);
        self.targets.retain(|target| target.pid != pid);
        self.engines.retain(|engine| engine.0.pid != pid);
    }

    /// Since when the front ends of a core have had requests without a break.
    fn asked(&self, core: Pid) -> Option<MonoNs> {
        let engine = self.cores.get(&core)?.engine;
        let fronts = self.targets.iter().filter(|target| target.engine == engine);
        fronts.filter_map(|front| self.asked_since.get(&front.pid)).min().copied()
    }

    fn build(&mut self, now: Anchor) -> Snapshot {
        let newest = |requests: Option<&Arc<Finished>>| requests.map(|finished| finished.request.serial);
        if newest(self.kept.front()) != newest(self.kept_view.first()) || self.kept.len() != self.kept_view.len() {
            self.kept_view = Arc::new(self.kept.iter().map(Arc::clone).collect());
        }
        let targets = self.targets.iter().map(|target| TargetView {
            in_flight: self.in_flight.get(&target.pid).copied().unwrap_or(target.in_flight),
            ..target.clone()
        });
        let wedged = |core: &CoreView| self.watch.wedged(core.pid).cloned();
        let cores = self.cores.values().map(|core| CoreView { wedged: wedged(core), ..core.clone() });
        Snapshot {
            at: now.mono,
            anchor: now,
            started: self.started,
            histograms_since: self.histograms_since,
            settings: self.settings,
            series: Arc::clone(&self.series),
            targets: targets.collect(),
            cores: cores.collect(),
            judged: self.judge.totals(),
            slo: self.judge.rolling().windows(now.mono),
            gpus: self.devices.latest().clone(),
            lineage: self.devices.lineage(),
            places: self.places.all(),
            engines: self.engines.views(),
            requests: Arc::clone(&self.kept_view),
            requests_kept: self.requests_kept,
            series_overflow: self.series_overflow + self.served.overflow(),
            vitals: readings(&self.vitals),
            own: self.own,
            devices: self.devices.ledger.devices().cloned().collect(),
            unclaimed: self.devices.ledger.unclaimed(),
            users: self.users.largest(),
        }
    }
}

/// Every counter by its field's name, read once so that all readers of a snapshot see the same.
fn readings(vitals: &Vitals) -> BTreeMap<String, u64> {
    match serde_json::to_value(vitals) {
        Ok(serde_json::Value::Object(fields)) => {
            fields.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))).collect()
        }
        _ => BTreeMap::new(),
    }
}
