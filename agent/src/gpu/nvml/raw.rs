//! NVML's own C functions in, where the wrapper has none or loses what they say; plain values out.
#![expect(unsafe_code, reason = "C functions that the wrapper does not wrap")]

use crate::gpu::counter::Reading;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::error::nvml_try;
use nvml_wrapper_sys::bindings::NVML_GPM_METRICS_GET_VERSION;
use nvml_wrapper_sys::bindings::nvmlDevice_t;
use nvml_wrapper_sys::bindings::nvmlFieldValue_t;
use nvml_wrapper_sys::bindings::nvmlGpmMetricsGet_t;
use nvml_wrapper_sys::bindings::nvmlGpmSample_t;
use nvml_wrapper_sys::bindings::nvmlReturn_t;
use nvml_wrapper_sys::bindings::nvmlTemperature_t;
use std::ffi::c_int;
use std::mem;
use std::ptr;
use std::sync::Arc;

/// The kinds of `nvmlValueType_t`.
const DOUBLE: u32 = 0;
const UNSIGNED_INT: u32 = 1;
const UNSIGNED_LONG: u32 = 2;
const UNSIGNED_LONG_LONG: u32 = 3;
const SIGNED_LONG_LONG: u32 = 4;
const SIGNED_INT: u32 = 5;
const UNSIGNED_SHORT: u32 = 6;

/// `NVML_STRUCT_VERSION(Temperature, 1)`: the size in the low three bytes, the version above.
const TEMPERATURE_VERSION: u32 = 0x0100_000c;
const _: () = assert!(size_of::<nvmlTemperature_t>() == 0xc);
/// `NVML_TEMPERATURE_GPU`
const TEMPERATURE_GPU: u32 = 0;

/// A field by its number before driver 580.82, and of which link or unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) id: u32,
    pub(super) scope: u32,
}

fn symbol<T: Copy, E: std::fmt::Display>(symbol: &Result<T, E>) -> Result<T, NvmlError> {
    match symbol {
        Ok(function) => Ok(*function),
        Err(error) => Err(NvmlError::FailedToLoadSymbol(error.to_string())),
    }
}

fn handle(device: &Device<'_>) -> nvmlDevice_t {
    // SAFETY: the handle is only passed to NVML, while the device's own borrow keeps the session open.
    unsafe { device.handle() }
}

/// Where a handle points: equal for two handles of one GPU in one session.
pub(super) fn address(device: &Device<'_>) -> usize {
    handle(device).addr()
}

/// Several fields in one call, each with an answer of its own, in the order asked: the numbers that come back may be
/// others than those that were sent.
pub(super) fn fields(
    nvml: &Nvml,
    device: &Device<'_>,
    fields: &[Field],
) -> Result<Vec<Result<Reading, NvmlError>>, NvmlError> {
    let get = symbol(&nvml.lib().nvmlDeviceGetFieldValues)?;
    let ask = |field: &Field| {
        // SAFETY: the structure is plain numbers and a union of plain numbers, for which zeroes are valid.
        let mut value: nvmlFieldValue_t = unsafe { mem::zeroed() };
        value.fieldId = translated(nvml, field.id);
        value.scopeId = field.scope;
        value
    };
    let mut values: Vec<nvmlFieldValue_t> = fields.iter().map(ask).collect();
    let count = c_int::try_from(values.len()).map_err(|_too_many| NvmlError::InvalidArg)?;
    // SAFETY: a function of NVML with its prototype, and as many writable structures as it is told.
    nvml_try(unsafe { get(handle(device), count, values.as_mut_ptr()) })?;
    Ok(values.iter().map(reading).collect())
}

/// The numbers 251 to 255 moved up by 18 with driver 580.82.
fn translated(nvml: &Nvml, id: u32) -> u32 {
    let moved = nvml.field_id_scheme() == nvml_wrapper::FieldIdScheme::V13Update1;
    if moved && (251..=255).contains(&id) { id + 18 } else { id }
}

fn reading(field: &nvmlFieldValue_t) -> Result<Reading, NvmlError> {
    nvml_try(field.nvmlReturn)?;
    let wide = |value| Ok(Reading { value, narrow: false });
    let narrow = |value| Ok(Reading { value: u64::from(value), narrow: true });
    let signed = |value: i64| u64::try_from(value).map_err(|_negative| NvmlError::Unknown);
    match field.valueType {
        // SAFETY: the kind says which of the plain numbers was written; the rest of the union is zero.
        DOUBLE => wide(whole(unsafe { field.value.dVal })?),
        // SAFETY: as above.
        UNSIGNED_INT => narrow(unsafe { field.value.uiVal }),
        // SAFETY: as above.
        UNSIGNED_LONG => wide(unsafe { field.value.ulVal }),
        // SAFETY: as above.
        UNSIGNED_LONG_LONG => wide(unsafe { field.value.ullVal }),
        // SAFETY: as above.
        SIGNED_LONG_LONG => wide(signed(unsafe { field.value.sllVal })?),
        // SAFETY: as above.
        SIGNED_INT => wide(signed(i64::from(unsafe { field.value.siVal }))?),
        // SAFETY: as above.
        UNSIGNED_SHORT => narrow(u32::from(unsafe { field.value.usVal })),
        unknown => Err(NvmlError::UnexpectedVariant(unknown)),
    }
}

fn whole(value: f64) -> Result<u64, NvmlError> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked just here")]
    (0.0..1.8e19).contains(&value).then(|| value.round() as u64).ok_or(NvmlError::Unknown)
}

/// One number from a function that writes one.
fn one<T: Default>(
    device: &Device<'_>,
    get: unsafe extern "C" fn(nvmlDevice_t, *mut T) -> nvmlReturn_t,
) -> Result<T, NvmlError> {
    let mut value = T::default();
    // SAFETY: a function of NVML with its prototype, and writable memory for what it writes.
    nvml_try(unsafe { get(handle(device), &raw mut value) })?;
    Ok(value)
}

/// What holds the clocks down, with the bits that the wrapper drops; by its old name where the new one is missing.
pub(super) fn clock_event_reasons(nvml: &Nvml, device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = nvml.lib();
    let get = symbol(&lib.nvmlDeviceGetCurrentClocksEventReasons);
    one(device, get.or_else(|_missing| symbol(&lib.nvmlDeviceGetCurrentClocksThrottleReasons))?)
}

/// The number of a MIG device's GPU instance.
pub(super) fn gpu_instance(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    one(device, symbol(&nvml.lib().nvmlDeviceGetGpuInstanceId)?)
}

/// The number of a MIG device's compute instance.
pub(super) fn compute_instance(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    one(device, symbol(&nvml.lib().nvmlDeviceGetComputeInstanceId)?)
}

/// Degrees of the chip, from the call that stays; the one that the wrapper makes is to be removed.
pub(super) fn temperature(nvml: &Nvml, device: &Device<'_>) -> Result<i32, NvmlError> {
    let get = symbol(&nvml.lib().nvmlDeviceGetTemperatureV)?;
    let mut out = nvmlTemperature_t { version: TEMPERATURE_VERSION, sensorType: TEMPERATURE_GPU, temperature: 0 };
    // SAFETY: a function of NVML with its prototype, and a writable structure of the version that it is told.
    nvml_try(unsafe { get(handle(device), &raw mut out) })?;
    Ok(out.temperature)
}

/// A reading of the activity counters, freed before NVML is closed.
pub(super) struct GpmSample {
    nvml: Arc<Nvml>,
    sample: nvmlGpmSample_t,
}

// SAFETY: NVML may be called from any thread; the sample is used by one at a time, since this is not Sync.
unsafe impl Send for GpmSample {}

impl GpmSample {
    /// Reads the counters, of one GPU instance where one is given.
    pub(super) fn take(nvml: &Arc<Nvml>, device: &Device<'_>, instance: Option<u32>) -> Result<Self, NvmlError> {
        let lib = nvml.lib();
        // What could not be freed is not made.
        symbol(&lib.nvmlGpmSampleFree)?;
        let alloc = symbol(&lib.nvmlGpmSampleAlloc)?;
        let mut sample: nvmlGpmSample_t = ptr::null_mut();
        // SAFETY: a function of NVML with its prototype, and writable memory for the handle.
        nvml_try(unsafe { alloc(&raw mut sample) })?;
        let taken = Self { nvml: Arc::clone(nvml), sample };
        let answer = match instance {
            None => {
                let get = symbol(&lib.nvmlGpmSampleGet)?;
                // SAFETY: a function of NVML with its prototype, and a sample that it has just made.
                unsafe { get(handle(device), sample) }
            }
            Some(instance) => {
                let get = symbol(&lib.nvmlGpmMigSampleGet)?;
                // SAFETY: as above.
                unsafe { get(handle(device), instance, sample) }
            }
        };
        nvml_try(answer)?;
        Ok(taken)
    }

    /// Each metric between `earlier` and this one, as NVML gives it; `None` for one that it refuses.
    pub(super) fn since<const N: usize>(&self, earlier: &Self, ids: [u32; N]) -> Result<[Option<f64>; N], NvmlError> {
        let get = symbol(&self.nvml.lib().nvmlGpmMetricsGet)?;
        // SAFETY: the structure is numbers and pointers, for which zeroes are valid.
        let mut request: Box<nvmlGpmMetricsGet_t> = Box::new(unsafe { mem::zeroed() });
        request.version = NVML_GPM_METRICS_GET_VERSION;
        request.numMetrics = u32::try_from(N).map_err(|_too_many| NvmlError::InvalidArg)?;
        request.sample1 = earlier.sample;
        request.sample2 = self.sample;
        for (metric, id) in request.metrics.iter_mut().zip(ids) {
            metric.metricId = id;
        }
        // SAFETY: a function of NVML with its prototype, two samples that live, and room for more metrics than asked.
        nvml_try(unsafe { get(&raw mut *request) })?;
        let mut values = [None; N];
        for (value, metric) in values.iter_mut().zip(&request.metrics) {
            *value = nvml_try(metric.nvmlReturn).is_ok().then_some(metric.value);
        }
        Ok(values)
    }
}

impl Drop for GpmSample {
    fn drop(&mut self) {
        if let Ok(free) = symbol(&self.nvml.lib().nvmlGpmSampleFree) {
            // SAFETY: made by this library, freed once, and NVML is still open because this holds it.
            unsafe {
                free(self.sample);
            }
        }
    }
}
