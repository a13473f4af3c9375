//! An engine's own `/metrics` in, [`Sample`]s out; a side line that checks what the probes see.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use serde::Serialize;
use std::collections::BTreeMap;

pub mod collect;
pub mod facts;
pub mod known;
pub mod names;
pub mod scrape;
pub mod text;

pub use facts::Facts;
pub use scrape::run;

/// What an engine says of itself at one scrape; what it does not export is `None`.
///
/// Counts of requests, tokens and seconds are over all its ranks, and the counters since the engine began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The engine.
    pub engine: EngineId,
    /// When it was asked.
    pub asked: MonoNs,
    /// When it had answered.
    pub at: MonoNs,
    /// Whose names they are: `vllm`, `sglang`, `tgi`, `llama.cpp`, `trtllm`, `triton`, `nim`.
    pub dialect: &'static str,
    /// Requests running.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Share of KV blocks in use, 0 to 1, of the fullest rank.
    pub kv_usage: Option<f64>,
    /// The three gauges of each rank that schedules for itself; one without a name where there are none.
    pub ranks: BTreeMap<String, Rank>,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: Option<f64>,
    /// Prompt tokens found there.
    pub prefix_hits: Option<f64>,
    /// Requests that lost their room.
    pub preemptions: Option<f64>,
    /// Prompt tokens.
    pub prompt_tokens: Option<f64>,
    /// Tokens made.
    pub generation_tokens: Option<f64>,
    /// Requests that ended, by reason; `any` where the engine does not tell them apart.
    pub finished: BTreeMap<String, f64>,
    /// Time to the first token.
    pub ttft: Option<Sums>,
    /// Time queued.
    pub queue: Option<Sums>,
    /// Time of prefill.
    pub prefill: Option<Sums>,
    /// Time of decode.
    pub decode: Option<Sums>,
    /// LoRA adapters in use.
    pub lora: Option<Lora>,
    /// Settings of the KV cache, by the engine's own names.
    pub cache: BTreeMap<&'static str, String>,
    /// Names of the models it serves, from its labels, sorted; at most 64.
    pub models: Vec<String>,
    /// Names that the table does not know.
    pub unknown: Unknown,
}

impl Sample {
    /// One that says nothing.
    pub fn new(engine: EngineId, asked: MonoNs, at: MonoNs) -> Self {
        Self {
            engine,
            asked,
            at,
            dialect: "",
            running: None,
            waiting: None,
            kv_usage: None,
            ranks: BTreeMap::new(),
            prefix_queries: None,
            prefix_hits: None,
            preemptions: None,
            prompt_tokens: None,
            generation_tokens: None,
            finished: BTreeMap::new(),
            ttft: None,
            queue: None,
            prefill: None,
            decode: None,
            lora: None,
            cache: BTreeMap::new(),
            models: Vec::new(),
            unknown: Unknown::default(),
        }
    }
}

/// The gauges of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Rank {
    /// Requests running.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: Option<f64>,
}

/// Observations of a duration since the engine began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sums {
    /// Their sum.
    pub seconds: f64,
    /// How many; some engines count them nowhere.
    pub count: Option<f64>,
}

/// LoRA adapters as the engine last told; each list has at most 64 names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Lora {
    /// How many may be loaded at once.
    pub max: Option<u64>,
    /// Adapters of running requests.
    pub running: Vec<String>,
    /// Adapters of waiting requests.
    pub waiting: Vec<String>,
}

/// Names on a page that the table does not know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Unknown {
    /// How many there are.
    pub count: usize,
    /// The first of them in their order, at most 32.
    pub names: Vec<String>,
}
