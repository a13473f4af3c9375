//! Start, end, and what concerns the system as a whole. Scenario names: `init`, `driver_version`.

use crate::abi;
use crate::abi::Return;
use crate::scenario;
use crate::scenario::Gpu;
use crate::scenario::Scenario;
use std::ffi::c_char;
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
pub(crate) fn gpu(index: usize, call: &str) -> Result<Gpu, Return> {
    started()?;
    scenario::for_gpu(index, call)
}

fn started() -> Result<(), Return> {
    if USERS.load(Ordering::Relaxed) == 0 { Err(abi::UNINITIALIZED) } else { Ok(()) }
}

/// `nvmlInit_v2`
#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Return {
    match scenario::for_call("init") {
        Ok(_) => {
            USERS.fetch_add(1, Ordering::Relaxed);
            abi::SUCCESS
        }
        Err(code) => code,
    }
}

/// `nvmlInitWithFlags`: no flag changes anything here.
#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    nvmlInit_v2()
}

/// `nvmlShutdown`
#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Return {
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
