//! NVML in, [`Sample`]s of each GPU out; a side line that never blocks the others.

use crate::clock::MonoNs;
use crate::ident::Pid;
use serde::Serialize;
use std::collections::BTreeMap;

pub mod nvml;
pub mod sampler;

pub use sampler::run;

/// One GPU at one instant; what this GPU or driver does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Position in NVML's list.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub name: Option<String>,
    /// When it was read.
    pub at: MonoNs,
    /// Bytes of memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Bytes of memory in all.
    pub memory_total_bytes: Option<u64>,
    /// Share of the last sampling period with a kernel running, 0 to 1.
    pub utilization: Option<f64>,
    /// Share of the last sampling period with memory being read or written, 0 to 1.
    pub memory_utilization: Option<f64>,
    /// Power drawn now, watts.
    pub power_watts: Option<f64>,
    /// Energy used, joules: only rises, from wherever the driver's counter stood.
    pub energy_joules: Option<f64>,
    /// Clock of the streaming multiprocessors, hertz.
    pub sm_clock_hertz: Option<f64>,
    /// Seconds for which the clocks were held down, by reason: only rise.
    pub clock_event_seconds: BTreeMap<&'static str, f64>,
    /// Processes that compute on it.
    pub processes: Vec<ProcessUse>,
}

/// What one process takes of one GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessUse {
    /// The process, by its number on the host.
    pub pid: Pid,
    /// Bytes of memory it holds.
    pub memory_bytes: Option<u64>,
    /// Its share of the multiprocessors' time, 0 to 1.
    pub sm_utilization: Option<f64>,
}

/// What is known about the GPUs of this node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// NVML answers.
    Present {
        /// Driver version.
        driver: Option<String>,
        /// The GPUs.
        gpus: Vec<Sample>,
    },
    /// There is no NVML, or it does not answer.
    Absent {
        /// One sentence.
        why: String,
    },
}
