//! An engine's own `/metrics` in, [`Sample`]s out; a side line that checks what the probes see.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use serde::Serialize;

pub mod names;
pub mod scrape;
pub mod text;

pub use scrape::run;

/// An engine's gauges at one scrape; what it does not export is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The engine.
    pub engine: EngineId,
    /// When it was read.
    pub at: MonoNs,
    /// Requests running.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Names of the models it serves, from its labels.
    pub models: Vec<String>,
}
