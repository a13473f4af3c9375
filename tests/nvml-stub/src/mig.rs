//! Parts of a divided GPU. Scenario names: `mig_mode`, `max_mig_devices`, `mig_handle`, `instance_id`.

use crate::abi;
use crate::abi::Return;
use crate::device;
use crate::device::Device;
use crate::scenario::Gpu;
use crate::session;
use std::ffi::c_uint;

/// Places for parts, of which some are empty.
const PLACES: c_uint = 7;

/// Total, used and reserved bytes of a GPU or of its part.
pub(crate) fn memory(gpu: &Gpu, device: Device) -> [u64; 3] {
    let part = device::place(device).and_then(|place| gpu.instance.get(place));
    let whole = [gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.memory_reserved_bytes];
    part.map_or(whole, |part| part.memory_bytes)
}

/// `nvmlDeviceGetMigMode`
///
/// # Safety
/// As in `nvml.h`: both point to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(device: Device, current: *mut c_uint, pending: *mut c_uint) -> Return {
    match session::gpu(device, "mig_mode").map(|gpu| gpu.mig) {
        Ok(Some(divided)) => {
            // SAFETY: passed on.
            let _current = unsafe { abi::put(current, c_uint::from(divided)) };
            // SAFETY: passed on.
            unsafe { abi::put(pending, c_uint::from(divided)) }
        }
        Ok(None) => abi::NOT_SUPPORTED,
        Err(code) => code,
    }
}

/// `nvmlDeviceGetMaxMigDeviceCount`
///
/// # Safety
/// As in `nvml.h`: `count` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Device, count: *mut c_uint) -> Return {
    match session::gpu(device, "max_mig_devices") {
        // SAFETY: passed on.
        Ok(gpu) => unsafe { abi::put(count, if gpu.mig.is_some() { PLACES } else { 0 }) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`: the first place is empty.
///
/// # Safety
/// As in `nvml.h`: `part` points to one writable handle.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(device: Device, place: c_uint, part: *mut Device) -> Return {
    match session::gpu(device, "mig_handle") {
        Ok(gpu) => match (place as usize).checked_sub(1).filter(|place| *place < gpu.instance.len()) {
            // SAFETY: passed on.
            Some(place) => unsafe { abi::put(part, device::part(device, place)) },
            None => abi::NOT_FOUND,
        },
        Err(code) => code,
    }
}

/// `nvmlDeviceIsMigDeviceHandle`
///
/// # Safety
/// As in `nvml.h`: `is` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Device, is: *mut c_uint) -> Return {
    // SAFETY: passed on.
    unsafe { abi::put(is, c_uint::from(device::place(device).is_some())) }
}

/// `nvmlDeviceGetGpuInstanceId`
///
/// # Safety
/// As in `nvml.h`: `id` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: Device, id: *mut c_uint) -> Return {
    // SAFETY: passed on.
    unsafe { put_id(device, id, 0) }
}

/// `nvmlDeviceGetComputeInstanceId`
///
/// # Safety
/// As in `nvml.h`: `id` points to one writable integer.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(device: Device, id: *mut c_uint) -> Return {
    // SAFETY: passed on.
    unsafe { put_id(device, id, 1) }
}

/// # Safety
/// `id` is null, or points to one writable integer.
unsafe fn put_id(device: Device, id: *mut c_uint, which: usize) -> Return {
    let part = |gpu: Gpu| Some(*gpu.instance.get(device::place(device)?)?.id.get(which)?);
    match session::gpu(device, "instance_id").map(part) {
        // SAFETY: passed on.
        Ok(Some(number)) => unsafe { abi::put(id, number) },
        Ok(None) => abi::NOT_SUPPORTED,
        Err(code) => code,
    }
}
