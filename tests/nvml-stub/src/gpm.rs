//! Activity counters (Hopper and later). Scenario names: `gpm_support`, `gpm_sample`, `gpm_mig_sample`.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::scenario::Gpu;
use crate::session;
use std::ffi::c_char;
use std::ffi::c_uint;
use std::sync::atomic::Ordering;

/// What a sample holds: percent of each metric that is known here.
struct Sample {
    percent: Option<[f64; 5]>,
}

/// `nvmlGpmMetric_t`
#[repr(C)]
struct Metric {
    id: c_uint,
    answer: Return,
    value: f64,
    names: [*mut c_char; 3],
}

/// `nvmlGpmMetricsGet_t`, whose list is longer in newer headers: only as many as are asked for may be touched.
#[repr(C)]
struct MetricsGet {
    version: c_uint,
    count: c_uint,
    samples: [*mut Sample; 2],
    metrics: [Metric; 0],
}

/// `nvmlGpmSupport_t`
#[repr(C)]
struct Support {
    version: c_uint,
    supported: c_uint,
}

const _: () = assert!(size_of::<Metric>() == 40 && size_of::<MetricsGet>() == 24);

/// The numbers of what [`Gpu::activity_percent`] holds.
const IDS: [c_uint; 5] = [1, 2, 3, 5, 10];

/// `nvmlGpmQueryDeviceSupport`
///
/// # Safety
/// As in `nvml.h`: `support` points to one structure.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmQueryDeviceSupport(device: Device, support: *mut Support) -> Return {
    // SAFETY: null, or the caller's structure.
    let Some(support) = (unsafe { support.as_mut() }) else { return abi::INVALID_ARGUMENT };
    if support.version != 1 {
        return abi::ARGUMENT_VERSION_MISMATCH;
    }
    match session::gpu(device, "gpm_support") {
        Ok(gpu) => {
            support.supported = c_uint::from(gpu.activity_percent.is_some());
            abi::SUCCESS
        }
        Err(code) => code,
    }
}

/// `nvmlGpmSampleAlloc`
///
/// # Safety
/// As in `nvml.h`: `sample` points to one writable handle.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut *mut Sample) -> Return {
    session::HELD.fetch_add(1, Ordering::Relaxed);
    // SAFETY: passed on.
    unsafe { abi::put(sample, Box::into_raw(Box::new(Sample { percent: None }))) }
}

/// `nvmlGpmSampleFree`
///
/// # Safety
/// As in `nvml.h`: `sample` came from `nvmlGpmSampleAlloc` and was not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleFree(sample: *mut Sample) -> Return {
    if sample.is_null() {
        return abi::INVALID_ARGUMENT;
    }
    session::HELD.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the caller vouches that it is a box of ours.
    drop(unsafe { Box::from_raw(sample) });
    abi::SUCCESS
}

/// `nvmlGpmSampleGet`
///
/// # Safety
/// As in `nvml.h`: `sample` came from `nvmlGpmSampleAlloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleGet(device: Device, sample: *mut Sample) -> Return {
    // SAFETY: passed on.
    unsafe { fill(device, "gpm_sample", sample, |gpu| gpu.activity_percent) }
}

/// `nvmlGpmMigSampleGet`
///
/// # Safety
/// As in `nvml.h`: `sample` came from `nvmlGpmSampleAlloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmMigSampleGet(device: Device, instance: c_uint, sample: *mut Sample) -> Return {
    let of = |gpu: &Gpu| gpu.instance.iter().find(|part| part.id[0] == instance).map(|part| part.activity_percent);
    // SAFETY: passed on.
    unsafe { fill(device, "gpm_mig_sample", sample, of) }
}

/// # Safety
/// `sample` is null, or a box of ours.
unsafe fn fill(device: Device, call: &str, sample: *mut Sample, of: impl Fn(&Gpu) -> Option<[f64; 5]>) -> Return {
    // SAFETY: null, or a box of ours.
    let Some(sample) = (unsafe { sample.as_mut() }) else { return abi::INVALID_ARGUMENT };
    match session::gpu(device, call).map(|gpu| of(&gpu)) {
        Ok(Some(percent)) => {
            sample.percent = Some(percent);
            abi::SUCCESS
        }
        Ok(None) => abi::NOT_SUPPORTED,
        Err(code) => code,
    }
}

/// `nvmlGpmMetricsGet`: what the second sample holds.
///
/// # Safety
/// As in `nvml.h`: `request` points to one structure with as many metrics as it says and two filled samples.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut MetricsGet) -> Return {
    // SAFETY: null, or the caller's structure.
    let Some(head) = (unsafe { request.as_ref() }) else { return abi::INVALID_ARGUMENT };
    let [earlier, later] = head.samples;
    if head.version != 1 || earlier.is_null() || later.is_null() || earlier == later {
        return abi::INVALID_ARGUMENT;
    }
    let count = head.count as usize;
    // SAFETY: not null, and a box of ours.
    let Some(percent) = (unsafe { (*later).percent }) else { return abi::INVALID_ARGUMENT };
    // SAFETY: the list begins where the head ends.
    let first = unsafe { (&raw mut (*request).metrics).cast::<Metric>() };
    // SAFETY: the caller vouches for the count.
    for metric in unsafe { std::slice::from_raw_parts_mut(first, count) } {
        let known = IDS.iter().zip(percent).find(|(id, _)| **id == metric.id);
        (metric.value, metric.answer) = known.map_or((0.0, abi::NOT_SUPPORTED), |(_, value)| (value, abi::SUCCESS));
    }
    abi::SUCCESS
}
