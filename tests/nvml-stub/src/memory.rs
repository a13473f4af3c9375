//! Memory of a GPU. Scenario name: `memory`, for both versions of the call.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::mig;
use crate::session;
use std::ffi::c_uint;

/// `nvmlMemory_t`: reserved bytes count as used.
#[repr(C)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlMemory_v2_t`: reserved bytes stand apart.
#[repr(C)]
struct MemoryV2 {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

/// `NVML_STRUCT_VERSION(Memory, 2)`: the size in the low three bytes, the version above.
const VERSION_2: c_uint = 0x0200_0028;
const _: () = assert!(size_of::<MemoryV2>() == 0x28);

/// `nvmlDeviceGetMemoryInfo`
///
/// # Safety
/// As in `nvml.h`: `memory` points to one writable structure.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Device, memory: *mut Memory) -> Return {
    match session::gpu(device, "memory") {
        Ok(gpu) => {
            let [total, used, reserved] = mig::memory(&gpu, device);
            let used = used.saturating_add(reserved);
            // SAFETY: passed on.
            unsafe { abi::put(memory, Memory { total, free: total.saturating_sub(used), used }) }
        }
        Err(code) => code,
    }
}

/// `nvmlDeviceGetMemoryInfo_v2`
///
/// # Safety
/// As in `nvml.h`: `memory` points to one structure, with its version filled in.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Device, memory: *mut MemoryV2) -> Return {
    // SAFETY: null, or the caller's structure.
    let Some(asked) = (unsafe { memory.as_ref() }) else { return abi::INVALID_ARGUMENT };
    if asked.version != VERSION_2 {
        return abi::ARGUMENT_VERSION_MISMATCH;
    }
    match session::gpu(device, "memory") {
        Ok(gpu) => {
            let [total, used, reserved] = mig::memory(&gpu, device);
            let free = total.saturating_sub(used).saturating_sub(reserved);
            // SAFETY: passed on.
            unsafe { abi::put(memory, MemoryV2 { version: VERSION_2, total, reserved, free, used }) }
        }
        Err(code) => code,
    }
}
