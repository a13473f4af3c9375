//! A TOML file in, the GPUs and the answers of one moment out.
//!
//! ```toml
//! driver = "580.95.05"
//! answers = { init = "driver_not_loaded" }   # calls that concern no GPU: init, driver_version, count
//!
//! [[gpu]]
//! uuid = "GPU-0"
//! name = "Stub H100"
//! memory_total_bytes = 85899345920
//! memory_used_bytes = 1073741824
//! utilization_percent = 37
//! answers = { utilization = "not_supported", all = "gpu_is_lost", memory = "hang" }
//! ```
//!
//! `answers` names calls and what they return instead of a value: a code of `nvml.h` in lower case, or `hang`, which
//! holds the caller for as long as the file says so, or `slow 250`, which holds it for so many milliseconds. `all` stands for every call on that GPU. The file is read at each
//! call, so a test changes the machine by replacing the file (write another, rename it: a half-written one is an error).
//!
//! It is `$NVML_STUB_SCENARIO`, or else lies beside the library: `libx.so` → `libx.so.toml`. The second way gives each
//! copy of the library in one process a machine of its own.

use crate::abi;
use crate::abi::Return;
use crate::load::Load;
use crate::session;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::env;
use std::ffi::CStr;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::ptr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

/// Calls by name, and what they return instead of a value.
pub type Answers = BTreeMap<String, String>;

/// One machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Driver version.
    #[serde(default)]
    pub driver: String,
    /// Calls that concern no GPU.
    #[serde(default)]
    pub answers: Answers,
    /// The GPUs, by index.
    #[serde(default)]
    pub gpu: Vec<Gpu>,
}

/// One GPU at one moment. What is a counter says where it stands, or stood at `load.since_ns`; see [`Load`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// Calls on this GPU, and fields of `nvmlDeviceGetFieldValues` as `field_83`.
    pub answers: Answers,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// `nvmlDeviceArchitecture_t`.
    pub architecture: u32,
    /// As `nvidia-smi` writes it.
    pub pci_bus_id: String,
    /// Number of the board.
    pub serial: String,
    /// Firmware.
    pub vbios: String,
    /// Bytes in all.
    pub memory_total_bytes: u64,
    /// Bytes in use.
    pub memory_used_bytes: u64,
    /// Bytes that the driver keeps for itself.
    pub memory_reserved_bytes: u64,
    /// Percent of time with a kernel running.
    pub utilization_percent: u32,
    /// Percent of time with memory being read or written.
    pub memory_utilization_percent: u32,
    /// Power drawn under full load, or always.
    pub power_milliwatts: u32,
    /// Power drawn without load.
    pub idle_milliwatts: u32,
    /// Power averaged over a second.
    pub power_average_milliwatts: u32,
    /// Power of the module that holds GPU and processor; without it there is no such module.
    pub module_milliwatts: Option<u32>,
    /// Enforced, requested, by default.
    pub power_limits_milliwatts: [u32; 3],
    /// A counter.
    pub energy_millijoules: u64,
    /// Of the chip.
    pub temperature_celsius: i32,
    /// Of the memory.
    pub memory_temperature_celsius: u32,
    /// Graphics, SM, memory, video.
    pub clocks_megahertz: [u32; 4],
    /// The highest of each.
    pub clocks_max_megahertz: [u32; 4],
    /// Bits of `nvmlDeviceGetCurrentClocksEventReasons`.
    pub clock_event_reasons: u64,
    /// Counters: power cap, sync boost, software thermal, hardware thermal, power brake.
    pub clock_event_ns: [u64; 5],
    /// Counters: sent, received.
    pub pcie_bytes: [u64; 2],
    /// Whether they are numbers of 32 bits.
    pub pcie_narrow: bool,
    /// Counters over all links: sent, received.
    pub nvlink_kibibytes: [u64; 2],
    /// A counter.
    pub pcie_replays: u32,
    /// Generation and lanes.
    pub pcie_link: [u32; 2],
    /// Corrected and uncorrected since the driver was loaded, and the same for life.
    pub ecc_errors: [u64; 4],
    /// Corrected, uncorrected, pending, failed.
    pub remapped_rows: [u32; 4],
    /// `nvmlDeviceGpuRecoveryAction_t`.
    pub recovery_action: u32,
    /// Percent of graphics, SM, occupancy, tensor, memory; without it the GPU has no such counters.
    pub activity_percent: Option<[f64; 5]>,
    /// What computes on it.
    pub process: Vec<Process>,
    /// Whether it can be divided, and is.
    pub mig: Option<bool>,
    /// Its parts.
    pub instance: Vec<Instance>,
    /// Codes of critical errors. A set of events gets all of them, one after the other.
    pub xids: Vec<u64>,
    /// How its counters go on.
    pub load: Load,
}

/// One process on a GPU.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// As NVML tells it.
    pub pid: u32,
    /// Without it, not available.
    pub memory_bytes: Option<u64>,
    /// SM, memory, encoder, decoder; all zero is idle, of which NVML has no sample.
    pub percent: [u32; 4],
    /// GPU instance and compute instance.
    pub instance: Option<[u32; 2]>,
}

/// One MIG instance.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// GPU instance and compute instance.
    pub id: [u32; 2],
    /// `MIG-…`.
    pub uuid: String,
    /// Profile and product.
    pub name: String,
    /// Total, used, reserved.
    pub memory_bytes: [u64; 3],
    /// As of the GPU.
    pub activity_percent: [f64; 5],
}

/// The scenario, once `call` is to have a value of it; else the code that `call` is to return.
pub(crate) fn for_call(call: &str) -> Result<Scenario, Return> {
    settle(|| {
        let scenario = read()?;
        Ok((answer(&scenario.answers, &[call]), scenario))
    })
}

/// The same for a call on one GPU.
pub(crate) fn for_gpu(index: usize, call: &str) -> Result<(Gpu, Scenario), Return> {
    settle(|| {
        let scenario = read()?;
        let gpu = scenario.gpu.get(index).cloned().ok_or(abi::INVALID_ARGUMENT)?;
        Ok((answer(&gpu.answers, &[call, "all"]), (gpu, scenario)))
    })
}

fn answer(answers: &Answers, calls: &[&str]) -> Option<String> {
    calls.iter().find_map(|call| answers.get(*call)).cloned()
}

/// Reads until nothing hangs any more.
fn settle<T>(read: impl Fn() -> Result<(Option<String>, T), Return>) -> Result<T, Return> {
    loop {
        match read()? {
            (None, value) => return Ok(value),
            (Some(hang), _) if hang == "hang" => thread::sleep(Duration::from_millis(5)),
            (Some(slow), value) if slow.starts_with("slow ") => {
                thread::sleep(Duration::from_millis(slow.get(5..).and_then(|ms| ms.parse().ok()).unwrap_or(0)));
                return Ok(value);
            }
            (Some(name), _) => return Err(abi::code(&name).unwrap_or_else(|| complain(&format!("no code {name}")))),
        }
    }
}

/// Number, and seconds and nanoseconds of its last change.
type File = (u64, i64, i64);

/// Which file was read last, and what it says: a replaced one has another number.
static LAST: Mutex<Option<(File, Scenario)>> = Mutex::new(None);

fn read() -> Result<Scenario, Return> {
    let path = path().ok_or_else(|| complain("no scenario"))?;
    let failed = |error: io::Error| match error.kind() {
        // The machine is over, and whoever still waits for its events need not be told.
        io::ErrorKind::NotFound if session::is_open() => abi::UNKNOWN,
        _ => complain(&format!("{}: {error}", path.display())),
    };
    let file = fs::metadata(&path).map_err(failed)?;
    let file = (file.ino(), file.mtime(), file.mtime_nsec());
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, scenario)) = last.as_ref().filter(|(known, _)| *known == file) {
        return Ok(scenario.clone());
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    let scenario: Scenario =
        toml::from_str(&text).map_err(|error| complain(&format!("{}: {error}", path.display())))?;
    *last = Some((file, scenario.clone()));
    Ok(scenario)
}

pub(crate) fn complain(what: &str) -> Return {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "nvml-stub: {what}"));
    abi::UNKNOWN
}

fn path() -> Option<PathBuf> {
    env::var_os("NVML_STUB_SCENARIO").map(PathBuf::from).or_else(beside_library)
}

/// An address inside this library.
static HERE: u8 = 0;

fn beside_library() -> Option<PathBuf> {
    beside(".toml")
}

/// A file beside this library, by what follows the library's own name.
pub(crate) fn beside(ending: &str) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    let here = ptr::from_ref(&HERE).cast();
    // SAFETY: `info` is writable memory for one Dl_info; the address is only looked up.
    if unsafe { libc::dladdr(here, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: zeroes are a valid Dl_info, and dladdr has filled it in.
    let info = unsafe { info.assume_init() };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gives a NUL-terminated path that lives as long as the library is loaded, and this is its code.
    let library = unsafe { CStr::from_ptr(info.dli_fname) };
    let mut path = OsStr::from_bytes(library.to_bytes()).to_owned();
    path.push(ending);
    Some(path.into())
}
