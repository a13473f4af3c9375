//! Names of things: what identifies a process, a connection, an engine.

use serde::Serialize;
use std::fmt;

/// A process as the host numbers it (the thread group id of the initial pid namespace).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process for good: a reused pid has another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProcessId {
    /// The host's pid.
    pub pid: Pid,
    /// Clock ticks after boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

/// A connection for good: a reused descriptor has another opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn {
    /// The process that holds it.
    pub pid: Pid,
    /// Its descriptor there.
    pub fd: i32,
    /// When the kernel side first saw it, CLOCK_MONOTONIC nanoseconds.
    pub opened_ns: u64,
}

/// What serves the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// vLLM, with either front end: wire and engine messages.
    Vllm,
    /// Any other OpenAI-compatible server, named by the operator: wire only.
    Other,
}

impl EngineKind {
    /// The value of `gen_ai.provider.name` and of the label `engine`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Other => "other",
        }
    }
}

/// An engine as a whole: its root process stands for all of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EngineId(pub ProcessId);

/// What a process does in its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves HTTP.
    Frontend,
    /// Schedules and steps the model.
    Core,
}
