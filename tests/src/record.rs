//! One request of `/api/v1/requests` in, a [`Record`] out: the fields that a truth can be held against.

use serde::Deserialize;
use serde_json::Value;

/// Sampling parameters, as far as they identify a request.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Params {
    /// The hidden identity.
    pub temperature: Option<f64>,
}

/// CLOCK_MONOTONIC nanoseconds.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instants {
    /// First byte of the request.
    pub accepted: Option<u64>,
    /// Last byte of the request.
    pub received: Option<u64>,
    /// First byte of the response.
    pub first_byte: Option<u64>,
    /// The step that made the first token.
    pub first_output: Option<u64>,
    /// First bytes with text.
    pub first_content: Option<u64>,
    /// The step that made the last delivered token.
    pub last_output: Option<u64>,
    /// Last byte of the response, or the break.
    pub finished: Option<u64>,
}

/// Seconds.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Phases {
    /// First byte to last byte of the request.
    pub receive: Option<f64>,
    /// To the queue.
    pub frontend: Option<f64>,
    /// To the schedule.
    pub queue: Option<f64>,
    /// To the first output.
    pub prefill: Option<f64>,
    /// To the last output.
    pub decode: Option<f64>,
    /// To the last byte.
    pub deliver: Option<f64>,
}

impl Phases {
    /// In their order.
    pub fn all(&self) -> [Option<f64>; 6] {
        [self.receive, self.frontend, self.queue, self.prefill, self.decode, self.deliver]
    }
}

/// One engine request.
#[derive(Debug, Clone, Deserialize)]
pub struct EngineRecord {
    /// The engine's id.
    pub id: String,
    /// The front end's id.
    pub external_id: Option<String>,
    /// The engine core process.
    pub pid: u32,
    /// When what happened to it.
    pub instants: EngineInstants,
}

/// Instants of an engine request in nanoseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct EngineInstants {
    /// The ADD message was read.
    pub added: Option<u64>,
    /// It entered the queue.
    pub queued: Option<u64>,
    /// It was first scheduled.
    pub scheduled: Option<u64>,
    /// The step that made its first token.
    pub first_output: Option<u64>,
    /// The step that made its last delivered token.
    pub last_output: Option<u64>,
    /// The ABORT message was read.
    pub aborted: Option<u64>,
}

/// Where a request was on the wire.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Connection {
    /// The descriptor.
    pub fd: i32,
    /// When it was first seen, CLOCK_MONOTONIC nanoseconds.
    pub opened: u64,
}

/// The processes of a record.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Target {
    /// Who served it.
    pub pid: u32,
}

/// One record.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// Who served it.
    pub target: Target,
    /// Its connection; `None` without HTTP.
    pub connection: Option<Connection>,
    /// The caller's id.
    pub x_request_id: Option<String>,
    /// The id in the response.
    pub response_id: Option<String>,
    /// A number, or what stands for an unobserved response.
    pub status: Value,
    /// What went wrong.
    pub error_type: Option<String>,
    /// By choice.
    pub finish_reasons: Vec<String>,
    /// Whether it was streamed.
    pub stream: Option<bool>,
    /// Sampling parameters.
    pub params: Params,
    /// Prompt tokens.
    pub input_tokens: Option<u64>,
    /// Prompt tokens from the prefix cache.
    pub cached_tokens: Option<u64>,
    /// Tokens delivered.
    pub output_tokens: Option<u64>,
    /// Tokens made.
    pub engine_tokens: Option<u64>,
    /// Seconds from the first byte of the request to the end.
    pub duration_seconds: Option<f64>,
    /// Seconds during which the client read too slowly.
    pub blocked_seconds: Option<f64>,
    /// Why it missed an objective.
    pub cause: Option<String>,
    /// How the two sides were joined.
    pub join: String,
    /// What may be missing.
    pub incomplete: Option<Vec<String>>,
    /// Preemptions.
    pub preemptions: Option<u64>,
    /// On the wire and over all engine requests.
    pub instants: Instants,
    /// The phases.
    pub phases: Phases,
    /// In the engine.
    pub engine_requests: Vec<EngineRecord>,
    /// What it used of engines and GPUs.
    #[serde(default)]
    pub used: Option<Value>,
    /// What the GPUs that served it did meanwhile.
    #[serde(default)]
    pub gpus: Vec<Value>,
}
