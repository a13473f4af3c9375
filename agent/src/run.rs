//! The line: every room wired, left to right. Who owns which thread, task and channel stands here.
//!
//! ```text
//! keeper thread:  discover ─▶ attach ──roster──▶┐            hints ◀──────────────┐
//! ring thread:                 ring ─▶ stream ─▶ request ──updates──▶ correlate task ─▶ otlp
//! tasks:          gpu, engine ────────────────────────────────────▶ correlator ◀─ serve
//! ```

use crate::attach::Attach;
use crate::attach::Attached;
use crate::attach::object;
use crate::attach::object::Way;
use crate::clock::Clock;
use crate::clock::System;
use crate::config::Config;
use crate::config::value::Level;
use crate::correlate::Own;
use crate::correlate::serving::Lineage;
use crate::correlate::state::Correlator;
use crate::discover;
use crate::discover::Discover;
use crate::discover::procfs;
use crate::engine;
use crate::export::otlp::Exporter;
use crate::export::otlp::Reader;
use crate::gpu;
use crate::ident::Pid;
use crate::request::Update;
use crate::ring::ProcessChange;
use crate::ring::read::Ring;
use crate::serve;
use crate::serve::door;
use crate::serve::door::Door;
use crate::stream::content::Capture;
use crate::vitals::Vitals;
use agent_ebpf::event;
use agent_ebpf::event::Kind;
use agent_ebpf::map::TargetState;
use agent_ebpf::map::count;
use anyhow::Context as _;
use keeper::Keeper;
use keeper::Orders;
use line::Line;
use privileges::Networks;
use reload::Reload;
use reload::Rooms;
use reload::Source;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc as queue;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[cfg(test)]
mod content;
pub mod engines;
pub mod keeper;
pub mod line;
pub mod privileges;
pub mod record;
pub mod reload;
pub mod replay;
#[cfg(test)]
mod sample;
mod service;
pub mod tape;
mod tell;

/// Between two looks at an empty ring: the kernel side wakes nobody.
const RING_POLL: Duration = Duration::from_millis(5);
/// Records read before the clock is looked at.
const RING_BATCH: usize = 4_096;
/// As many batches hold more than the ring.
const AUDIT_BATCHES: usize = 64;
/// Between two ticks of the book.
const TICK: Duration = Duration::from_millis(100);
/// Updates on their way to the correlator.
const UPDATES: usize = 16_384;
/// Of those, places that only finished requests may take.
const UPDATES_FOR_ENDS: usize = 8_192;
/// Hints and roster entries on their way.
const HINTS: usize = 1_024;
/// Of a response at level `no_tokens`: its head and first tokens.
const NO_TOKENS_BYTES: u64 = 4_096;
/// Of a message at level `head`.
const HEAD_BYTES: u64 = 1_024;
/// Between two readings of the agent's own cost.
const OWN: Duration = Duration::from_secs(1);

/// Runs the agent until SIGINT or SIGTERM; on SIGHUP settings are read anew.
///
/// # Errors
///
/// The kernel refuses the programs, the address is taken, or the collector's settings cannot be used.
pub fn run(config: Config, source: Source) -> anyhow::Result<()> {
    let way = way(&config);
    privileges::give_up(way, Networks::of(&config))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(agent(config, source, way))
}

async fn agent(config: Config, source: Source, way: Way) -> anyhow::Result<()> {
    // First of all: a signal that nobody waits for ends the process.
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let clock: Arc<dyn Clock> = Arc::new(System);
    let vitals = Arc::new(Vitals::default());
    let door = Door::open(&config.serve, &vitals)?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let loader = object::Config { ring_bytes: config.ring_bytes, keep_losses: config.keep_losses, way };
    let object::Loaded { object, ring, counts, numbering } = object::Object::load(loader)?;

    let random = Box::new(|bytes: &mut [u8]| rand::Rng::fill(&mut rand::rng(), bytes));
    let correlator = Arc::new(Correlator::new(&config.correlate, Arc::clone(&vitals), clock.anchor(), random));
    let reader: Reader = {
        let (correlator, clock) = (Arc::clone(&correlator), Arc::clone(&clock));
        Arc::new(move || correlator.snapshot(clock.anchor()))
    };
    let exporter = Exporter::start(&config.otlp, &vitals, Arc::clone(&reader))?;

    let (roster, arrivals) = mpsc::sync_channel(HINTS);
    let (hint, hints) = mpsc::sync_channel(HINTS);
    let (updates, ends) = queue::channel(UPDATES);
    let (engines, addresses) = watch::channel(Vec::new());
    let (stop, stopped) = watch::channel(false);
    let (doors, door) = watch::channel(Arc::new(door));
    let (orders, ordered) = watch::channel(orders(&config));
    let (content, captured) = watch::channel(config.content.clone());
    let (scrape, scraped) = watch::channel(config.scrape.settings());
    let (logs, logged) = watch::channel(exporter.logs());
    let (exporters, exported) = queue::channel(1);
    let over = Arc::new(AtomicBool::new(false));
    let pulse = service::Pulse::default();

    let mut keeper = Keeper {
        discover: Discover::new(discovery(&config), Pid(std::process::id())),
        attach: Attach::new(object, copies(&config)),
        orders: ordered,
        vitals: Arc::clone(&vitals),
        correlator: Arc::clone(&correlator),
        roster,
        engines,
    };
    let ring_end = RingEnd {
        ring: Ring::new(ring, numbering),
        counts,
        line: Line::new(Arc::clone(&vitals), config.content.clone()),
        content: captured,
        vitals: Arc::clone(&vitals),
        clock: Arc::clone(&clock),
        arrivals,
        hint,
        updates,
        over: Arc::clone(&over),
        audited: Lost::default(),
        pulse: pulse.clone(),
    };
    let ring_thread = thread::Builder::new().name("ring".to_owned()).spawn(move || ring_end.run())?;
    let ready = Arc::new(AtomicBool::new(false));
    let keeper_thread = {
        let ready = Arc::clone(&ready);
        thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            keeper.look();
            ready.store(true, Ordering::Relaxed);
            keeper.run(&hints);
        })?
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(side_gpu(config.clone(), Arc::clone(&clock), Arc::clone(&correlator)));
    if config.scrape.enabled {
        tasks.spawn(side_engine(scraped, addresses, Arc::clone(&clock), Arc::clone(&correlator)));
    }
    tasks.spawn(own(Arc::clone(&correlator)));
    tasks.spawn(service::tell(Arc::clone(&clock), Arc::clone(&ready), pulse));
    tasks.spawn(tell::watch(Arc::clone(&clock), Arc::clone(&correlator), logged));
    let site = serve::Site { reader: Arc::clone(&reader), ready: Arc::clone(&ready) };
    let serving = tokio::spawn(serve::serve(listener, site, door, stopped));
    let correlating = tokio::spawn(correlate(ends, exported, Arc::clone(&clock), Arc::clone(&correlator), exporter));
    if let Some(content) = &config.content {
        let goes_out = config.otlp.logs.is_some() || config.otlp.traces.is_some();
        tracing::info!(max_bytes = content.max_bytes(), goes_out, "prompts and answers are captured");
    }
    if let Some(what) = open_to_others(&config) {
        tracing::warn!(listen = %config.listen, "{what}");
    }
    tracing::info!(listen = %config.listen, tls = config.serve.tls.is_some(), "serving /metrics, /api/v1/requests, /api/v1/snapshot");

    let mut reload = Reload {
        source,
        running: config,
        rooms: Rooms { correlator, doors, orders, content, scrape, exporters, logs },
        clock,
        vitals,
        reader,
        ready,
    };
    reload.began();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            interrupted = tokio::signal::ctrl_c() => break interrupted?,
            _ = hangup.recv() => reload.again().await,
        }
    }
    tracing::info!("stopping");
    service::stopping();
    // From left to right: what is under way ends, goes out, and only then the listener closes.
    over.store(true, Ordering::Relaxed);
    for thread in [ring_thread, keeper_thread] {
        if tokio::task::spawn_blocking(move || thread.join()).await?.is_err() {
            tracing::error!("a thread of the line had panicked");
        }
    }
    let exporter = correlating.await?;
    exporter.shutdown().await;
    tasks.shutdown().await;
    stop.send_replace(true);
    serving.await??;
    Ok(())
}

/// What others on the network can read or hear that perhaps they should not.
fn open_to_others(config: &Config) -> Option<&'static str> {
    let door::Settings { tls, basic_auth_file, bearer_token_file } = &config.serve;
    if config.listen.ip().is_loopback() {
        None
    } else if !config.serve.asks() {
        Some("whoever reaches this address can read every record: see serve.basic_auth_file and its like")
    } else if tls.is_none() && (basic_auth_file.is_some() || bearer_token_file.is_some()) {
        Some("passwords and tokens come here in the clear: see serve.tls_cert_file")
    } else {
        None
    }
}

/// How probes are attached here.
pub(crate) fn way(config: &Config) -> Way {
    if config.perf_events { Way::Events } else { Way::offered() }
}

fn discovery(config: &Config) -> discover::Config {
    discover::Config { others: config.targets.iter().map(|rule| rule.select.clone()).collect() }
}

fn orders(config: &Config) -> Orders {
    Orders { discover: discovery(config), interval: config.discover_interval }
}

/// How much the kernel side copies at each level. A cap on whole responses would cut long streams: they
/// grow with their tokens, and no write of theirs is big.
fn copies(config: &Config) -> TargetState {
    let (in_bytes, out_bytes) = match config.level {
        Level::Full => (config.body_cap_bytes, u64::MAX),
        Level::NoTokens => (config.body_cap_bytes, NO_TOKENS_BYTES),
        Level::Head => (HEAD_BYTES, HEAD_BYTES),
    };
    TargetState { in_bytes, out_bytes }
}

/// Updates in, finished requests to the exporter, of which the latest is used; ends with the ring thread. One that is
/// replaced sends what it still has.
async fn correlate(
    mut ends: queue::Receiver<Update>,
    mut exporters: queue::Receiver<Exporter>,
    clock: Arc<dyn Clock>,
    correlator: Arc<Correlator>,
    mut exporter: Exporter,
) -> Exporter {
    let mut retired = JoinSet::new();
    loop {
        tokio::select! {
            update = ends.recv() => {
                let Some(update) = update else { break };
                for finished in correlator.update(update, clock.anchor()) {
                    exporter.offer(&finished);
                }
            }
            Some(new) = exporters.recv() => {
                retired.spawn(std::mem::replace(&mut exporter, new).shutdown());
            }
        }
        while retired.try_join_next().is_some() {}
    }
    for finished in correlator.flush() {
        exporter.offer(&finished);
    }
    while retired.join_next().await.is_some() {}
    exporter
}

async fn side_gpu(config: Config, clock: Arc<dyn Clock>, correlator: Arc<Correlator>) {
    let (mut lineage, now) = (Lineage::new(), Arc::clone(&clock));
    let sink = |state: gpu::State| {
        if let gpu::State::Present { gpus, .. } = &state {
            let pids: BTreeSet<Pid> = gpus.iter().flat_map(|gpu| &gpu.processes).map(|process| process.pid).collect();
            if !pids.iter().eq(lineage.keys()) {
                for pid in &pids {
                    correlator.placed(*pid, procfs::place(*pid));
                }
                lineage = pids.into_iter().map(|pid| (pid, procfs::lineage(pid))).collect();
                correlator.lineage(lineage.clone());
            }
        }
        correlator.gpu(state, now.now());
    };
    gpu::run(config.nvml, clock, sink).await;
}

/// Asks the engines, and begins anew when it is told to ask otherwise.
async fn side_engine(
    mut settings: watch::Receiver<engine::scrape::Config>,
    targets: watch::Receiver<Vec<engine::scrape::Target>>,
    clock: Arc<dyn Clock>,
    correlator: Arc<Correlator>,
) {
    loop {
        let now = settings.borrow_and_update().clone();
        let sink = |outcome| correlator.engine(outcome);
        tokio::select! {
            () = engine::run(now, targets.clone(), Arc::clone(&clock), sink) => return,
            told = settings.changed() => if told.is_err() { return },
        }
    }
}

#[expect(clippy::infinite_loop, reason = "ends with the task set that holds it")]
async fn own(correlator: Arc<Correlator>) {
    let mut tick = tokio::time::interval(OWN);
    loop {
        tick.tick().await;
        if let Some((cpu_seconds, memory_bytes)) = procfs::own_usage() {
            correlator.own(Own { cpu_seconds, memory_bytes });
        }
    }
}

/// What the ring thread owns.
struct RingEnd {
    ring: Ring,
    counts: object::Counts,
    line: Line,
    /// Whether prompts and answers are captured from now on.
    content: watch::Receiver<Option<Capture>>,
    vitals: Arc<Vitals>,
    clock: Arc<dyn Clock>,
    arrivals: mpsc::Receiver<Attached>,
    hint: mpsc::SyncSender<()>,
    updates: queue::Sender<Update>,
    over: Arc<AtomicBool>,
    /// What the last audit knew of.
    audited: Lost,
    pulse: service::Pulse,
}

/// Records that the kernel side found no room for, so far: of connections, and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lost {
    wire: u64,
    engine: u64,
}

impl RingEnd {
    fn run(mut self) {
        let mut ticked = self.clock.now();
        while !self.over.load(Ordering::Relaxed) {
            let read = self.drain();
            let now = self.clock.now();
            if now >= ticked.plus(TICK) {
                ticked = now;
                self.pulse.beat(now);
                if self.content.has_changed().unwrap_or(false) {
                    self.line.set_content(self.content.borrow_and_update().clone());
                }
                self.count();
                self.line.tick(now);
            }
            self.hand_on();
            if read < RING_BATCH {
                thread::sleep(RING_POLL);
            }
        }
        while self.drain() > 0 {}
        self.count();
        self.line.close(self.clock.now());
        self.hand_on();
    }

    /// Finds what was lost behind the last record of a connection or thread; whether it could. The numbers
    /// are read first: what they count is then in the ring, or lost.
    fn audit(&mut self, lost: Lost) -> bool {
        let mut numbers = self.ring.numbers(self.line.open());
        numbers.connections_lost = lost.wire != self.audited.wire;
        let read = (0..AUDIT_BATCHES).any(|_| self.drain() < RING_BATCH);
        if read {
            self.line.audit(&numbers, self.clock.now());
        }
        read
    }

    /// Who arrived comes before what they did: it is asked for before each record, since a process
    /// may arrive while its first records are read.
    fn drain(&mut self) -> usize {
        let Self { ring, line, hint, arrivals, clock, .. } = self;
        let arrive = |line: &mut Line| {
            for attached in arrivals.try_iter() {
                line.attached(attached, clock.now());
            }
        };
        arrive(line);
        ring.drain(RING_BATCH, |record| {
            arrive(line);
            line.record(record, |_, change| match change {
                ProcessChange::Forked | ProcessChange::Execed | ProcessChange::Loaded | ProcessChange::Exited => {
                    // A full queue of hints is hint enough.
                    let _full = hint.try_send(());
                }
            });
        })
    }

    fn count(&mut self) {
        let lost = |kinds: Range<u32>| kinds.map(|kind| self.counts.get(count::LOST + kind)).sum();
        let lost = Lost { wire: lost(0..Kind::FrameIn as u32), engine: lost(Kind::FrameIn as u32..event::KINDS) };
        self.vitals.records_lost.set(lost.wire + lost.engine);
        self.vitals.map_full.set(self.counts.get(count::MAP_FULL));
        self.vitals.probe_hits_wire.set(self.counts.get(count::HITS_WIRE));
        self.vitals.probe_hits_engine.set(self.counts.get(count::HITS_ENGINE));
        if lost != self.audited && self.audit(lost) {
            self.audited = lost;
        }
    }

    /// Never waits: what finds no room is counted; gauges leave room for finished requests.
    fn hand_on(&mut self) {
        for update in self.line.updates() {
            let is_end = matches!(update, Update::Ended(_));
            let room = self.updates.capacity() > UPDATES_FOR_ENDS;
            if (is_end || room) && self.updates.try_send(update).is_ok() {
                continue;
            }
            self.vitals.updates_dropped.one();
        }
    }
}
