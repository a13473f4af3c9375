//! Updates, GPU samples and engine samples in; the [`Snapshot`] and [`Finished`] requests out.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

// The words that a snapshot is made of, so that its readers need this room only.
pub use crate::discover::cgroup::Place;
pub use crate::discover::cgroup::Runtime;
pub use crate::engine::Facts;
pub use crate::engine::Sample;
pub use crate::gpu::Activity;
pub use crate::gpu::Sample as Gpu;
pub use crate::gpu::State as Gpus;
pub use crate::gpu::Xid;
pub use crate::ident::Role;
pub use crate::request::EngineRequest;
pub use crate::request::ITL_BOUNDS_NS;
pub use crate::request::Itl;
pub use crate::request::Request;
pub use crate::request::Steps;
pub use crate::request::Update;
pub use crate::stream::Exchange;
pub use crate::stream::Load;
pub use crate::stream::Operation;
pub use crate::stream::Params;
pub use crate::stream::Transfer;

pub mod account;
pub mod bounds;
pub mod cause;
pub mod content;
pub mod costs;
pub mod devices;
pub mod during;
pub mod engines;
pub mod events;
pub mod fate;
pub mod judge;
pub mod labels;
pub mod places;
pub mod prices;
pub mod redact;
pub mod rolling;
pub mod serving;
pub mod slo;
pub mod split;
pub mod state;
pub mod totals;
pub mod trace;
pub mod users;
pub mod usual;
pub mod wedged;
pub mod window;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

/// The model label of names that no engine has served, and of series beyond the cap.
pub const OTHER: &str = "other";

/// The error type, and the status beside it, of outcomes beyond the bound.
pub const OTHER_ERROR: &str = "_OTHER";

/// Who a span is and whose child.
#[expect(clippy::struct_field_names, reason = "the names that the trace context standard gives them")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// 16 bytes.
    pub trace_id: [u8; 16],
    /// 8 bytes.
    pub span_id: [u8; 8],
    /// The caller's span, from this request's own `traceparent`.
    pub parent_span_id: Option<[u8; 8]>,
    /// Whether the caller, where there is one, sampled; without a caller, true.
    pub sampled: bool,
}

/// One finished request with what was joined to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The request.
    pub request: Request,
    /// Its place in a trace.
    pub trace: Trace,
    /// Unix nanoseconds of its end.
    pub end_unix_ns: u64,
    /// The tie between the clocks when it ended.
    pub anchor: Anchor,
    /// What the GPUs that served it did meanwhile.
    pub gpus: Vec<during::During>,
    /// How it is known that they served it.
    pub gpus_by: serving::How,
    /// What it used; `None` where nothing is known of it.
    pub used: Option<account::Used>,
    /// What its tokens would cost at the prices set for tokens.
    pub token_dollars: Option<f64>,
    /// Its engine's gauges at the last scrape before its end.
    pub engine_sample: Option<Arc<Sample>>,
    /// What is known of its engine beside.
    pub engine_facts: Option<Arc<Facts>>,
    /// The container, pod and unit of the process that served it.
    pub place: Arc<Place>,
    /// Whether it was as it should be; `None` where no objective applies to it.
    pub verdict: Option<judge::Verdict>,
    /// Which part of a request that two engines served it was; `None` where it says nothing of another engine.
    pub split: Option<Box<split::Split>>,
    /// What was asked and answered in words, where that is captured: for the export alone, which no reader of a
    /// snapshot sees.
    pub content: Option<Box<content::Content>>,
}

impl Finished {
    /// Whether it missed an objective.
    pub fn missed(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| !verdict.missed.is_empty())
    }
}

/// What tells one time series from another; `model` is bounded (names served with success, else `other`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Series {
    /// The engine kind's name.
    pub engine: EngineKind,
    /// The model.
    pub model: String,
    /// The operation's name, `unknown` for engine-only requests.
    pub operation: &'static str,
}

/// A traced process as the outside sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetView {
    /// The process.
    pub pid: Pid,
    /// Its engine.
    pub engine: EngineId,
    /// Its engine's kind.
    pub kind: EngineKind,
    /// What it does there.
    pub role: Role,
    /// What is attached where, a line each.
    pub attached: Vec<String>,
    /// What is not attached, and why.
    pub skipped: Vec<String>,
    /// HTTP requests in flight.
    pub in_flight: u32,
    /// Its container, pod and unit.
    pub place: Place,
}

/// An engine core as the outside sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoreView {
    /// The core process.
    pub pid: Pid,
    /// Its engine.
    pub engine: EngineId,
    /// When the scheduler last spoke.
    pub at: MonoNs,
    /// Its last word.
    pub load: Load,
    /// Prompt tokens added and not yet answered.
    pub queued_tokens: u64,
    /// Engine requests live.
    pub live: u32,
    /// Its steps.
    pub steps: Steps,
    /// How it stands still, where it is wedged.
    pub wedged: Option<wedged::Wedged>,
}

/// What the agent itself uses, from `/proc/self`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Own {
    /// Processor seconds, user and system, since it started.
    pub cpu_seconds: f64,
    /// Resident bytes; the pages of a ring count twice, because they are mapped twice.
    pub memory_bytes: u64,
}

/// How the settings were last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Whether they could be used.
    pub successful: bool,
    /// When they last could be.
    pub success_unix_ns: u64,
}

/// Everything a reader may see, immutable.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was built.
    pub at: MonoNs,
    /// The tie between the clocks then.
    pub anchor: Anchor,
    /// Since when totals count.
    pub started: Anchor,
    /// Since when histograms count: they begin anew with other bounds.
    pub histograms_since: Anchor,
    /// How the settings were last read; `None` for who has none.
    pub settings: Option<Reading>,
    /// Totals by series.
    pub series: Arc<BTreeMap<Series, totals::Totals>>,
    /// Requests judged by their objectives, by series.
    pub judged: Arc<BTreeMap<Series, rolling::Counts>>,
    /// The same for the last minutes, by model.
    pub slo: rolling::Windows,
    /// Traced processes.
    pub targets: Vec<TargetView>,
    /// Engine cores.
    pub cores: Vec<CoreView>,
    /// The GPUs.
    pub gpus: Gpus,
    /// What stands above the processes on them.
    pub lineage: Arc<serving::Lineage>,
    /// The containers, pods and units of traced processes and of those on GPUs, now or lately.
    pub places: Arc<BTreeMap<Pid, Arc<Place>>>,
    /// Engines that were asked about themselves.
    pub engines: Vec<engines::EngineView>,
    /// Finished requests, newest first, bounded.
    pub requests: Arc<Vec<Arc<Finished>>>,
    /// How many finished requests are kept at most.
    pub requests_kept: usize,
    /// Requests whose series the cap turned into `other`, and names that found no room.
    pub series_overflow: u64,
    /// The agent's own counters by their names in [`Vitals`](crate::vitals::Vitals).
    pub vitals: BTreeMap<String, u64>,
    /// What the agent uses, where it was read.
    pub own: Option<Own>,
    /// What was used of each GPU, and what was not.
    pub devices: Vec<account::DeviceAccount>,
    /// What was used and is in no record: of requests under way, and of those whose record came without it.
    pub unclaimed: account::Used,
    /// What users used, the largest first; empty unless asked for.
    pub users: Vec<users::UserView>,
}

impl Snapshot {
    /// The engine that a process belongs to, by the number of its root: of a traced process, and of one on a GPU that
    /// stands below a traced one.
    pub fn engine_of(&self, pid: Pid) -> Option<String> {
        let engine = |pid: Pid| {
            let mut known = self.targets.iter().map(|target| (target.pid, target.engine.0.pid));
            known.find(|(part, root)| *part == pid || *root == pid).map(|(_, root)| root.to_string())
        };
        std::iter::once(pid).chain(self.lineage.get(&pid).into_iter().flatten().copied()).find_map(engine)
    }

    /// Requests recorded and complete, of those that are recorded or were seen and are no longer in
    /// flight; `None` before the first. A request that was seen and is not yet counted as in flight makes
    /// it a little low for a moment, never high.
    pub fn coverage(&self) -> Option<f64> {
        let count = |field| self.vitals.get(field).copied().unwrap_or(0);
        let in_flight: u64 = self.targets.iter().map(|target| u64::from(target.in_flight)).sum();
        let recorded = count("requests_recorded");
        let due = count("requests_seen").saturating_sub(in_flight).max(recorded);
        let complete = recorded.saturating_sub(count("requests_incomplete"));
        (due > 0).then(|| complete as f64 / due as f64)
    }
}
