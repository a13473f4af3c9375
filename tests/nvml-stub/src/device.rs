//! Which GPUs there are and who they are. Scenario names: `count`, and per GPU `handle`, `name`, `uuid`.

use crate::abi;
use crate::abi::Return;
use crate::session;
use std::ffi::c_char;
use std::ffi::c_uint;
use std::ffi::c_void;
use std::ptr;

/// `nvmlDevice_t`: opaque to callers, index + 1 here, so that no handle is null.
pub(crate) type Device = *mut c_void;

/// The index behind a handle; a null handle is nobody's.
pub(crate) fn index(device: Device) -> usize {
    device.addr().wrapping_sub(1)
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
    match session::gpu(index as usize, "handle") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put(device, ptr::without_provenance_mut(index as usize + 1)) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetName`
///
/// # Safety
/// As in `nvml.h`: `name` points to `length` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device: Device, name: *mut c_char, length: c_uint) -> Return {
    match session::gpu(index(device), "name") {
        // SAFETY: passed on.
        Ok(gpu) => unsafe { abi::put_text(name, length, &gpu.name) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetUUID`
///
/// # Safety
/// As in `nvml.h`: `uuid` points to `length` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> Return {
    match session::gpu(index(device), "uuid") {
        // SAFETY: passed on.
        Ok(gpu) => unsafe { abi::put_text(uuid, length, &gpu.uuid) },
        Err(code) => code,
    }
}
