//! Start, end, and what concerns the system as a whole. Scenario names: `init`, `driver_version`, `nvml_version`,
//! `cuda_version`.

use crate::abi;
use crate::abi::Return;
use crate::device;
use crate::device::Device;
use crate::scenario;
use crate::scenario::Gpu;
use crate::scenario::Scenario;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_uint;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Open sessions: NVML counts its users.
static USERS: AtomicU32 = AtomicU32::new(0);

/// The scenario for a call that concerns no GPU, if the library was started.
pub(crate) fn system(call: &str) -> Result<Scenario, Return> {
    started()?;
    scenario::for_call(call)
}

/// The GPU of a call on one, if the library was started.
pub(crate) fn gpu(device: Device, call: &str) -> Result<Gpu, Return> {
    both(device, call).map(|(gpu, _)| gpu)
}

/// The GPU, and the machine that it is in.
pub(crate) fn both(device: Device, call: &str) -> Result<(Gpu, Scenario), Return> {
    started()?;
    scenario::for_gpu(device::index(device), call)
}

/// What callers made and did not give back; said in a file beside the library when the session ends.
pub(crate) static HELD: AtomicU32 = AtomicU32::new(0);

fn started() -> Result<(), Return> {
    if is_open() { Ok(()) } else { Err(abi::UNINITIALIZED) }
}

/// Whether anybody uses it.
pub(crate) fn is_open() -> bool {
    USERS.load(Ordering::Relaxed) > 0
}

// Exported functions do not call each other: a test may take one away.
fn open() -> Return {
    match scenario::for_call("init") {
        Ok(_) => {
            USERS.fetch_add(1, Ordering::Relaxed);
            abi::SUCCESS
        }
        Err(code) => code,
    }
}

/// `nvmlInit_v2`
#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Return {
    open()
}

/// `nvmlInitWithFlags`: no flag changes anything here.
#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    open()
}

/// `nvmlShutdown`
#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Return {
    let held = HELD.load(Ordering::Relaxed);
    if let Some(path) = scenario::beside(".held").filter(|_| held > 0) {
        // Whoever looks for it finds it or not.
        drop(std::fs::write(path, held.to_string()));
    }
    let ended = USERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |users| users.checked_sub(1));
    if ended.is_ok() { abi::SUCCESS } else { abi::UNINITIALIZED }
}

/// `nvmlErrorString`
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: Return) -> *const c_char {
    let known = abi::CODES.iter().find(|(known, ..)| *known == code);
    known.map_or(c"Unknown Error", |(.., text)| text).as_ptr()
}

/// `nvmlSystemGetDriverVersion`
///
/// # Safety
/// As in `nvml.h`: `version` points to `length` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Return {
    match system("driver_version") {
        // SAFETY: passed on.
        Ok(scenario) => unsafe { abi::put_text(version, length, &scenario.driver) },
        Err(code) => code,
    }
}

/// `nvmlSystemGetNVMLVersion`
///
/// # Safety
/// As in `nvml.h`: `version` points to `length` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> Return {
    match system("nvml_version") {
        // SAFETY: passed on.
        Ok(scenario) => unsafe { abi::put_text(version, length, &format!("13.{}", scenario.driver)) },
        Err(code) => code,
    }
}

/// `nvmlSystemGetCudaDriverVersion`
///
/// # Safety
/// As in `nvml.h`: `version` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Return {
    // SAFETY: passed on.
    unsafe { put_cuda_version(version) }
}

/// `nvmlSystemGetCudaDriverVersion_v2`
///
/// # Safety
/// As in `nvml.h`: `version` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Return {
    // SAFETY: passed on.
    unsafe { put_cuda_version(version) }
}

/// # Safety
/// `version` is null, or points to one writable integer.
unsafe fn put_cuda_version(version: *mut c_int) -> Return {
    match system("cuda_version") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put(version, 13_000) },
        Err(code) => code,
    }
}
