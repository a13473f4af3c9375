//! How busy a GPU is. Scenario name: `utilization`.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::session;
use std::ffi::c_uint;

/// `nvmlUtilization_t`, in percent.
#[repr(C)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlDeviceGetUtilizationRates`
///
/// # Safety
/// As in `nvml.h`: `rates` points to one writable structure.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Device, rates: *mut Utilization) -> Return {
    match session::gpu(device, "utilization") {
        Ok(gpu) => {
            let rates_now = Utilization {
                gpu: gpu.load.percent().unwrap_or(gpu.utilization_percent),
                memory: gpu.memory_utilization_percent,
            };
            // SAFETY: passed on.
            unsafe { abi::put(rates, rates_now) }
        }
        Err(code) => code,
    }
}
