//! Events. Scenario names: `event_types`, `register_events`, `event_wait` (of no GPU).

use crate::abi;
use crate::abi::Return;
use crate::device;
use crate::device::Device;
use crate::load;
use crate::session;
use std::ffi::c_uint;
use std::ffi::c_ulonglong;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// `nvmlEventTypeXidCriticalError`
const XID: c_ulonglong = 8;
/// What a driver of tomorrow has: all of today's, and a bit that no header knows.
const TYPES: c_ulonglong = 0x1ff | 1 << 40;
const POLL: Duration = Duration::from_millis(2);

/// Whose events are waited for, and how many of each came.
struct Set(Mutex<Vec<(usize, usize)>>);

/// `nvmlEventData_t`
#[repr(C)]
struct Data {
    device: Device,
    kind: c_ulonglong,
    code: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

const _: () = assert!(size_of::<Data>() == 32);

/// `nvmlEventSetCreate`
///
/// # Safety
/// As in `nvml.h`: `set` points to one writable handle.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut *mut Set) -> Return {
    session::HELD.fetch_add(1, Ordering::Relaxed);
    // SAFETY: passed on.
    unsafe { abi::put(set, Box::into_raw(Box::new(Set(Mutex::default())))) }
}

/// `nvmlEventSetFree`
///
/// # Safety
/// As in `nvml.h`: `set` came from `nvmlEventSetCreate` and was not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetFree(set: *mut Set) -> Return {
    if set.is_null() {
        return abi::INVALID_ARGUMENT;
    }
    session::HELD.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the caller vouches that it is a box of ours.
    drop(unsafe { Box::from_raw(set) });
    abi::SUCCESS
}

/// `nvmlDeviceGetSupportedEventTypes`
///
/// # Safety
/// As in `nvml.h`: `types` points to one writable number.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Device, types: *mut c_ulonglong) -> Return {
    match session::gpu(device, "event_types") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put(types, TYPES) },
        Err(code) => code,
    }
}

/// `nvmlDeviceRegisterEvents`
///
/// # Safety
/// As in `nvml.h`: `set` came from `nvmlEventSetCreate`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceRegisterEvents(device: Device, _types: c_ulonglong, set: *mut Set) -> Return {
    // SAFETY: null, or a box of ours.
    let Some(set) = (unsafe { set.as_ref() }) else { return abi::INVALID_ARGUMENT };
    match session::gpu(device, "register_events") {
        Ok(_) => {
            set.0.lock().unwrap_or_else(PoisonError::into_inner).push((device::index(device), 0));
            abi::SUCCESS
        }
        Err(code) => code,
    }
}

/// `nvmlEventSetWait_v2`
///
/// # Safety
/// As in `nvml.h`: `set` came from `nvmlEventSetCreate`, `data` points to one writable structure.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(set: *mut Set, data: *mut Data, timeout_ms: c_uint) -> Return {
    // SAFETY: null, or a box of ours.
    let Some(set) = (unsafe { set.as_ref() }) else { return abi::INVALID_ARGUMENT };
    let until = load::now_ns() + u64::from(timeout_ms) * 1_000_000;
    loop {
        let scenario = match session::system("event_wait") {
            Ok(scenario) => scenario,
            Err(code) => return code,
        };
        for (index, seen) in set.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if let Some(code) = scenario.gpu.get(*index).and_then(|gpu| gpu.xids.get(*seen)) {
                *seen += 1;
                let device = device::whole(*index);
                let event =
                    Data { device, kind: XID, code: *code, gpu_instance: c_uint::MAX, compute_instance: c_uint::MAX };
                // SAFETY: passed on.
                return unsafe { abi::put(data, event) };
            }
        }
        if load::now_ns() >= until {
            return abi::TIMEOUT;
        }
        thread::sleep(POLL);
    }
}
