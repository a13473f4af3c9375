//! What the clients saw, what vLLM says of itself and what the agent recorded: the words of each.

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A request as its client saw it: a line of `drive.py`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Saw {
    pub(crate) kind: String,
    pub(crate) stream: bool,
    pub(crate) client: String,
    pub(crate) temperature: f64,
    pub(crate) x_request_id: Option<String>,
    /// Engine requests it makes.
    pub(crate) n: usize,
    pub(crate) status: Option<u64>,
    pub(crate) response_id: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// When the kernel received the first content, CLOCK_MONOTONIC ns.
    pub(crate) first_content_ns: Option<i64>,
    /// Whether that read brought one chunk only, so that the stamp is that of its write.
    pub(crate) first_content_alone: Option<bool>,
    /// When the client left early: `queue`, `stream`.
    pub(crate) left: Option<String>,
    pub(crate) error: Option<String>,
}

impl Saw {
    /// Whether it ran to its end in the engine, so that vLLM counts it.
    pub(crate) fn is_whole(&self) -> bool {
        self.left.is_none() && self.status == Some(200)
    }

    /// Every prompt is counted once by `usage`, once a choice by vLLM's counters.
    pub(crate) fn counts_prompt(&self) -> u64 {
        if self.kind.starts_with("n2") { 2 } else { 1 }
    }
}

/// The `usage` block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) cached: Option<u64>,
    pub(crate) output: u64,
}

/// vLLM's own span of an engine request: a line of `otlp_receiver.py`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Span {
    #[serde(rename = "gen_ai.request.temperature")]
    pub(crate) temperature: f64,
    #[serde(rename = "gen_ai.usage.prompt_tokens")]
    pub(crate) input: u64,
    #[serde(rename = "gen_ai.usage.completion_tokens")]
    pub(crate) output: u64,
    #[serde(rename = "gen_ai.latency.time_to_first_token")]
    pub(crate) ttft: f64,
    #[serde(rename = "gen_ai.latency.time_in_queue")]
    pub(crate) queue: f64,
    #[serde(rename = "gen_ai.latency.time_in_model_prefill")]
    pub(crate) prefill: f64,
    #[serde(rename = "gen_ai.latency.time_in_model_decode")]
    pub(crate) decode: f64,
}

impl Span {
    pub(crate) fn phases(&self) -> [f64; 3] {
        [self.queue, self.prefill, self.decode]
    }
}

/// A request as the agent recorded it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Record {
    pub(crate) x_request_id: Option<String>,
    pub(crate) response_id: Option<String>,
    pub(crate) status: Value,
    pub(crate) params: Params,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) engine_tokens: Option<u64>,
    pub(crate) ttft_seconds: Option<f64>,
    pub(crate) instants: Instants,
    pub(crate) phases_ns: HashMap<String, Option<i64>>,
    pub(crate) engine_requests: Vec<EngineRequest>,
    pub(crate) join: Value,
    pub(crate) incomplete: Value,
}

/// What the caller asked for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Params {
    pub(crate) temperature: Option<f64>,
}

/// Instants of a record, CLOCK_MONOTONIC ns.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instants {
    pub(crate) accepted: Option<i64>,
    pub(crate) first_content: Option<i64>,
    pub(crate) finished: Option<i64>,
}

/// One engine request of a record; instants as above.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EngineRequest {
    pub(crate) external_id: Option<String>,
    pub(crate) instants: EngineInstants,
}

/// Instants of an engine request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EngineInstants {
    pub(crate) queued: Option<i64>,
    pub(crate) scheduled: Option<i64>,
    pub(crate) first_output: Option<i64>,
    pub(crate) last_output: Option<i64>,
}

impl EngineRequest {
    /// Queue, prefill and decode in seconds, where all of them are known.
    pub(crate) fn phases(&self) -> Option<[f64; 3]> {
        let between = |from: Option<i64>, to: Option<i64>| Some((to? - from?) as f64 / 1e9);
        Some([
            between(self.instants.queued, self.instants.scheduled)?,
            between(self.instants.scheduled, self.instants.first_output)?,
            between(self.instants.first_output, self.instants.last_output)?,
        ])
    }
}

/// The lines of a file of JSON.
pub(crate) fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// vLLM's spans of engine requests; those of its start are left out.
pub(crate) fn spans(path: &Path) -> Result<Vec<Span>> {
    let all: Vec<Value> = lines(path)?;
    let requests = all.into_iter().filter(|span| span.get("name").is_some_and(|name| name == "llm_request"));
    requests
        .map(|span| {
            let attributes = span.get("attributes").context("a span without attributes")?;
            Ok(serde_json::from_value(attributes.clone())?)
        })
        .collect()
}

/// vLLM's counters and sums by name, over all labels.
pub(crate) fn counters(text: &str) -> HashMap<String, f64> {
    let mut sums = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("vllm:")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let rest = line.rsplit_once("} ").or_else(|| line.split_once(' ')).map(|(_, rest)| rest).unwrap_or_default();
        let value = rest.split(' ').next().and_then(|value| value.parse::<f64>().ok());
        if let Some(value) = value.filter(|_| !name.ends_with("_bucket")) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}
