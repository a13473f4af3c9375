//! NVML in, [`Sample`]s of each GPU out; a side line that never blocks the others.
//!
//! Three tiers, each with an instant of its own: about ten times a second what only the driver counts
//! (energy, power, held-down clocks, bytes), once a second how the GPU stands ([`Now`]), every ten
//! seconds what changes slowly ([`Health`]).

use crate::clock::MonoNs;
use crate::ident::Pid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub mod counter;
pub mod library;
pub mod nvml;
pub mod process;
pub mod reason;
pub mod sampler;
pub mod xid;

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
    /// When the fast tier was read.
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
    /// All else, which a request's record does not carry.
    #[serde(skip)]
    pub more: More,
}

impl Sample {
    /// Memory in use that no known process answers for; with those of the processes it sums to what is in use.
    pub fn unattributed_bytes(&self) -> Option<u64> {
        let known = self.processes.iter().filter_map(|process| process.memory_bytes).sum();
        // Of the processes and of the whole NVML tells one after the other, so the parts may be more for a moment.
        self.memory_used_bytes.map(|used| used.saturating_sub(known))
    }

    /// Utilization that no known process answers for; unknown where no process tells its share.
    pub fn unattributed_utilization(&self) -> Option<f64> {
        let known: Vec<f64> = self.processes.iter().filter_map(|process| process.sm_utilization).collect();
        self.utilization.filter(|_| !known.is_empty()).map(|busy| (busy - known.iter().sum::<f64>()).max(0.0))
    }
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

/// What a reader of the node wants to know of a GPU beside what a request carries.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct More {
    /// Power averaged by the driver over about a second, watts.
    pub power_average_watts: Option<f64>,
    /// Power of the whole module, with its processor, where GPU and processor share one, watts.
    pub power_module_watts: Option<f64>,
    /// Temperature of the memory, degrees Celsius.
    pub memory_temperature_celsius: Option<f64>,
    /// Bytes over PCIe since the driver was loaded: only rise.
    pub pcie: Traffic,
    /// Bytes of data over all NVLinks: only rise.
    pub nvlink: Traffic,
    /// Critical errors seen since the agent started, by code.
    pub xids: Arc<BTreeMap<u64, Xid>>,
    /// What asking NVML costs and how often it refuses, by call.
    pub calls: Arc<BTreeMap<&'static str, Calls>>,
    /// The tier of one second.
    pub now: Arc<Now>,
    /// The tier of ten seconds.
    pub health: Arc<Health>,
}

/// Bytes in each direction, as the GPU sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Towards the GPU.
    pub received_bytes: Option<u64>,
    /// From the GPU.
    pub sent_bytes: Option<u64>,
}

/// One critical error code of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Xid {
    /// How often it came.
    pub count: u64,
    /// When it last came.
    pub last: MonoNs,
}

/// One call into NVML on one GPU since NVML was last opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Calls {
    /// How often it was made.
    pub count: u64,
    /// Nanoseconds it took in all.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How often it failed.
    pub errors: u64,
    /// What it said last when it failed.
    pub last_error: Option<String>,
    /// Not asked again before NVML is opened anew, because it said that it never will answer.
    pub refused: bool,
}

/// The tier of one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Now {
    /// When it was read; `None` before the first time.
    pub at: Option<MonoNs>,
    /// Bytes of memory that are free.
    pub memory_free_bytes: Option<u64>,
    /// Bytes of memory that the driver keeps for itself.
    pub memory_reserved_bytes: Option<u64>,
    /// Temperature of the chip, degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Clocks by domain, hertz.
    pub clocks_hertz: BTreeMap<&'static str, f64>,
    /// Whether each reason holds the clocks down at this moment; empty when unknown.
    pub clock_events: BTreeMap<&'static str, bool>,
    /// Activity between the last two readings, where the GPU has counters for it (Hopper and later).
    pub activity: Activity,
    /// More of each process of [`Sample::processes`].
    pub processes: Vec<ProcessMore>,
    /// Processes that NVML named and that are none of this host's, or cannot be told apart.
    pub processes_unknown: u32,
    /// MIG instances; empty without MIG.
    pub instances: Vec<Instance>,
}

/// Shares of time, 0 to 1, between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Activity {
    /// Any engine of graphics or compute busy.
    pub graphics: Option<f64>,
    /// Multiprocessors with at least one warp, averaged over all of them.
    pub sm: Option<f64>,
    /// Warps resident, of those that would fit.
    pub sm_occupancy: Option<f64>,
    /// Tensor cores busy.
    pub tensor: Option<f64>,
    /// Memory bandwidth used, of what there is.
    pub dram: Option<f64>,
}

/// What else one process takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessMore {
    /// The process, by its number on the host.
    pub pid: Pid,
    /// Share of time with the memory busy for it.
    pub memory_utilization: Option<f64>,
    /// Share of the encoder's time.
    pub encoder_utilization: Option<f64>,
    /// Share of the decoder's time.
    pub decoder_utilization: Option<f64>,
    /// The MIG instance it runs on.
    pub gpu_instance: Option<u32>,
    /// The compute instance in it.
    pub compute_instance: Option<u32>,
}

/// One MIG instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Instance {
    /// GPU instance.
    pub gi: u32,
    /// Compute instance in it.
    pub ci: u32,
    /// `MIG-…`.
    pub uuid: Option<String>,
    /// Profile and product.
    pub name: Option<String>,
    /// Bytes of memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Bytes of memory in all.
    pub memory_total_bytes: Option<u64>,
    /// Its activity.
    pub activity: Activity,
}

/// The tier of ten seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Health {
    /// When it was read; `None` before the first time.
    pub at: Option<MonoNs>,
    /// Errors of memory, by how long they are counted and by kind.
    pub ecc: Ecc,
    /// Rows of memory that were replaced.
    pub remaps: Remaps,
    /// What the driver wants done: 0 nothing, 1 reset, 2 reboot, 3 drain peer-to-peer, 4 drain and reset.
    pub recovery_action: Option<u64>,
    /// Power limits by kind, watts.
    pub power_limit_watts: BTreeMap<&'static str, f64>,
    /// Highest clocks by domain, hertz.
    pub clocks_max_hertz: BTreeMap<&'static str, f64>,
    /// Times that PCIe had to send again.
    pub pcie_replays: Option<u64>,
    /// The link as it is.
    pub pcie_generation: Option<u32>,
    /// Its lanes.
    pub pcie_width: Option<u32>,
    /// Where it is plugged in.
    pub pci_bus_id: Option<String>,
    /// The number on the board.
    pub serial: Option<String>,
    /// Firmware.
    pub vbios: Option<String>,
    /// Whether it is divided.
    pub mig: Option<bool>,
}

/// Errors of memory: corrected and not, since the driver was loaded and for life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ecc {
    /// Corrected, since the driver was loaded: only rises while the agent runs.
    pub corrected: Option<u64>,
    /// Uncorrected, since the driver was loaded: only rises while the agent runs.
    pub uncorrected: Option<u64>,
    /// Corrected, in the GPU's life.
    pub corrected_lifetime: Option<u64>,
    /// Uncorrected, in the GPU's life.
    pub uncorrected_lifetime: Option<u64>,
}

/// Rows of memory that were replaced by spare ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Remaps {
    /// For corrected errors.
    pub corrected: Option<u64>,
    /// For uncorrected errors.
    pub uncorrected: Option<u64>,
    /// One waits for a reset.
    pub pending: Option<bool>,
    /// One failed: the GPU should be replaced.
    pub failed: Option<bool>,
}

/// A GPU that the driver lists and that does not answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lost {
    /// Position in NVML's list.
    pub index: u32,
    /// `GPU-…`, where it was ever told.
    pub uuid: Option<String>,
    /// Product name.
    pub name: Option<String>,
    /// What it says instead.
    pub why: String,
    /// Critical errors seen since the agent started, by code.
    pub xids: Arc<BTreeMap<u64, Xid>>,
}

/// What is known about the GPUs of this node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// NVML answers.
    Present {
        /// Driver version.
        driver: Option<String>,
        /// The GPUs that answer.
        gpus: Vec<Sample>,
        /// The others.
        lost: Vec<Lost>,
    },
    /// There is no NVML, or it does not answer.
    Absent {
        /// One sentence.
        why: String,
    },
}
