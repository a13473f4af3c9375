//! The stand-in's truth file in, [`Truth`]s out.

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::Path;

/// Two readings of CLOCK_MONOTONIC, nanoseconds, just before and just after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Bracket(pub u64, pub u64);

impl Bracket {
    /// Whether an instant lies inside.
    pub fn holds(self, at: u64) -> bool {
        (self.0..=self.1).contains(&at)
    }

    /// How far its ends are apart, nanoseconds.
    pub fn width(self) -> u64 {
        self.1.saturating_sub(self.0)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With the last byte of its response.
    Complete,
    /// The client closed the connection.
    ClientGone,
    /// The server closed the connection.
    ServerClosed,
}

/// When things happened on the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct Instants {
    /// First byte of the request; with pipelining not before the end of the response before.
    pub accepted: Bracket,
    /// Last byte of the request.
    pub received: Option<Bracket>,
    /// First byte of the response.
    pub first_byte: Option<Bracket>,
    /// First keep-alive comment of a stream.
    pub comment: Option<Bracket>,
    /// The role delta.
    pub role: Option<Bracket>,
    /// A delta without text.
    pub empty: Option<Bracket>,
    /// First delta with text.
    pub first_content: Option<Bracket>,
    /// Last byte of the response, or the end of the connection.
    pub finished: Bracket,
}

impl Instants {
    /// What happened on the wire, in the order in which it must happen.
    pub fn in_order(&self) -> Vec<Bracket> {
        let response = [self.first_byte, self.comment, self.role, self.empty, self.first_content];
        let all = [Some(self.accepted), self.received].into_iter().chain(response).chain([Some(self.finished)]);
        all.flatten().collect()
    }
}

/// One engine request; instants in nanoseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct EngineTruth {
    /// The engine's id.
    pub id: String,
    /// The front end's id.
    pub external_id: String,
    /// The ADD message was read; `None` when it never arrived.
    pub added: Option<Bracket>,
    /// An ABORT message for it was read while it lived.
    pub aborted: Option<Bracket>,
    /// It entered the queue; `None` where the engine keeps no statistics.
    pub queued: Option<u64>,
    /// It was first scheduled.
    pub scheduled: Option<u64>,
    /// Preemptions.
    pub preemptions: u32,
    /// Timestamps of messages with its outputs, and their tokens.
    pub steps: Vec<(u64, u64)>,
    /// Those that the front end took over, with the tokens it took.
    pub taken: Vec<(u64, u64)>,
    /// Prompt tokens.
    pub prompt_tokens: Option<u64>,
    /// Tokens made.
    pub engine_tokens: Option<u64>,
    /// Tokens in the response.
    pub delivered_tokens: u64,
}

impl EngineTruth {
    /// The step that made the first token; of a request that makes none, the one that ended it.
    pub fn first_output(&self) -> Option<u64> {
        self.steps.iter().find(|(_, tokens)| *tokens > 0).or(self.steps.last()).map(|(at, _)| *at)
    }

    /// The step that made the last token which the front end took over.
    pub fn last_output(&self) -> Option<u64> {
        self.taken.iter().rfind(|(_, tokens)| *tokens > 0).or(self.taken.last()).map(|(at, _)| *at)
    }
}

/// The truth about one request.
#[derive(Debug, Clone, Deserialize)]
pub struct Truth {
    /// The hidden identity; `None` where the body was no JSON.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// The caller's id.
    pub x_request_id: Option<String>,
    /// The process that served it.
    pub pid: u64,
    /// The engine core.
    pub core_pid: u64,
    /// Its connection's descriptor there.
    pub fd: i32,
    /// How it ended.
    pub end: End,
    /// For how long bytes of its connection had to wait for the client, nanoseconds at most; `None` where that is
    /// not known.
    pub waited: Option<u64>,
    /// The status that was sent.
    #[serde(default)]
    pub status: Option<u16>,
    /// Whether the engine or the stream failed in an error object.
    #[serde(default)]
    pub error: bool,
    /// The id in the response.
    #[serde(default)]
    pub response_id: Option<String>,
    /// Whether it was streamed; `None` when it was refused.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Whether the response carried `usage`.
    #[serde(default)]
    pub usage: bool,
    /// By choice.
    #[serde(default)]
    pub finish_reasons: Vec<String>,
    /// Prompt tokens, each prompt once.
    pub input_tokens: Option<u64>,
    /// Prompt tokens from the prefix cache.
    pub cached_tokens: Option<u64>,
    /// Tokens in the response.
    pub output_tokens: Option<u64>,
    /// On the wire.
    pub instants: Instants,
    /// In the engine.
    pub engine: Vec<EngineTruth>,
}

/// The processes that these requests went through.
pub fn pids(truths: &[Truth]) -> BTreeSet<u64> {
    truths.iter().flat_map(|truth| [truth.pid, truth.core_pid]).collect()
}

/// The lines of a JSON file.
pub fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
