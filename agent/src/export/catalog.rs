//! Every metric, declared once: both text formats, OTLP and `METRICS.md` are rendered from here.

use std::fmt::Write as _;

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by bucket.
    Histogram,
}

impl Kind {
    /// The name in both text formats.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A unit as the three formats write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// UCUM, for OTLP.
    pub ucum: &'static str,
    /// The word that ends the name in both text formats; empty for none.
    pub word: &'static str,
}

/// Seconds.
pub const SECONDS: Unit = Unit { ucum: "s", word: "seconds" };
/// Bytes.
pub const BYTES: Unit = Unit { ucum: "By", word: "bytes" };
/// A share, 0 to 1.
pub const RATIO: Unit = Unit { ucum: "1", word: "ratio" };
/// Tokens.
pub const TOKENS: Unit = Unit { ucum: "{token}", word: "" };
/// Requests.
pub const REQUESTS: Unit = Unit { ucum: "{request}", word: "" };
/// A number of other things.
pub const NUMBER: Unit = Unit { ucum: "1", word: "" };

/// A label by its two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// In both text formats.
    pub name: &'static str,
    /// In OTLP.
    pub otlp: &'static str,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// In both text formats; a counter's ends in `_total`.
    pub name: &'static str,
    /// In OTLP.
    pub otlp: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// One sentence.
    pub help: &'static str,
    /// Its labels, in the order of every sample's values.
    pub labels: &'static [Label],
}

impl Metric {
    /// The name of the family in OpenMetrics: a counter's without `_total`.
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

const fn label(name: &'static str, otlp: &'static str) -> Label {
    Label { name, otlp }
}

const OPERATION: Label = label("gen_ai_operation_name", "gen_ai.operation.name");
const PROVIDER: Label = label("gen_ai_provider_name", "gen_ai.provider.name");
const MODEL: Label = label("gen_ai_request_model", "gen_ai.request.model");
const ERROR: Label = label("error_type", "error.type");
const STATUS: Label = label("status", "tachograph.status");
const PID: Label = label("pid", "tachograph.process.pid");
const ENGINE: Label = label("engine", "tachograph.engine.pid");
const HW_ID: Label = label("hw_id", "hw.id");
const HW_NAME: Label = label("hw_name", "hw.name");

const SERIES: &[Label] = &[OPERATION, PROVIDER, MODEL];
const SERIES_ERROR: &[Label] = &[OPERATION, PROVIDER, MODEL, ERROR];
const PROCESS: &[Label] = &[ENGINE, PID];
const GPU: &[Label] = &[HW_ID, HW_NAME];

macro_rules! metrics {
    ($($(#[$doc:meta])* $id:ident = $kind:ident $name:literal $otlp:literal $unit:ident $labels:expr, $help:literal;)*) => {
        $(#[doc = $help] pub static $id: Metric = Metric {
            name: $name, otlp: $otlp, kind: Kind::$kind, unit: $unit, help: $help, labels: $labels,
        };)*
        /// Every metric but the agent's own counters ([`VITALS`]), in the order of the page.
        pub static METRICS: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    REQUEST_DURATION = Histogram "gen_ai_server_request_duration_seconds" "gen_ai.server.request.duration" SECONDS SERIES_ERROR,
        "From the first byte of a request to the last byte of its response, or the break.";
    TIME_TO_FIRST_TOKEN = Histogram "gen_ai_server_time_to_first_token_seconds" "gen_ai.server.time_to_first_token" SECONDS SERIES,
        "From the first byte of a streamed request to the first text, reasoning or tool call; requests without an error.";
    TIME_PER_OUTPUT_TOKEN = Histogram "gen_ai_server_time_per_output_token_seconds" "gen_ai.server.time_per_output_token" SECONDS SERIES,
        "Mean time for each token after the first, a value for each request without an error.";
    INTER_TOKEN_LATENCY = Histogram "tachograph_inter_token_latency_seconds" "tachograph.inter_token_latency" SECONDS SERIES,
        "Gaps between the writes that carry content of a streamed response.";
    PHASE_DURATION = Histogram "tachograph_phase_duration_seconds" "tachograph.phase.duration" SECONDS
        &[OPERATION, PROVIDER, MODEL, label("phase", "tachograph.phase")],
        "Each known phase of each request: receive, frontend, queue, prefill, decode, deliver.";
    REQUESTS_TOTAL = Counter "tachograph_requests_total" "tachograph.requests" REQUESTS
        &[OPERATION, PROVIDER, MODEL, STATUS, ERROR],
        "Finished requests by status (a code, or unobserved) and error type.";
    TOKENS_TOTAL = Counter "tachograph_tokens_total" "tachograph.tokens" TOKENS
        &[OPERATION, PROVIDER, MODEL, label("type", "tachograph.token.type")],
        "Tokens of finished requests: input, cached (a part of input), output (delivered), engine (made), wasted (made for a caller who had left).";
    PREEMPTIONS = Counter "tachograph_preemptions_total" "tachograph.preemptions" NUMBER SERIES,
        "Times that a finished request lost its room in the engine.";
    SLO_JUDGED = Counter "tachograph_slo_requests_total" "tachograph.slo.requests" REQUESTS SERIES,
        "Finished requests that an objective applied to.";
    SLO_MISSED = Counter "tachograph_slo_miss_total" "tachograph.slo.miss" REQUESTS
        &[OPERATION, PROVIDER, MODEL, label("cause", "tachograph.cause")],
        "Of these, the requests that missed an objective, each by its one cause: error, receive, frontend, queue, prefill, batch_interference, kv_pressure, gpu_throttling, slow_client, usual_pace (nothing was unusual), unknown.";
    REQUESTS_IN_FLIGHT = Gauge "tachograph_requests_in_flight" "tachograph.requests.in_flight" REQUESTS PROCESS,
        "HTTP requests in flight in a traced process.";
    ENGINE_RUNNING = Gauge "tachograph_engine_requests_running" "tachograph.engine.requests.running" REQUESTS PROCESS,
        "Requests running, as the engine core's scheduler last said.";
    ENGINE_WAITING = Gauge "tachograph_engine_requests_waiting" "tachograph.engine.requests.waiting" REQUESTS PROCESS,
        "Requests waiting, as the engine core's scheduler last said.";
    ENGINE_LIVE = Gauge "tachograph_engine_requests_live" "tachograph.engine.requests.live" REQUESTS PROCESS,
        "Engine requests that were added and have not ended.";
    ENGINE_KV_USAGE = Gauge "tachograph_engine_kv_usage_ratio" "tachograph.engine.kv.usage" RATIO PROCESS,
        "Share of the KV cache in use, as the engine core's scheduler last said.";
    ENGINE_QUEUED_TOKENS = Gauge "tachograph_engine_queued_tokens" "tachograph.engine.queued_tokens" TOKENS PROCESS,
        "Prompt tokens of requests that were added and have not answered.";
    ENGINE_WEDGED = Gauge "tachograph_engine_wedged" "tachograph.engine.wedged" NUMBER PROCESS,
        "1 while the engine core has work and takes no step, for ten usual steps and ten seconds at least; else 0.";
    SCRAPED_RUNNING = Gauge "tachograph_engine_scraped_requests_running" "tachograph.engine.scraped.requests.running" REQUESTS &[ENGINE],
        "Requests running, from the engine's own metrics.";
    SCRAPED_WAITING = Gauge "tachograph_engine_scraped_requests_waiting" "tachograph.engine.scraped.requests.waiting" REQUESTS &[ENGINE],
        "Requests waiting, from the engine's own metrics.";
    SCRAPED_KV_USAGE = Gauge "tachograph_engine_scraped_kv_usage_ratio" "tachograph.engine.scraped.kv.usage" RATIO &[ENGINE],
        "Share of the KV cache in use, from the engine's own metrics.";
    GPU_MEMORY_USAGE = Gauge "hw_gpu_memory_usage_bytes" "hw.gpu.memory.usage" BYTES GPU,
        "Memory of the GPU in use.";
    GPU_MEMORY_LIMIT = Gauge "hw_gpu_memory_limit_bytes" "hw.gpu.memory.limit" BYTES GPU,
        "Memory of the GPU in all.";
    GPU_UTILIZATION = Gauge "hw_gpu_utilization_ratio" "hw.gpu.utilization" RATIO GPU,
        "Share of the last sampling period during which a kernel ran.";
    COVERAGE = Gauge "tachograph_agent_coverage_ratio" "tachograph.agent.coverage" RATIO &[],
        "Requests recorded and complete, of those whose record is due; absent before the first.";
    SERIES_OVERFLOW = Counter "tachograph_agent_series_overflow_total" "tachograph.agent.series_overflow" NUMBER &[],
        "Times that the cap on series turned a model into other.";
    AGENT_CPU = Counter "tachograph_agent_cpu_seconds_total" "tachograph.agent.cpu" SECONDS &[],
        "Processor time that the agent itself used.";
    AGENT_MEMORY = Gauge "tachograph_agent_memory_bytes" "tachograph.agent.memory" BYTES &[],
        "Resident memory of the agent; the pages of its rings count twice.";
    BUILD_INFO = Gauge "tachograph_build_info" "tachograph.build.info" NUMBER &[label("version", "tachograph.version")],
        "Always 1; the version stands in the label.";
}

/// One of the agent's own counters.
#[derive(Debug)]
pub struct Vital {
    /// The field of [`Vitals`](crate::vitals::Vitals).
    pub field: &'static str,
    /// Its metric.
    pub metric: Metric,
}

macro_rules! vitals {
    ($($field:literal, $help:literal;)*) => {
        /// The agent's own counters, one for each field of [`Vitals`](crate::vitals::Vitals).
        pub static VITALS: &[Vital] = &[$(Vital {
            field: $field,
            metric: Metric {
                name: concat!("tachograph_agent_", $field, "_total"),
                otlp: concat!("tachograph.agent.", $field),
                kind: Kind::Counter,
                unit: NUMBER,
                help: $help,
                labels: &[],
            },
        }),*];
    };
}

vitals! {
    "records_seen", "Ring records read.";
    "records_lost", "Ring records that the kernel side found no room for.";
    "records_undecoded", "Ring records that are no record of ours: unknown kind, wrong size.";
    "bytes_truncated", "Bytes that a call moved and a cap kept from being copied.";
    "map_full", "Failed inserts into the kernel side's maps.";
    "probe_hits_wire", "Hits of the probes on sockets and TLS.";
    "probe_hits_engine", "Hits of the probes on ZeroMQ.";
    "requests_seen", "HTTP requests begun.";
    "requests_recorded", "Requests that ended in a record.";
    "requests_incomplete", "Records that are marked incomplete.";
    "http_plain", "HTTP exchanges that are no inference: counted, not recorded.";
    "http_undecoded", "Connections given up as HTTP: no HTTP/1, broken framing.";
    "http_upgraded", "HTTP/2 prefaces, WebSocket and other upgrades: recognised, not decoded.";
    "http_encoded", "Bodies with a content encoding: recognised, not decoded.";
    "engine_messages", "Engine messages read whole.";
    "engine_other", "Engine messages that are neither ADD, ABORT nor outputs.";
    "engine_undecoded", "Engine messages that should have been decoded and could not be.";
    "engine_lost", "Engine messages with pieces missing.";
    "clock_untrusted", "Engine instants that contradict their own probe and are not used.";
    "engine_unmatched", "Engine requests that no HTTP request was found for.";
    "joins_ambiguous", "HTTP requests whose engine side could not be told from another's.";
    "evicted", "Entries put out of a bounded table.";
    "updates_dropped", "Updates that a full channel dropped.";
    "spans_dropped", "Spans that will never reach the collector: queue full, refused, or given up.";
    "spans_sent", "Spans that the collector accepted.";
    "export_failures", "Export attempts that failed.";
    "probes_skipped", "Probes that could not be attached.";
}

/// Every metric, in the order of the page.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().copied().chain(VITALS.iter().map(|vital| &vital.metric))
}

/// `METRICS.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from `agent/src/export/catalog.rs`; a test fails when this page is stale, and \
         `TACHOGRAPH_BLESS=1 cargo test -p tachograph catalog` writes it anew.\n\n\
         | Prometheus | OTLP | kind | unit | labels | what it is |\n|---|---|---|---|---|---|\n",
    );
    for metric in all() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let Metric { name, otlp, kind, unit, help, .. } = metric;
        // Writing to a String cannot fail.
        let _always_ok = writeln!(
            page,
            "| `{name}` | `{otlp}` | {} | `{}` | {} | {help} |",
            kind.name(),
            unit.ucum,
            labels.join(" ")
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Vitals;
    use std::collections::BTreeSet;

    #[test]
    fn the_page_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");
        if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), markdown(), "METRICS.md is stale");
    }

    #[test]
    fn no_counter_of_the_agent_is_forgotten() {
        let fields = serde_json::to_value(Vitals::default()).unwrap();
        let fields: BTreeSet<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        let declared: BTreeSet<&str> = VITALS.iter().map(|vital| vital.field).collect();
        assert_eq!(fields, declared);
    }

    #[test]
    fn names_follow_the_rules() {
        let mut seen = BTreeSet::new();
        for metric in all() {
            let Metric { name, kind, unit, .. } = metric;
            assert!(seen.insert(*name) && seen.insert(metric.otlp), "{name} is declared twice");
            let words = std::iter::once(*name).chain(metric.labels.iter().map(|label| label.name));
            for word in words {
                assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
            }
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(metric.family().ends_with(unit.word), "{name} ends in its unit");
            assert!(!metric.help.is_empty() && !metric.help.contains(['\n', '"', '\\']), "{name}");
            let ours = name.starts_with("tachograph_") && metric.otlp.starts_with("tachograph.");
            let known = [
                "gen_ai.server.request.duration",
                "gen_ai.server.time_to_first_token",
                "gen_ai.server.time_per_output_token",
                "hw.gpu.memory.usage",
                "hw.gpu.memory.limit",
                "hw.gpu.utilization",
            ];
            assert!(ours || known.contains(&metric.otlp), "{name} is an invented name");
        }
    }
}
