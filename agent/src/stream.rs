//! [`ring::Event`](crate::ring::Event) in, [`Message`] out: what was said on the wire and by the engine.
//!
//! What of it may lie on a tape is [mask]'s business. Absent here: I/O, clocks, GPUs, exporters. Malformed
//! input is a value or a count, never an error.

pub mod assemble;
pub mod content;
pub mod engine_core;
pub mod http;
pub mod http1;
pub mod json;
pub mod mask;
pub mod openai;
pub mod sse;
pub mod table;

use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::ring::Event;
use crate::vitals::Vitals;
use content::Capture;
use content::Said;
use engine_core::EngineCore;
use http::Http;
use serde::Serialize;

/// One HTTP exchange: the nth request of a connection, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange {
    /// Where it happens.
    pub conn: Conn,
    /// Which one there.
    pub number: u32,
}

/// What an inference API calls the thing asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    TextCompletion,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`.
    Messages,
    /// `/v1/embeddings`.
    Embeddings,
    /// rerank, score, pooling, classify.
    Pooling,
}

/// The head of an inference request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskHead {
    /// `POST`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// What is asked for.
    pub operation: Operation,
    /// `X-Request-Id`, at most 512 bytes.
    pub x_request_id: Option<String>,
    /// `traceparent` as it came, at most 128 bytes.
    pub traceparent: Option<String>,
    /// `X-Session-ID`, at most 256 bytes.
    pub session: Option<String>,
}

/// Sampling parameters as the caller wrote them; what the caller left out is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Params {
    /// `temperature`.
    pub temperature: Option<f64>,
    /// `top_p`.
    pub top_p: Option<f64>,
    /// `top_k`.
    pub top_k: Option<i64>,
    /// `seed`.
    pub seed: Option<i64>,
    /// `max_completion_tokens`, `max_output_tokens` or `max_tokens`.
    pub max_tokens: Option<u64>,
    /// `n`.
    pub n: Option<u32>,
    /// `presence_penalty`.
    pub presence_penalty: Option<f64>,
    /// `frequency_penalty`.
    pub frequency_penalty: Option<f64>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f64>,
}

/// `kv_transfer_params`: what a request says of the other engine that does its prefill or its decode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// `do_remote_prefill`: another engine has done the prefill.
    pub remote_prefill: Option<bool>,
    /// `do_remote_decode`: another engine will decode.
    pub remote_decode: Option<bool>,
    /// `remote_engine_id`, vLLM's name of the other engine, at most 256 bytes.
    pub remote_engine: Option<String>,
    /// `remote_request_id`, the id that the request had in the other engine, at most 512 bytes.
    pub remote_request: Option<String>,
    /// `transfer_id`, which both halves have from who sent them, at most 256 bytes.
    pub id: Option<String>,
}

/// The body of an inference request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AskBody {
    /// `model`, at most 256 bytes.
    pub model: Option<String>,
    /// `stream`.
    pub stream: Option<bool>,
    /// `stream_options.include_usage`.
    pub include_usage: Option<bool>,
    /// The sampling parameters.
    pub params: Params,
    /// `user`, at most 256 bytes.
    pub user: Option<String>,
    /// `session_id` or `vllm_xargs.session_id`, at most 256 bytes.
    pub session: Option<String>,
    /// How many prompts a completion asks for: 1, or the length of a list of strings or token lists.
    pub prompts: Option<u32>,
    /// Whether stop strings were given.
    pub stop: bool,
    /// `kv_transfer_params`, where there are some.
    pub transfer: Option<Box<Transfer>>,
    /// Bytes of the body.
    pub bytes: u64,
    /// Why the fields above may be missing: the body was cut, encoded, or is no JSON.
    pub unread: Option<&'static str>,
    /// What is asked in words, where content is captured.
    pub said: Option<Box<Said>>,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code.
    pub status: u16,
    /// Whether the body is `text/event-stream`.
    pub stream: bool,
    /// Whether bytes that are no request came before it: it may be the answer to those.
    pub after_rubbish: bool,
}

/// Token counts as a `usage` block gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`.
    pub input: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    pub output: Option<u64>,
    /// `prompt_tokens_details.cached_tokens` and its twins.
    pub cached: Option<u64>,
    /// `completion_tokens_details.reasoning_tokens` and its twins.
    pub reasoning: Option<u64>,
}

/// What one SSE event, or the body of a response that is no stream, says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// The response's id, at most 512 bytes.
    pub id: Option<String>,
    /// The model that answered, at most 256 bytes.
    pub model: Option<String>,
    /// Choices (by `index`) that got text, reasoning or a tool call, not empty.
    pub content: Vec<u32>,
    /// Finish reasons by choice, each at most 64 bytes.
    pub finish: Vec<(u32, String)>,
    /// The usage block.
    pub usage: Option<Usage>,
    /// The kind of an error object (`type`, else `code`, else `"error"`), at most 64 bytes.
    pub error: Option<String>,
    /// Whether this is the stream's own end mark (`[DONE]`, `message_stop`, `response.completed`).
    pub last: bool,
    /// What is answered in words, a turn for each choice, where content is captured.
    pub said: Option<Box<Said>>,
}

/// Why an exchange could not end as HTTP ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// The client closed or reset the connection.
    ClientGone,
    /// The server closed the connection.
    ServerClosed,
    /// The server's process left.
    ProcessGone,
    /// The bytes stopped making sense as HTTP.
    Protocol,
    /// The connection's state was put out of a full table.
    Evicted,
}

/// An engine request as its ADD message describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Added {
    /// The engine's own id, unique while it lives.
    pub id: String,
    /// The front end's id for it (field 16), where the version sends one.
    pub external_id: Option<String>,
    /// How many prompt tokens.
    pub prompt_tokens: Option<u32>,
    /// Which front end process asked.
    pub client_index: Option<u32>,
    /// The sampling parameters as the engine got them.
    pub params: Params,
    /// `output_kind`: 1 streams deltas, 2 waits for the end.
    pub output_kind: Option<u32>,
}

/// A point in an engine request's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It entered the queue.
    Queued,
    /// It was given room to run.
    Scheduled,
    /// It lost its room.
    Preempted,
}

/// Why an engine ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// 0: a stop token.
    Stop,
    /// 1: the length limit.
    Length,
    /// 2: aborted by the engine.
    Abort,
    /// 3: an error.
    Error,
    /// 4: repetition.
    Repetition,
    /// A code this version does not know.
    Unknown,
}

/// What one step made for one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The engine's id of the request.
    pub id: String,
    /// New tokens.
    pub tokens: u32,
    /// The end, when this is it.
    pub finish: Option<Finish>,
    /// Marks that ride on this output.
    pub marks: Vec<(Mark, MonoNs)>,
    /// Prompt tokens, from the prefill facts.
    pub prompt_tokens: Option<u32>,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: Option<u32>,
}

/// The scheduler's state after a step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Load {
    /// Requests running.
    pub running: Option<u32>,
    /// Requests waiting.
    pub waiting: Option<u32>,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: Option<f64>,
}

/// One outputs message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// The data-parallel rank.
    pub index: u32,
    /// When the step's outputs were made, by the engine's own clock reading.
    pub timestamp: Option<MonoNs>,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// The scheduler's state, where this message carries it.
    pub load: Option<Load>,
}

/// What was said. `at` is the instant of the bytes that said it.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A process is traced from now on.
    Appeared {
        /// The process.
        process: ProcessId,
        /// The engine it belongs to.
        engine: EngineId,
        /// What kind of engine.
        kind: EngineKind,
        /// What it does there.
        role: Role,
        /// From when on.
        at: MonoNs,
        /// Whether it ran before it was traced.
        late: bool,
    },
    /// A traced process left.
    Gone {
        /// The process.
        pid: Pid,
        /// When.
        at: MonoNs,
    },
    /// The head of an inference request is complete; `at` is its first byte.
    Begun {
        /// Which exchange.
        exchange: Exchange,
        /// Its first byte, or the end of the previous response where that is later.
        at: MonoNs,
        /// The head.
        head: Box<AskHead>,
    },
    /// The body is complete; `at` is its last byte.
    Received {
        /// Which exchange.
        exchange: Exchange,
        /// The last byte.
        at: MonoNs,
        /// The body.
        body: Box<AskBody>,
    },
    /// The final response head (no 1xx) is complete; `at` is its first byte.
    Responded {
        /// Which exchange.
        exchange: Exchange,
        /// The first byte.
        at: MonoNs,
        /// The head.
        head: ReplyHead,
    },
    /// Part of the response body made sense; `at` is the call that completed it.
    Said {
        /// Which exchange.
        exchange: Exchange,
        /// When it was complete.
        at: MonoNs,
        /// What it says.
        chunk: Box<Chunk>,
    },
    /// The response is complete; `at` is its last byte.
    Ended {
        /// Which exchange.
        exchange: Exchange,
        /// The last byte.
        at: MonoNs,
    },
    /// The exchange cannot be completed any more.
    Broken {
        /// Which exchange.
        exchange: Exchange,
        /// When.
        at: MonoNs,
        /// Why.
        why: Break,
    },
    /// A response write was refused or cut short until now.
    Blocked {
        /// Which exchange.
        exchange: Exchange,
        /// The write that went through again.
        at: MonoNs,
        /// For how long, nanoseconds.
        ns: u64,
    },
    /// Records were lost while this exchange was open; bytes of it may be missing.
    Lost {
        /// Which exchange.
        exchange: Exchange,
        /// When it was noticed.
        at: MonoNs,
    },
    /// Records of connections were lost: exchanges may be among them of which nothing was seen.
    ExchangesLost {
        /// When it was noticed.
        at: MonoNs,
    },
    /// The engine received a request.
    Added {
        /// The engine core process.
        engine: Pid,
        /// When the message was read.
        at: MonoNs,
        /// The request.
        request: Box<Added>,
    },
    /// The engine received an abort.
    Aborted {
        /// The engine core process.
        engine: Pid,
        /// When the message was read.
        at: MonoNs,
        /// The engine's ids.
        ids: Vec<String>,
    },
    /// The engine sent the outputs of a step.
    Stepped {
        /// The engine core process.
        engine: Pid,
        /// When the message was sent.
        at: MonoNs,
        /// The step.
        step: Box<Step>,
    },
    /// The engine was told to take no step until it is told to wake, or to wake.
    Slept {
        /// The engine core process.
        engine: Pid,
        /// When.
        at: MonoNs,
        /// Whether it sleeps from now on.
        asleep: bool,
    },
    /// The engine said that it is dead.
    Died {
        /// The engine core process.
        engine: Pid,
        /// When.
        at: MonoNs,
    },
    /// Messages of this engine were lost or cut; any of its live requests may miss something.
    EngineLost {
        /// The engine core process.
        engine: Pid,
        /// When it was noticed.
        at: MonoNs,
    },
}

/// Both halves of the room: what HTTP says, and what the engine says.
#[derive(Debug)]
pub struct Stream {
    http: Http,
    core: EngineCore,
}

impl Stream {
    /// Captures content, or no longer, of what begins from now on.
    pub fn set_content(&mut self, content: Option<Capture>) {
        self.http.set_content(content);
    }

    /// Knows no connection and no engine; captures content where that is asked for.
    pub fn new(content: Option<Capture>) -> Self {
        Self {
            http: Http::new(http::Config { content, ..http::Config::default() }),
            core: EngineCore::new(engine_core::Config::default()),
        }
    }

    /// Takes in one event; what it says is appended to `out`.
    pub fn push(&mut self, event: &Event<'_>, vitals: &Vitals, out: &mut Vec<Message>) {
        self.http.push(event, vitals, out);
        self.core.push(event, vitals, out);
    }
}
