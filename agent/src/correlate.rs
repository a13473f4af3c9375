//! Updates, GPU samples and engine samples in; the [`Snapshot`] and [`Finished`] requests out.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::request::Request;
use crate::stream::Load;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub mod state;
pub mod window;

/// Who a span is and whose child.
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
    /// GPUs of the node when it ended.
    pub gpus: Vec<crate::gpu::Sample>,
    /// Its engine's gauges at the last scrape before its end.
    pub engine_sample: Option<crate::engine::Sample>,
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

/// Cumulative figures of one series.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Requests by (status or `unobserved`, error type or empty).
    pub requests: BTreeMap<(String, String), u64>,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens delivered.
    pub output_tokens: u64,
    /// Tokens made by the engine.
    pub engine_tokens: u64,
    /// Tokens made and not delivered, of requests whose caller left.
    pub wasted_tokens: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Duration by error type (empty: none), seconds.
    pub duration: BTreeMap<String, window::Histogram>,
    /// Time to first token, seconds; streams without an error.
    pub ttft: window::Histogram,
    /// Time per output token, seconds; without an error.
    pub tpot: window::Histogram,
    /// Gaps between content-carrying writes, seconds.
    pub itl: window::Histogram,
    /// Each phase by name, seconds.
    pub phases: BTreeMap<&'static str, window::Histogram>,
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
    pub role: crate::ident::Role,
    /// What is attached where, a line each.
    pub attached: Vec<String>,
    /// What is not attached, and why.
    pub skipped: Vec<String>,
    /// HTTP requests in flight.
    pub in_flight: u32,
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
}

/// Everything a reader may see, immutable.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was built.
    pub at: MonoNs,
    /// The tie between the clocks then.
    pub anchor: Anchor,
    /// Totals by series.
    pub series: Arc<BTreeMap<Series, Totals>>,
    /// Exemplars: the last finished request of each series, for OpenMetrics and OTLP.
    pub exemplars: Arc<BTreeMap<Series, Exemplar>>,
    /// Traced processes.
    pub targets: Vec<TargetView>,
    /// Engine cores.
    pub cores: Vec<CoreView>,
    /// The GPUs.
    pub gpus: crate::gpu::State,
    /// Scraped engines.
    pub engines: Vec<crate::engine::Sample>,
    /// Finished requests, newest first, bounded.
    pub requests: Arc<Vec<Arc<Finished>>>,
    /// How many finished requests are kept at most.
    pub requests_kept: usize,
    /// Series that the cap turned into `other`.
    pub series_overflow: u64,
}

/// A pointer from a histogram to a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// Unix nanoseconds of the request's end.
    pub unix_ns: u64,
    /// Duration, seconds.
    pub duration: Option<f64>,
    /// Time to first token, seconds.
    pub ttft: Option<f64>,
    /// Time per output token, seconds.
    pub tpot: Option<f64>,
}
