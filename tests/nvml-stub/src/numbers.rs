//! Numbers of a GPU, one call each. Each function's scenario name stands beside it.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::load;
use crate::scenario::Gpu;
use crate::session;
use std::ffi::c_int;
use std::ffi::c_uint;
use std::ffi::c_ulonglong;

macro_rules! numbers {
    ($($function:ident $call:literal ($($which:ident),*) -> $type:ty = $value:expr;)*) => {$(
        #[doc = concat!("`", stringify!($function), "`")]
        ///
        /// # Safety
        /// As in `nvml.h`: `out` points to one writable number.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(device: Device, $($which: c_uint,)* out: *mut $type) -> Return {
            let value: fn(&Gpu $(, numbers!(@kind $which))*) -> Option<$type> = $value;
            match session::gpu(device, $call).map(|gpu| value(&gpu $(, $which as usize)*)) {
                // SAFETY: passed on.
                Ok(Some(value)) => unsafe { abi::put(out, value) },
                Ok(None) => abi::NOT_SUPPORTED,
                Err(code) => code,
            }
        }
    )*};
    (@kind $which:ident) => { usize };
}

numbers! {
    nvmlDeviceGetArchitecture "architecture" () -> c_uint = |gpu| Some(gpu.architecture);
    nvmlDeviceGetPowerUsage "power_usage" () -> c_uint = |gpu| Some(power(gpu));
    nvmlDeviceGetEnforcedPowerLimit "enforced_power_limit" () -> c_uint = |gpu| Some(gpu.power_limits_milliwatts[0]);
    nvmlDeviceGetPowerManagementLimit "power_limit" () -> c_uint = |gpu| Some(gpu.power_limits_milliwatts[1]);
    nvmlDeviceGetPowerManagementDefaultLimit "power_limit_default" () -> c_uint =
        |gpu| Some(gpu.power_limits_milliwatts[2]);
    nvmlDeviceGetTotalEnergyConsumption "energy" () -> c_ulonglong = |gpu| Some(energy(gpu));
    nvmlDeviceGetTemperature "temperature" (sensor) -> c_uint =
        |gpu, sensor| c_uint::try_from(gpu.temperature_celsius).ok().filter(|_| sensor == 0);
    nvmlDeviceGetClockInfo "clock" (domain) -> c_uint = |gpu, domain| gpu.clocks_megahertz.get(domain).copied();
    nvmlDeviceGetMaxClockInfo "max_clock" (domain) -> c_uint =
        |gpu, domain| gpu.clocks_max_megahertz.get(domain).copied();
    nvmlDeviceGetCurrentClocksThrottleReasons "throttle_reasons" () -> c_ulonglong = |gpu| Some(gpu.clock_event_reasons);
    nvmlDeviceGetCurrentClocksEventReasons "event_reasons" () -> c_ulonglong = |gpu| Some(gpu.clock_event_reasons);
    nvmlDeviceGetPcieReplayCounter "pcie_replays" () -> c_uint = |gpu| Some(gpu.pcie_replays);
    nvmlDeviceGetCurrPcieLinkGeneration "pcie_link" () -> c_uint = |gpu| Some(gpu.pcie_link[0]);
    nvmlDeviceGetCurrPcieLinkWidth "pcie_link" () -> c_uint = |gpu| Some(gpu.pcie_link[1]);
    nvmlDeviceGetTotalEccErrors "ecc" (kind, lifetime) -> c_ulonglong =
        |gpu, kind, lifetime| gpu.ecc_errors.get(lifetime * 2 + kind).copied();
}

/// Power at this moment.
pub(crate) fn power(gpu: &Gpu) -> u32 {
    let share = gpu.load.share(load::now_ns()).unwrap_or(1.0);
    let idle = f64::from(gpu.idle_milliwatts);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two powers")]
    let power = (f64::from(gpu.power_milliwatts) - idle).mul_add(share, idle).round() as u32;
    power
}

/// The energy counter at this moment: idle power all the time, and the rest by load.
pub(crate) fn energy(gpu: &Gpu) -> u64 {
    let passed = gpu.load.passed(load::now_ns());
    let idle = f64::from(gpu.idle_milliwatts);
    gpu.energy_millijoules
        + whole(idle.mul_add(passed.seconds, (f64::from(gpu.power_milliwatts) - idle) * passed.loaded))
}

/// A counter's whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are not negative")]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// `nvmlTemperature_t`
#[repr(C)]
struct Temperature {
    version: c_uint,
    sensor: c_uint,
    celsius: c_int,
}

/// `NVML_STRUCT_VERSION(Temperature, 1)`
const TEMPERATURE_VERSION: c_uint = 0x0100_000c;
const _: () = assert!(size_of::<Temperature>() == 0xc);

/// `nvmlDeviceGetTemperatureV`; scenario name `temperature_v`.
///
/// # Safety
/// As in `nvml.h`: `temperature` points to one structure, with its version and sensor filled in.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperatureV(device: Device, temperature: *mut Temperature) -> Return {
    // SAFETY: null, or the caller's structure.
    let Some(asked) = (unsafe { temperature.as_mut() }) else { return abi::INVALID_ARGUMENT };
    if asked.version != TEMPERATURE_VERSION {
        return abi::ARGUMENT_VERSION_MISMATCH;
    }
    match session::gpu(device, "temperature_v") {
        Ok(gpu) if asked.sensor == 0 => {
            asked.celsius = gpu.temperature_celsius;
            abi::SUCCESS
        }
        Ok(_) => abi::NOT_SUPPORTED,
        Err(code) => code,
    }
}
