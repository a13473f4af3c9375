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
//! holds the caller for as long as the file says so. `all` stands for every call on that GPU. The file is read at each
//! call, so a test changes the machine by replacing the file (write another, rename it: a half-written one is an error).
//!
//! It is `$NVML_STUB_SCENARIO`, or else lies beside the library: `libx.so` → `libx.so.toml`. The second way gives each
//! copy of the library in one process a machine of its own.

use crate::abi;
use crate::abi::Return;
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
use std::path::PathBuf;
use std::ptr;
use std::thread;
use std::time::Duration;

/// Calls by name, and what they return instead of a value.
pub type Answers = BTreeMap<String, String>;

/// One machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
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

/// One GPU at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// Calls on this GPU.
    pub answers: Answers,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub name: String,
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
}

/// The scenario, once `call` is to have a value of it; else the code that `call` is to return.
pub(crate) fn for_call(call: &str) -> Result<Scenario, Return> {
    settle(|| {
        let scenario = read()?;
        Ok((answer(&scenario.answers, &[call]), scenario))
    })
}

/// The same for a call on one GPU.
pub(crate) fn for_gpu(index: usize, call: &str) -> Result<Gpu, Return> {
    settle(|| {
        let gpu = read()?.gpu.into_iter().nth(index).ok_or(abi::INVALID_ARGUMENT)?;
        Ok((answer(&gpu.answers, &[call, "all"]), gpu))
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
            (Some(name), _) => return Err(abi::code(&name).unwrap_or_else(|| complain(&format!("no code {name}")))),
        }
    }
}

fn read() -> Result<Scenario, Return> {
    let path = path().ok_or_else(|| complain("no scenario"))?;
    let text = fs::read_to_string(&path).map_err(|error| complain(&format!("{}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| complain(&format!("{}: {error}", path.display())))
}

fn complain(what: &str) -> Return {
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
    path.push(".toml");
    Some(path.into())
}
