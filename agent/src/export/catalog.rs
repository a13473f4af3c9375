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
/// Watts.
pub const WATTS: Unit = Unit { ucum: "W", word: "watts" };
/// Joules.
pub const JOULES: Unit = Unit { ucum: "J", word: "joules" };
/// Hertz.
pub const HERTZ: Unit = Unit { ucum: "Hz", word: "hertz" };
/// Degrees Celsius.
pub const CELSIUS: Unit = Unit { ucum: "Cel", word: "celsius" };
/// Errors.
pub const ERRORS: Unit = Unit { ucum: "{error}", word: "" };
/// Tokens.
pub const TOKENS: Unit = Unit { ucum: "{token}", word: "" };
/// Requests.
pub const REQUESTS: Unit = Unit { ucum: "{request}", word: "" };
/// Money; UCUM has no unit for it.
pub const DOLLARS: Unit = Unit { ucum: "{USD}", word: "dollars" };
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

const HW_TYPE: Label = label("hw_type", "hw.type");
const REASON: Label = label("reason", "tachograph.gpu.clock_event.reason");
const CLOCK: Label = label("clock", "tachograph.gpu.clock");
const CALL: Label = label("call", "tachograph.gpu.call");
const GI: Label = label("gi", "tachograph.gpu.mig.gpu_instance");
const CI: Label = label("ci", "tachograph.gpu.mig.compute_instance");

const PLACE: &[Label] = &[
    ENGINE,
    PID,
    label("role", "tachograph.process.role"),
    label("container_id", "container.id"),
    label("container_runtime", "container.runtime.name"),
    label("pod_uid", "k8s.pod.uid"),
    label("unit", "tachograph.systemd.unit"),
];
const SERIES: &[Label] = &[OPERATION, PROVIDER, MODEL];
const SERIES_ERROR: &[Label] = &[OPERATION, PROVIDER, MODEL, ERROR];
const PROCESS: &[Label] = &[ENGINE, PID];
const WHAT: Label = label("what", "tachograph.check.what");
const RANKED: &[Label] = &[ENGINE, label("rank", "tachograph.engine.rank")];
const MEASURED: &[Label] = &[ENGINE, label("what", "tachograph.time.what")];
const GPU: &[Label] = &[HW_ID, HW_NAME];
const USER_ID: Label = label("user_id", "user.id");
const USER: &[Label] = &[USER_ID];
const USE: &[Label] = &[HW_ID, HW_NAME, label("use", "tachograph.use")];
const GPU_HARDWARE: &[Label] = &[HW_ID, HW_NAME, HW_TYPE];
const GPU_REASON: &[Label] = &[HW_ID, HW_NAME, REASON];
const GPU_CLOCK: &[Label] = &[HW_ID, HW_NAME, CLOCK];
const GPU_KIND: &[Label] = &[HW_ID, HW_NAME, label("kind", "tachograph.gpu.kind")];
const GPU_XID: &[Label] = &[HW_ID, HW_NAME, label("xid", "tachograph.gpu.xid")];
const GPU_CALL: &[Label] = &[HW_ID, HW_NAME, CALL];
const GPU_PROCESS: &[Label] = &[HW_ID, HW_NAME, PID, ENGINE];
const GPU_PART: &[Label] = &[HW_ID, HW_NAME, GI, CI];

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
    SCRAPE_UP = Gauge "tachograph_engine_scrape_up" "tachograph.engine.scrape.up" NUMBER &[ENGINE],
        "Whether the engine last told its own metrics; /api/v1/snapshot says why not.";
    SCRAPED_RUNNING = Gauge "tachograph_engine_scraped_requests_running" "tachograph.engine.scraped.requests.running" REQUESTS RANKED,
        "Requests running, from the engine's own metrics, by rank that schedules for itself.";
    SCRAPED_WAITING = Gauge "tachograph_engine_scraped_requests_waiting" "tachograph.engine.scraped.requests.waiting" REQUESTS RANKED,
        "Requests waiting, from the engine's own metrics, by rank.";
    SCRAPED_KV_USAGE = Gauge "tachograph_engine_scraped_kv_usage_ratio" "tachograph.engine.scraped.kv.usage" RATIO RANKED,
        "Share of the KV cache in use, from the engine's own metrics, by rank; shares are no summands.";
    SCRAPED_TOKENS = Counter "tachograph_engine_scraped_tokens_total" "tachograph.engine.scraped.tokens" TOKENS
        &[ENGINE, label("type", "tachograph.token.type")],
        "Tokens by the engine's own counters: prompt, generation, prefix_queried and prefix_hit (looked up and found in the prefix cache).";
    SCRAPED_PREEMPTIONS = Counter "tachograph_engine_scraped_preemptions_total" "tachograph.engine.scraped.preemptions" NUMBER &[ENGINE],
        "Preemptions by the engine's own counter.";
    SCRAPED_FINISHED = Counter "tachograph_engine_scraped_requests_finished_total" "tachograph.engine.scraped.requests.finished" REQUESTS
        &[ENGINE, label("reason", "tachograph.finish.reason")],
        "Finished requests by the engine's own counters and its word for why; any where it has none.";
    SCRAPED_TIME = Counter "tachograph_engine_scraped_time_seconds_total" "tachograph.engine.scraped.time" SECONDS MEASURED,
        "Seconds that the engine's own histograms sum up: ttft, queue, prefill, decode.";
    SCRAPED_TIMED = Counter "tachograph_engine_scraped_timed_total" "tachograph.engine.scraped.timed" NUMBER MEASURED,
        "How many durations these sums hold.";
    SCRAPED_ADAPTERS = Gauge "tachograph_engine_scraped_lora_adapters" "tachograph.engine.scraped.lora_adapters" NUMBER
        &[ENGINE, label("state", "tachograph.lora.state")],
        "LoRA adapters with running and with waiting requests, from the engine's own metrics.";
    SCRAPED_UNKNOWN = Gauge "tachograph_engine_scraped_unknown_names" "tachograph.engine.scraped.unknown_names" NUMBER &[ENGINE],
        "Metrics on the engine's page whose names this version does not know; /api/v1/snapshot lists the first.";
    SCRAPED_STALE = Gauge "tachograph_engine_scraped_stale" "tachograph.engine.scraped.stale" NUMBER
        &[ENGINE, WHAT],
        "Whether a gauge of the engine's own metrics stands still while the engine's messages say otherwise.";
    SCRAPE_CHECKS = Counter "tachograph_engine_scrape_checks_total" "tachograph.engine.scrape.checks" NUMBER
        &[ENGINE, WHAT, label("result", "tachograph.check.result")],
        "Comparisons of the engine's own metrics with its messages, which win: agreed, disagreed.";
    PROCESS_INFO = Gauge "tachograph_process_info" "tachograph.process.info" NUMBER PLACE,
        "Always 1; where a traced process or one on a GPU runs stands in the labels: container, pod and unit, by its control groups.";
    MODEL_INFO = Gauge "tachograph_model_info" "tachograph.model.info" NUMBER
        &[ENGINE, label("model", "tachograph.model.name"), label("root", "tachograph.model.root"),
          label("lora_base", "tachograph.model.lora_base"), label("revision", "tachograph.model.revision"),
          label("dtype", "tachograph.model.dtype"), label("quantization", "tachograph.model.quantization"),
          label("max_model_len", "tachograph.model.max_model_len"), label("engine_version", "tachograph.engine.version"),
          label("tensor_parallel_size", "tachograph.engine.tensor_parallel_size"),
          label("pipeline_parallel_size", "tachograph.engine.pipeline_parallel_size"),
          label("data_parallel_size", "tachograph.engine.data_parallel_size"),
          label("max_num_seqs", "tachograph.engine.max_num_seqs"),
          label("max_num_batched_tokens", "tachograph.engine.max_num_batched_tokens"),
          label("gpu_memory_utilization", "tachograph.engine.gpu_memory_utilization"),
          label("kv_blocks", "tachograph.engine.kv_blocks"), label("block_size", "tachograph.engine.block_size"),
          label("kv_cache_dtype", "tachograph.engine.kv_cache_dtype"),
          label("enable_prefix_caching", "tachograph.engine.enable_prefix_caching")],
        "Always 1; how a served model was started stands in the labels, where a flag, the server or its metrics tell.";
    GPU_MEMORY_USAGE = Gauge "hw_gpu_memory_usage_bytes" "hw.gpu.memory.usage" BYTES GPU,
        "Memory of the GPU in use.";
    GPU_MEMORY_LIMIT = Gauge "hw_gpu_memory_limit_bytes" "hw.gpu.memory.limit" BYTES GPU,
        "Memory of the GPU in all.";
    GPU_MEMORY_FREE = Gauge "tachograph_gpu_memory_free_bytes" "tachograph.gpu.memory.free" BYTES GPU,
        "Memory of the GPU that is free.";
    GPU_MEMORY_RESERVED = Gauge "tachograph_gpu_memory_reserved_bytes" "tachograph.gpu.memory.reserved" BYTES GPU,
        "Memory of the GPU that the driver keeps for itself; used, reserved and free sum to the limit.";
    GPU_UTILIZATION = Gauge "hw_gpu_utilization_ratio" "hw.gpu.utilization" RATIO
        &[HW_ID, HW_NAME, label("hw_gpu_task", "hw.gpu.task")],
        "Share of the last sampling period during which a kernel ran, on however few multiprocessors.";
    GPU_MEMORY_BUSY = Gauge "tachograph_gpu_memory_busy_ratio" "tachograph.gpu.memory.busy" RATIO GPU,
        "Share of the last sampling period during which memory was read or written.";
    GPU_POWER = Gauge "hw_power_watts" "hw.power" WATTS GPU_HARDWARE,
        "Power that the GPU draws now.";
    GPU_POWER_AVERAGE = Gauge "tachograph_gpu_power_average_watts" "tachograph.gpu.power.average" WATTS GPU,
        "Power of the GPU as the driver averages it, over about a second.";
    GPU_POWER_MODULE = Gauge "tachograph_gpu_power_module_watts" "tachograph.gpu.power.module" WATTS GPU,
        "Power of the whole module, processor and all, where a GPU shares one (GH200, GB200).";
    GPU_POWER_LIMIT = Gauge "tachograph_gpu_power_limit_watts" "tachograph.gpu.power.limit" WATTS GPU_KIND,
        "Power limits of the GPU: enforced, requested, default.";
    GPU_ENERGY = Counter "hw_energy_joules_total" "hw.energy" JOULES GPU_HARDWARE,
        "Energy that the GPU used, from where the driver's counter stood when the agent first read it.";
    GPU_TEMPERATURE = Gauge "hw_temperature_celsius" "hw.temperature" CELSIUS
        &[HW_ID, HW_NAME, HW_TYPE, label("sensor", "tachograph.gpu.sensor")],
        "Temperatures of the GPU: of the chip (gpu) and of its memory.";
    GPU_CLOCK_NOW = Gauge "tachograph_gpu_clock_hertz" "tachograph.gpu.clock.now" HERTZ GPU_CLOCK,
        "Clocks of the GPU: graphics, sm, memory, video.";
    GPU_CLOCK_MAX = Gauge "tachograph_gpu_clock_max_hertz" "tachograph.gpu.clock.max" HERTZ GPU_CLOCK,
        "The highest that each clock can be.";
    GPU_CLOCK_EVENT = Gauge "tachograph_gpu_clock_event_active" "tachograph.gpu.clock_event.active" NUMBER GPU_REASON,
        "Whether this holds the clocks down at this moment; other stands for reasons that have no name here.";
    GPU_CLOCK_EVENT_SECONDS = Counter "tachograph_gpu_clock_event_seconds_total" "tachograph.gpu.clock_event.time" SECONDS GPU_REASON,
        "Time for which this held the clocks down, from the driver's own counters.";
    GPU_STATUS = Gauge "hw_status" "hw.status" NUMBER &[HW_ID, HW_NAME, HW_TYPE, label("hw_state", "hw.state")],
        "1 for the state that the GPU is in: ok, degraded (it wants a reset or has rows that cannot be replaced), failed (it does not answer).";
    GPU_ERRORS = Counter "hw_errors_total" "hw.errors" ERRORS &[HW_ID, HW_NAME, HW_TYPE, ERROR],
        "Errors of the GPU: corrected and uncorrected ones of its memory since the driver was loaded, and critical ones (xid_N) since the agent was started.";
    GPU_XIDS = Counter "tachograph_gpu_xid_errors_total" "tachograph.gpu.xid.errors" ERRORS GPU_XID,
        "Critical errors that the driver reported since the agent was started, by code.";
    GPU_XID_LAST = Gauge "tachograph_gpu_xid_last_timestamp_seconds" "tachograph.gpu.xid.last" SECONDS GPU_XID,
        "When this critical error last came, in Unix seconds.";
    GPU_ECC_LIFETIME = Counter "tachograph_gpu_ecc_lifetime_errors_total" "tachograph.gpu.ecc.lifetime_errors" ERRORS GPU_KIND,
        "Errors of the GPU's memory in its life: corrected, uncorrected.";
    GPU_ROWS_REMAPPED = Counter "tachograph_gpu_rows_remapped_total" "tachograph.gpu.rows.remapped" NUMBER GPU_KIND,
        "Rows of memory that were replaced, after corrected and after uncorrected errors.";
    GPU_ROW_REMAP = Gauge "tachograph_gpu_row_remap" "tachograph.gpu.row_remap" NUMBER GPU_KIND,
        "Whether the replacement of a row is pending (until a reset), and whether one has failed.";
    GPU_RECOVERY = Gauge "tachograph_gpu_recovery_action" "tachograph.gpu.recovery_action" NUMBER GPU,
        "What the driver wants done: 0 nothing, 1 reset, 2 reboot, 3 drain peer-to-peer, 4 drain and reset.";
    GPU_IO = Counter "hw_gpu_io_bytes_total" "hw.gpu.io" BYTES
        &[HW_ID, HW_NAME, label("link", "tachograph.gpu.link"), label("network_io_direction", "network.io.direction")],
        "Bytes over PCIe and over all NVLinks, as the GPU sees it.";
    GPU_PCIE_REPLAYS = Counter "tachograph_gpu_pcie_replays_total" "tachograph.gpu.pcie.replays" NUMBER GPU,
        "Times that PCIe had to send again.";
    GPU_PCIE_GENERATION = Gauge "tachograph_gpu_pcie_link_generation" "tachograph.gpu.pcie.link.generation" NUMBER GPU,
        "Generation at which the PCIe link runs now.";
    GPU_PCIE_WIDTH = Gauge "tachograph_gpu_pcie_link_width" "tachograph.gpu.pcie.link.width" NUMBER GPU,
        "Lanes over which the PCIe link runs now.";
    GPU_ACTIVITY = Gauge "tachograph_gpu_activity_ratio" "tachograph.gpu.activity" RATIO
        &[HW_ID, HW_NAME, label("part", "tachograph.gpu.part")],
        "Hopper and later, share over the last second: graphics, sm, sm_occupancy, tensor, dram.";
    GPU_PROCESS_MEMORY = Gauge "tachograph_gpu_process_memory_bytes" "tachograph.gpu.process.memory" BYTES GPU_PROCESS,
        "Memory of the GPU by process; what belongs to no process that is known has the pid unattributed, so that all sum to what is in use.";
    GPU_PROCESS_SM = Gauge "tachograph_gpu_process_sm_ratio" "tachograph.gpu.process.sm" RATIO GPU_PROCESS,
        "Share of the multiprocessors' time by process; the rest of the GPU's utilization has the pid unattributed.";
    GPU_PROCESS_ENCODER = Gauge "tachograph_gpu_process_encoder_ratio" "tachograph.gpu.process.encoder" RATIO GPU_PROCESS,
        "Share of the video encoder's time by process.";
    GPU_PROCESS_DECODER = Gauge "tachograph_gpu_process_decoder_ratio" "tachograph.gpu.process.decoder" RATIO GPU_PROCESS,
        "Share of the video decoder's time by process.";
    GPU_MIG_MEMORY_USAGE = Gauge "tachograph_gpu_mig_memory_usage_bytes" "tachograph.gpu.mig.memory.usage" BYTES GPU_PART,
        "Memory of a MIG instance in use.";
    GPU_MIG_MEMORY_LIMIT = Gauge "tachograph_gpu_mig_memory_limit_bytes" "tachograph.gpu.mig.memory.limit" BYTES GPU_PART,
        "Memory of a MIG instance in all.";
    GPU_MIG_ACTIVITY = Gauge "tachograph_gpu_mig_activity_ratio" "tachograph.gpu.mig.activity" RATIO
        &[HW_ID, HW_NAME, GI, CI, label("part", "tachograph.gpu.part")],
        "Share over the last second for a MIG instance: graphics, sm, sm_occupancy, tensor, dram.";
    GPU_INFO = Gauge "tachograph_gpu_info" "tachograph.gpu.info" NUMBER
        &[HW_ID, HW_NAME, label("index", "tachograph.gpu.index"), label("pci_bus_id", "tachograph.gpu.pci_bus_id"),
          label("serial_number", "hw.serial_number"), label("driver_version", "hw.driver_version"),
          label("firmware_version", "hw.firmware_version"), label("mig", "tachograph.gpu.mig.enabled")],
        "Always 1; who the GPU is stands in the labels.";
    GPU_AGE = Gauge "tachograph_gpu_sample_age_seconds" "tachograph.gpu.sample.age" SECONDS
        &[HW_ID, HW_NAME, label("tier", "tachograph.gpu.tier")],
        "How old the readings of each tier are: counters (0.1 s), now (1 s), health (10 s).";
    GPU_CALLS = Counter "tachograph_gpu_calls_total" "tachograph.gpu.calls" NUMBER GPU_CALL,
        "Calls into NVML since it was last opened.";
    GPU_CALL_SECONDS = Counter "tachograph_gpu_call_seconds_total" "tachograph.gpu.call.time" SECONDS GPU_CALL,
        "Time that calls into NVML took since it was last opened.";
    GPU_CALL_ERRORS = Counter "tachograph_gpu_call_errors_total" "tachograph.gpu.call.errors" ERRORS GPU_CALL,
        "Calls and fields that NVML refused since it was last opened; one that it does not support is asked once.";
    GPU_UP = Gauge "tachograph_gpu_collector_up" "tachograph.gpu.collector.up" NUMBER &[],
        "Whether NVML answers on this node; the snapshot says why not.";
    ENGINE_SECONDS = Counter "tachograph_request_engine_seconds_total" "tachograph.request.engine_time" SECONDS SERIES,
        "Time of engine cores that finished requests had: a step's time goes to the requests in it by their tokens.";
    REQUEST_ENERGY = Histogram "tachograph_request_energy_joules" "tachograph.request.energy" JOULES SERIES,
        "Energy of the GPUs that a finished request used: the counters' rise, shared like the engine's time.";
    REQUEST_COST = Counter "tachograph_request_cost_dollars_total" "tachograph.request.cost" DOLLARS SERIES,
        "Price of the GPU time that finished requests used.";
    TOKEN_COST = Counter "tachograph_request_token_dollars_total" "tachograph.request.token_cost" DOLLARS SERIES,
        "What the tokens of finished requests would cost at the prices set for tokens.";
    USER_REQUESTS = Counter "tachograph_user_requests_total" "tachograph.user.requests" REQUESTS USER,
        "Finished requests by user, where users are asked for; those beyond their bound are _OTHER.";
    USER_TOKENS = Counter "tachograph_user_tokens_total" "tachograph.user.tokens" TOKENS
        &[USER_ID, label("type", "tachograph.token.type")],
        "Tokens by user: input and output, of requests where they are known.";
    USER_COST = Counter "tachograph_user_cost_dollars_total" "tachograph.user.cost" DOLLARS USER,
        "Price of the GPU time that the requests of a user used.";
    USER_TOKEN_COST = Counter "tachograph_user_token_dollars_total" "tachograph.user.token_cost" DOLLARS USER,
        "What the tokens of a user would cost at the prices set for tokens.";
    GPU_USED_SECONDS = Counter "tachograph_gpu_used_seconds_total" "tachograph.gpu.used.time" SECONDS USE,
        "Time of the GPU by use: requests, or idle; they sum to the time that it was read.";
    GPU_USED_ENERGY = Counter "tachograph_gpu_used_energy_joules_total" "tachograph.gpu.used.energy" JOULES USE,
        "Energy of the GPU by use: requests, or idle; they sum to the rise of its counter.";
    GPU_USED_COST = Counter "tachograph_gpu_used_cost_dollars_total" "tachograph.gpu.used.cost" DOLLARS USE,
        "Price of the GPU's time by use: requests, or idle; they sum to price times time.";
    COVERAGE = Gauge "tachograph_agent_coverage_ratio" "tachograph.agent.coverage" RATIO &[],
        "Requests recorded and complete, of those whose record is due; absent before the first.";
    SERIES_OVERFLOW = Counter "tachograph_agent_series_overflow_total" "tachograph.agent.series_overflow" NUMBER &[],
        "Times that the cap on series turned a model into other.";
    AGENT_CPU = Counter "tachograph_agent_cpu_seconds_total" "tachograph.agent.cpu" SECONDS &[],
        "Processor time that the agent itself used.";
    AGENT_MEMORY = Gauge "tachograph_agent_memory_bytes" "tachograph.agent.memory" BYTES &[],
        "Resident memory of the agent; the pages of its rings count twice.";
    CONFIG_SUCCESSFUL = Gauge "tachograph_config_last_reload_successful" "tachograph.config.last_reload.successful" NUMBER &[],
        "Whether the settings could be used when they were last read.";
    CONFIG_SUCCESS_TIME = Gauge "tachograph_config_last_reload_success_timestamp_seconds"
        "tachograph.config.last_reload.success.time" SECONDS &[], "When the settings were last read and could be used.";
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
    "content_cut", "Requests whose captured content found no room and was cut.";
    "spans_dropped", "Spans that will never reach the collector: queue full, refused, or given up.";
    "spans_sent", "Spans that the collector accepted.";
    "logs_dropped", "Log records that will never reach the collector: queue full, refused, or given up.";
    "logs_sampled_out", "Finished requests without a log record, because the share of their kind leaves them out.";
    "logs_sent", "Log records that the collector accepted.";
    "export_failures", "Export attempts that failed.";
    "probes_skipped", "Probes that could not be attached.";
    "listener_refused", "Requests to the agent's own listener without a valid certificate, password or token.";
    "listener_reload_failures", "Changed files of certificates, passwords or tokens that could not be used; what they held before stays.";
    "config_reload_failures", "Settings that were read anew and could not be used; those before stay.";
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
                "hw.gpu.io",
                "hw.power",
                "hw.energy",
                "hw.temperature",
                "hw.errors",
                "hw.status",
            ];
            assert!(ours || known.contains(&metric.otlp), "{name} is an invented name");
        }
    }
}
