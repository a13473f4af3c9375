//! What computes on a GPU. Scenario names: `processes`, `mps_processes`, `process_utilization`.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::load;
use crate::scenario::Process;
use crate::session;
use std::ffi::c_uint;
use std::ffi::c_ulonglong;

/// `nvmlProcessInfo_v2_t`, which the third version of the call has too.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    pid: c_uint,
    memory: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlProcessUtilizationSample_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Sample {
    pid: c_uint,
    timestamp: c_ulonglong,
    percent: [c_uint; 4],
}

const _: () = assert!(size_of::<Info>() == 24 && size_of::<Sample>() == 32);

/// `NVML_VALUE_NOT_AVAILABLE`
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;

fn info(process: &Process) -> Info {
    let [gpu_instance, compute_instance] = process.instance.unwrap_or([c_uint::MAX; 2]);
    let memory = process.memory_bytes.unwrap_or(NOT_AVAILABLE);
    Info { pid: process.pid, memory, gpu_instance, compute_instance }
}

/// `nvmlDeviceGetComputeRunningProcesses_v3`
///
/// # Safety
/// As in `nvml.h`: `count` points to one integer, `infos` to as many writable structures.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    infos: *mut Info,
) -> Return {
    match session::gpu(device, "processes") {
        Ok(gpu) => {
            let all: Vec<Info> = gpu.process.iter().map(info).collect();
            // SAFETY: passed on.
            unsafe { abi::put_list(infos, count, &all) }
        }
        Err(code) => code,
    }
}

/// `nvmlDeviceGetGraphicsRunningProcesses_v3`: nothing draws.
///
/// # Safety
/// As in `nvml.h`: `count` points to one integer, `infos` to as many writable structures.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    infos: *mut Info,
) -> Return {
    match session::gpu(device, "graphics_processes") {
        // SAFETY: passed on.
        Ok(_) => unsafe { abi::put_list(infos, count, &[]) },
        Err(code) => code,
    }
}

/// `nvmlDeviceGetProcessUtilization`: without a sample NVML has not found anything. A remainder of older samples
/// stands behind the new ones, as in the real one's buffer.
///
/// # Safety
/// As in `nvml.h`: `count` points to one integer, `samples` to as many writable structures.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Device,
    samples: *mut Sample,
    count: *mut c_uint,
    _since: c_ulonglong,
) -> Return {
    let gpu = match session::gpu(device, "process_utilization") {
        Ok(gpu) if gpu.mig == Some(true) => return abi::NOT_SUPPORTED,
        Ok(gpu) => gpu,
        Err(code) => return code,
    };
    let timestamp = load::now_ns() / 1_000;
    let busy = gpu.process.iter().filter(|process| process.percent.iter().any(|percent| *percent > 0));
    let mut all: Vec<Sample> =
        busy.map(|process| Sample { pid: process.pid, timestamp, percent: process.percent }).collect();
    if all.is_empty() {
        return abi::NOT_FOUND;
    }
    all.extend(gpu.process.iter().map(|process| Sample { pid: process.pid, timestamp: 1, percent: [9; 4] }));
    all.push(Sample { pid: c_uint::MAX, timestamp, percent: [4_000_000; 4] });
    // SAFETY: passed on.
    unsafe { abi::put_list(samples, count, &all) }
}
