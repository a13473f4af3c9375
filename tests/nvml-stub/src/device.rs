//! Which GPUs there are and their handles. Scenario names: `count`, and per GPU `handle`.

use crate::abi;
use crate::abi::Return;
use crate::session;
use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_uint;
use std::ffi::c_void;
use std::ptr;

/// `nvmlDevice_t`: opaque to callers. Here the index + 1, so that no handle is null; and above it, of a MIG device, its
/// place + 1.
pub(crate) type Device = *mut c_void;

const PLACE: usize = 16;

/// The index behind a handle; a null handle is nobody's.
pub(crate) fn index(device: Device) -> usize {
    (device.addr() & ((1 << PLACE) - 1)).wrapping_sub(1)
}

/// The place behind the handle of a MIG device.
pub(crate) fn place(device: Device) -> Option<usize> {
    (device.addr() >> PLACE).checked_sub(1)
}

/// The handle of a place in a GPU.
pub(crate) fn part(device: Device, place: usize) -> Device {
    ptr::without_provenance_mut(device.addr() | (place + 1) << PLACE)
}

/// The handle of a GPU.
pub(crate) fn whole(index: usize) -> Device {
    ptr::without_provenance_mut(index + 1)
}

/// `nvmlDeviceGetCount_v2`
///
/// # Safety
/// As in `nvml.h`: `count` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    match session::system("count") {
        // SAFETY: passed on.
        Ok(scenario) => unsafe { abi::put(count, c_uint::try_from(scenario.gpu.len()).unwrap_or(c_uint::MAX)) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetHandleByIndex_v2`
///
/// # Safety
/// As in `nvml.h`: `device` points to one writable handle.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> Return {
    let handle = whole(index as usize);
    match session::gpu(handle, "handle") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put(device, handle) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetHandleByUUID`
///
/// # Safety
/// As in `nvml.h`: `uuid` points to a NUL-terminated text, `device` to one writable handle.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Device) -> Return {
    // SAFETY: the caller vouches for the text.
    let uuid = unsafe { CStr::from_ptr(uuid) };
    let found = session::system("count")
        .map(|scenario| scenario.gpu.iter().position(|gpu| gpu.uuid.as_bytes() == uuid.to_bytes()));
    match found {
        // SAFETY: passed on.
        Ok(Some(index)) => unsafe { abi::put(device, whole(index)) },
        Ok(None) => abi::NOT_FOUND,
        Err(code) => code,
    }
}

/// `nvmlDeviceGetIndex`
///
/// # Safety
/// As in `nvml.h`: `out` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetIndex(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    unsafe { put_index(device, out) }
}

/// `nvmlDeviceGetMinorNumber`
///
/// # Safety
/// As in `nvml.h`: `out` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    unsafe { put_index(device, out) }
}

/// # Safety
/// `out` is null, or points to one writable integer.
unsafe fn put_index(device: Device, out: *mut c_uint) -> Return {
    match session::gpu(device, "index") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put(out, c_uint::try_from(index(device)).unwrap_or(c_uint::MAX)) },
        Err(code) => code,
    }
}
