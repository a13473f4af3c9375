//! [`Message`](crate::stream::Message) in, [`Update`] out: the life of each request, both sides joined.
//!
//! Absent here: I/O, clocks, GPUs, exporters, trace ids. Every request that began ends as exactly one
//! [`Request`], whatever the bytes did.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::stream::Exchange;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Operation;
use crate::stream::Params;
use crate::stream::Transfer;
use crate::stream::content::Both;
use serde::Serialize;
use std::collections::BTreeMap;

pub mod book;
mod engine;
mod evidence;
mod finish;
mod http;
mod join;
mod names;
mod phases;
mod settle;
mod sides;
#[cfg(test)]
mod tests;
mod work;

pub use book::Book;
pub use book::Config;
pub use work::SLOT_NS;
pub use work::Slot;

/// How the HTTP side found its engine side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// By the response's id.
    Id,
    /// By the caller's X-Request-Id, before or without a response id.
    XRequestId,
    /// The only engine request that could be it, by process, time, kind and parameters.
    Elimination,
    /// More than one could be it; none is claimed.
    Ambiguous,
    /// It never reached the engine, or the engine's messages were not seen: see `null_reasons`.
    None,
    /// An engine request without HTTP.
    EngineOnly,
}

/// Why a record may miss something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// Records of its connection were lost.
    RecordsLost,
    /// Messages of its engine were lost or cut while it lived.
    EngineMessagesLost,
    /// Bytes were not copied (a cap or a level).
    Truncated,
    /// It had begun before it was traced.
    AttachedLate,
    /// An entry of it was put out of a full table.
    Evicted,
    /// The agent stopped, or the process left, before its end was seen.
    Unfinished,
}

/// The engine's state at an instant of a request, from the last step before it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct EngineAt {
    /// When it was queued.
    pub queued: Option<Load>,
    /// At its first token.
    pub first_token: Option<Load>,
    /// At its end.
    pub finish: Option<Load>,
}

/// The six phases of a request, nanoseconds; they sum to its duration when all are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// First byte to last byte of the request.
    pub receive: Option<u64>,
    /// To the engine's queue: parsing, templates, tokens, messages.
    pub frontend: Option<u64>,
    /// Waiting to be scheduled.
    pub queue: Option<u64>,
    /// To the first output.
    pub prefill: Option<u64>,
    /// To the last output.
    pub decode: Option<u64>,
    /// To the last byte of the response.
    pub deliver: Option<u64>,
}

/// One request as the engine knew it.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineRequest {
    /// A number that only this agent's run gives; [`Slot`]s name it by this.
    pub key: u64,
    /// The engine's id.
    pub id: String,
    /// The front end's id for it.
    pub external_id: Option<String>,
    /// Which front end process asked.
    pub client_index: Option<u32>,
    /// The engine core process.
    pub engine: Pid,
    /// The ADD message was read.
    pub added: Option<MonoNs>,
    /// It entered the queue.
    pub queued: Option<MonoNs>,
    /// It was first scheduled.
    pub scheduled: Option<MonoNs>,
    /// The step that made its first token.
    pub first_output: Option<MonoNs>,
    /// The step that made its last delivered token.
    pub last_output: Option<MonoNs>,
    /// The ABORT message was read.
    pub aborted: Option<MonoNs>,
    /// Preemptions so far.
    pub preemptions: u32,
    /// Nanoseconds between a preemption and the next scheduling; part of prefill or decode.
    pub preempted_ns: u64,
    /// The fullest that the KV cache was while it waited for its first token, a look each tick; 0 to 1.
    pub kv_usage_waiting: Option<f64>,
    /// The most requests, itself among them, that ran at one of its steps after the first.
    pub running_max: Option<u32>,
    /// Prompt tokens.
    pub prompt_tokens: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: Option<u64>,
    /// Tokens delivered.
    pub output_tokens: u64,
    /// Tokens made.
    pub engine_tokens: u64,
    /// Tokens made after the end that the caller saw.
    pub overrun_tokens: u64,
    /// The engine's finish; `None` where the front end ended it (stop string, disconnect).
    pub finish: Option<Finish>,
}

impl EngineRequest {
    /// Queue, prefill and decode of this engine request, nanoseconds, as vLLM computes them.
    pub fn phases(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let span = |from: Option<MonoNs>, to: Option<MonoNs>| to?.since(from?);
        (
            span(self.queued, self.scheduled),
            span(self.scheduled, self.first_output),
            span(self.first_output, self.last_output),
        )
    }
}

/// Gaps between content-carrying writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Itl {
    /// How many gaps.
    pub count: u64,
    /// Their sum, nanoseconds.
    pub sum_ns: u64,
    /// The longest, nanoseconds.
    pub max_ns: u64,
    /// Gaps by [`ITL_BOUNDS_NS`], the last bucket beyond the last bound.
    pub buckets: Vec<u64>,
}

/// Upper bounds of the ITL buckets, nanoseconds.
pub const ITL_BOUNDS_NS: [u64; 14] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    150_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
];

/// One finished request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A number that only this agent's run gives: rises with each finished request, from 1.
    pub serial: u64,
    /// The process that served it; the engine core for a request without HTTP.
    pub pid: Pid,
    /// Its connection, and which exchange there it was; `None` without HTTP.
    pub exchange: Option<Exchange>,
    /// The engine as a whole, where the process belongs to one.
    pub engine: Option<EngineId>,
    /// What kind of engine.
    pub kind: EngineKind,
    /// The engine requests it became, in the order in which they were added.
    pub engine_requests: Vec<EngineRequest>,
    /// How they were found.
    pub join: Join,
    /// What may be missing, sorted.
    pub incomplete: Vec<Incomplete>,
    /// `POST`.
    pub method: Option<String>,
    /// The path without its query.
    pub path: Option<String>,
    /// What was asked for.
    pub operation: Option<Operation>,
    /// `X-Request-Id` of the request.
    pub x_request_id: Option<String>,
    /// `traceparent` of the request.
    pub traceparent: Option<String>,
    /// The caller's user.
    pub user: Option<String>,
    /// The caller's session.
    pub session: Option<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// The response's id.
    pub response_id: Option<String>,
    /// The status code; `None` is an unobserved response.
    pub status: Option<u16>,
    /// What went wrong: the code of a status of 400 or more, `client_disconnect`, `stream_reset`,
    /// the error object of a stream, `engine_dead`, …
    pub error_type: Option<String>,
    /// Finish reasons by choice.
    pub finish_reasons: Vec<String>,
    /// Whether the response streamed.
    pub stream: Option<bool>,
    /// Sampling parameters.
    pub params: Params,
    /// What it said of another engine that does a part of it.
    pub transfer: Option<Box<Transfer>>,
    /// Prompt tokens, each prompt once.
    pub input_tokens: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: Option<u64>,
    /// Tokens delivered.
    pub output_tokens: Option<u64>,
    /// Whether `output_tokens` is an estimate.
    pub output_tokens_estimated: bool,
    /// Reasoning tokens, where usage tells.
    pub reasoning_tokens: Option<u64>,
    /// Tokens the engine made.
    pub engine_tokens: Option<u64>,
    /// First byte of the request.
    pub accepted: Option<MonoNs>,
    /// Last byte of the request.
    pub received: Option<MonoNs>,
    /// First byte of the response.
    pub first_byte: Option<MonoNs>,
    /// The step that made the first token.
    pub first_output: Option<MonoNs>,
    /// First bytes with text, reasoning or a tool call; streams only.
    pub first_content: Option<MonoNs>,
    /// The step that made the last delivered token.
    pub last_output: Option<MonoNs>,
    /// Last byte of the response, or the break.
    pub finished: MonoNs,
    /// The phases.
    pub phases: Phases,
    /// Mean seconds a token after the first, over its engine requests; from the engine's instants,
    /// else from content-carrying writes.
    pub tpot_seconds: Option<f64>,
    /// Gaps between content-carrying writes; streams only.
    pub itl: Option<Itl>,
    /// Nanoseconds during which response writes were refused or cut short.
    pub blocked_ns: u64,
    /// Preemptions over all engine requests.
    pub preemptions: Option<u32>,
    /// The engine's state at three instants.
    pub engine_at: EngineAt,
    /// Why a field of the record is null, by the field's JSON name.
    pub null_reasons: BTreeMap<&'static str, &'static str>,
    /// What was asked and answered in words, as it came; where content is captured, and until it is redacted.
    pub said: Option<Box<Both>>,
}

impl Request {
    /// Nanoseconds from the first byte of the request to the end of the response.
    pub fn duration_ns(&self) -> Option<u64> {
        self.finished.since(self.accepted?)
    }

    /// The part of the prompt that was found in the prefix cache, 0 to 1.
    pub fn cached_share(&self) -> Option<f64> {
        let all = self.input_tokens.filter(|all| *all > 0)?;
        Some(self.cached_tokens? as f64 / all as f64)
    }

    /// Time to first token as the caller saw it, nanoseconds; streams only.
    pub fn ttft_ns(&self) -> Option<u64> {
        self.first_content?.since(self.accepted?)
    }
}

/// How an engine core steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Steps {
    /// The last step.
    pub last: Option<MonoNs>,
    /// The usual time from one step to the next while there is work, nanoseconds.
    pub usual_ns: Option<u64>,
    /// Since when there has been work: the earliest sign of those of its requests that have not ended, or when
    /// it was woken.
    pub work_since: Option<MonoNs>,
    /// Prompt tokens of the longest of its requests that have not answered.
    pub longest_prompt: u64,
    /// Since when it sleeps, where it was told to.
    pub asleep_since: Option<MonoNs>,
}

/// What the book tells the outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// A request ended.
    Ended(Box<Request>),
    /// The state of an engine core, read off the book on a tick.
    Engine {
        /// The engine core process.
        core: Pid,
        /// Its engine.
        engine: EngineId,
        /// When the scheduler last spoke.
        at: MonoNs,
        /// The scheduler's last word.
        load: Load,
        /// Its steps.
        steps: Steps,
        /// Prompt tokens of requests that were added and have not answered.
        queued_tokens: u64,
        /// Engine requests that were added and have not ended.
        live: u32,
    },
    /// Who had the time of an engine core, as far as that is decided.
    Worked {
        /// The engine core process.
        core: Pid,
        /// All before is shared out; on a slot's bound.
        upto: MonoNs,
        /// Slots before `upto` that were not told yet; those that are missing were nobody's.
        slots: Vec<Slot>,
    },
    /// HTTP requests in flight in a process, read off the book on a tick.
    InFlight {
        /// The process.
        pid: Pid,
        /// How many.
        requests: u32,
    },
    /// A process is no longer traced: its gauges go away.
    Gone(Pid),
}
