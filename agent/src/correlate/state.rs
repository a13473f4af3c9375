//! What accumulates between snapshots: updates and samples in, [`Finished`] and [`Snapshot`] out.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::CoreView;
use crate::correlate::Finished;
use crate::correlate::OTHER;
use crate::correlate::Own;
use crate::correlate::Series;
use crate::correlate::Snapshot;
use crate::correlate::TargetView;
use crate::correlate::bounds::Bounds;
use crate::correlate::judge::Judge;
use crate::correlate::labels;
use crate::correlate::slo;
use crate::correlate::totals::Totals;
use crate::correlate::trace;
use crate::correlate::trace::Random;
use crate::correlate::wedged;
use crate::engine;
use crate::gpu;
use crate::ident::EngineId;
use crate::ident::Pid;
use crate::request::Request;
use crate::request::Update;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// How long a snapshot serves every reader, nanoseconds: at most four are built a second.
pub const SNAPSHOT_NS: u64 = 250_000_000;

/// Processes and engines that are held at most; traced processes are far fewer.
const PROCESSES_MAX: usize = 4_096;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Finished requests kept for readers.
    pub requests_kept: usize,
    /// Series before a new model becomes `other`.
    pub series_cap: usize,
    /// What requests may take; each threshold becomes a bucket bound.
    pub objectives: slo::Objectives,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests_kept: 1_000, series_cap: 1_000, objectives: slo::Objectives::default() }
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
            vitals,
            random,
            served: labels::Served::new(settings.series_cap),
            series: Arc::default(),
            series_overflow: 0,
            kept: VecDeque::new(),
            kept_view: Arc::default(),
            in_flight: BTreeMap::new(),
            targets: Vec::new(),
            cores: BTreeMap::new(),
            judge: Judge::new(settings.objectives.clone()),
            watch: wedged::Watch::default(),
            asked_since: BTreeMap::new(),
            gpus: gpu::State::Absent { why: "not looked for yet".to_owned() },
            gpu_samples: Arc::default(),
            engines: BTreeMap::new(),
            own: None,
            latest: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// Takes in what the book says. A request that ended comes back with its place in a trace and what
    /// the side lines knew at its end; `anchor` ties its instants to the wall clock.
    pub fn update(&self, update: Update, anchor: Anchor) -> Option<Arc<Finished>> {
        let mut state = self.lock();
        match update {
            Update::Ended(request) => return Some(state.ended(*request, anchor)),
            Update::Engine { core, engine, at, load, steps, queued_tokens, live } => {
                let view = CoreView { pid: core, engine, at, load, queued_tokens, live, steps, wedged: None };
                state.bounded(|state| &mut state.cores, core, view);
                if state.cores.contains_key(&core) {
                    state.watch.heard(core, steps);
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
            Update::Gone(pid) => state.gone(pid),
        }
        None
    }

    /// The GPUs as NVML last told.
    pub fn gpu(&self, gpus: gpu::State) {
        let mut state = self.lock();
        state.gpu_samples = match &gpus {
            gpu::State::Present { gpus, .. } => gpus.clone().into(),
            gpu::State::Absent { .. } => Arc::default(),
        };
        state.gpus = gpus;
    }

    /// An engine's own gauges.
    pub fn engine(&self, sample: engine::Sample) {
        let mut state = self.lock();
        for model in &sample.models {
            state.served.learn(model);
        }
        state.bounded(|state| &mut state.engines, sample.engine, Arc::new(sample));
    }

    /// The processes that are traced now; engines that have none left are forgotten.
    pub fn targets(&self, targets: Vec<TargetView>) {
        let mut state = self.lock();
        state.engines.retain(|engine, _| targets.iter().any(|target| target.engine == *engine));
        state.targets = targets;
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

    /// Decides which engine cores are wedged; what changed since it was last asked, with what was last heard.
    pub fn wedged(&self, now: MonoNs) -> Vec<(wedged::Change, Option<CoreView>)> {
        let mut state = self.lock();
        let mut watch = std::mem::take(&mut state.watch);
        let changes = watch.look(now, |core| state.asked(core));
        state.watch = watch;
        changes.into_iter().map(|change| (change.clone(), state.cores.get(&change.core).cloned())).collect()
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    bounds: Bounds,
    requests_kept: usize,
    series_cap: usize,
    started: Anchor,
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
    cores: BTreeMap<Pid, CoreView>,
    judge: Judge,
    watch: wedged::Watch,
    /// Since when front ends have had requests without a break.
    asked_since: BTreeMap<Pid, MonoNs>,
    gpus: gpu::State,
    gpu_samples: Arc<[gpu::Sample]>,
    engines: BTreeMap<EngineId, Arc<engine::Sample>>,
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
    fn ended(&mut self, request: Request, anchor: Anchor) -> Arc<Finished> {
        let trace = trace::place(request.traceparent.as_deref(), &mut self.random);
        let end_unix_ns = anchor.unix_ns(request.finished);
        let series = self.series_of(&request);
        let verdict = self.judge.ended(&request, &series, None);
        self.watch.ended(&request);
        let bounds = &self.bounds;
        Arc::make_mut(&mut self.series).entry(series).or_insert_with(|| Totals::new(bounds)).add(
            &request,
            &trace,
            end_unix_ns,
            bounds,
        );
        let engine_sample = request.engine.and_then(|engine| self.engines.get(&engine)).map(Arc::clone);
        let finished = Arc::new(Finished {
            request,
            trace,
            end_unix_ns,
            anchor,
            gpus: Arc::clone(&self.gpu_samples),
            engine_sample,
            verdict,
        });
        self.kept.push_front(Arc::clone(&finished));
        self.kept.truncate(self.requests_kept);
        finished
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

    fn gone(&mut self, pid: Pid) {
        self.in_flight.remove(&pid);
        self.asked_since.remove(&pid);
        self.cores.remove(&pid);
        self.watch.gone(pid);
        self.targets.retain(|target| target.pid != pid);
        self.engines.retain(|engine, _| engine.0.pid != pid);
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
            series: Arc::clone(&self.series),
            targets: targets.collect(),
            cores: cores.collect(),
            judged: self.judge.totals(),
            slo: self.judge.rolling().windows(now.mono),
            gpus: self.gpus.clone(),
            engines: self.engines.values().map(Arc::clone).collect(),
            requests: Arc::clone(&self.kept_view),
            requests_kept: self.requests_kept,
            series_overflow: self.series_overflow + self.served.overflow(),
            vitals: readings(&self.vitals),
            own: self.own,
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
