//! Fields by number, many in one call. Scenario names: `field_values`, and per field `field_83`.

use crate::abi;
use crate::abi::Return;
use crate::device::Device;
use crate::load;
use crate::numbers;
use crate::scenario::Gpu;
use crate::scenario::Scenario;
use crate::session;
use std::ffi::c_int;
use std::ffi::c_longlong;
use std::ffi::c_uint;

/// `nvmlFieldValue_t`; the value is a union of numbers, written here by its bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct FieldValue {
    id: c_uint,
    scope: c_uint,
    timestamp: c_longlong,
    latency: c_longlong,
    kind: c_uint,
    answer: Return,
    value: u64,
}

const _: () = assert!(size_of::<FieldValue>() == 40);

/// Kinds of `nvmlValueType_t`.
const UNSIGNED_INT: c_uint = 1;
const UNSIGNED_LONG_LONG: c_uint = 3;
/// A kind that no header has.
const KIND_OF_TOMORROW: c_uint = 99;

/// The module, where a field is told by scope.
const MODULE: c_uint = 1;
/// What is not about one link.
const ALL_LINKS: c_uint = c_uint::MAX;
/// How many links the data goes over.
const LINKS: u64 = 4;

/// `nvmlDeviceGetFieldValues`
///
/// # Safety
/// As in `nvml.h`: `values` points to `count` structures, with field and scope filled in.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFieldValues(device: Device, count: c_int, values: *mut FieldValue) -> Return {
    let Ok(count) = usize::try_from(count) else { return abi::INVALID_ARGUMENT };
    if values.is_null() {
        return abi::INVALID_ARGUMENT;
    }
    let (gpu, scenario) = match session::both(device, "field_values") {
        Ok(both) => both,
        Err(code) => return code,
    };
    // SAFETY: not null, and the caller vouches for the count.
    for field in unsafe { std::slice::from_raw_parts_mut(values, count) } {
        field.timestamp = c_longlong::try_from(load::now_ns() / 1_000).unwrap_or(0);
        field.latency = 1;
        match answer(&gpu, &scenario, field) {
            Ok((kind, value)) => (field.kind, field.value, field.answer) = (kind, value, abi::SUCCESS),
            Err(code) => field.answer = code,
        }
    }
    abi::SUCCESS
}

fn answer(gpu: &Gpu, scenario: &Scenario, field: &FieldValue) -> Result<(c_uint, u64), Return> {
    let told = gpu.answers.get(&format!("field_{}", field.id)).map(String::as_str);
    let (kind, value) = value(gpu, renumbered(scenario, field.id)?, field.scope).ok_or(abi::NOT_SUPPORTED)?;
    match told {
        None => Ok((kind, value)),
        Some("kind_of_tomorrow") => Ok((KIND_OF_TOMORROW, value)),
        Some(code) => Err(abi::code(code).unwrap_or(abi::UNKNOWN)),
    }
}

/// Numbers as they were before driver 580.82, which moved 251 to 255 up by 18 and gave theirs to others.
fn renumbered(scenario: &Scenario, id: c_uint) -> Result<c_uint, Return> {
    let mut parts = scenario.driver.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match id {
        id if version < (580, 82) => Ok(id),
        269..=273 => Ok(id - 18),
        251..=268 => Err(abi::NOT_SUPPORTED),
        id => Ok(id),
    }
}

fn value(gpu: &Gpu, id: c_uint, scope: c_uint) -> Option<(c_uint, u64)> {
    let small = |value: u32| Some((UNSIGNED_INT, u64::from(value)));
    let big = |value: u64| Some((UNSIGNED_LONG_LONG, value));
    match id {
        74 => big(held_down(gpu, 0)),
        76 => big(held_down(gpu, 1)),
        251 => big(held_down(gpu, 2)),
        252 => big(held_down(gpu, 3)),
        253 => big(held_down(gpu, 4)),
        82 => small(gpu.memory_temperature_celsius),
        83 => big(numbers::energy(gpu)),
        138 => big(of_links(gpu.nvlink_kibibytes[0], scope)),
        139 => big(of_links(gpu.nvlink_kibibytes[1], scope)),
        142 => small(gpu.remapped_rows[0]),
        143 => small(gpu.remapped_rows[1]),
        144 => small(gpu.remapped_rows[2]),
        145 => small(gpu.remapped_rows[3]),
        185 => small(gpu.power_average_milliwatts),
        186 if scope == MODULE => small(gpu.module_milliwatts?),
        186 if gpu.module_milliwatts.is_some() => None,
        186 => small(numbers::power(gpu)),
        197 => Some(pcie(gpu, gpu.pcie_bytes[0])),
        198 => Some(pcie(gpu, gpu.pcie_bytes[1])),
        230 => small(gpu.recovery_action),
        _ => None,
    }
}

fn held_down(gpu: &Gpu, which: usize) -> u64 {
    let full = gpu.load.passed(load::now_ns()).full;
    let more = if gpu.load.full_load_event == Some(which) { numbers::whole(full * 1e9) } else { 0 };
    gpu.clock_event_ns.get(which).copied().unwrap_or(0) + more
}

fn pcie(gpu: &Gpu, bytes: u64) -> (c_uint, u64) {
    let loaded = gpu.load.passed(load::now_ns()).loaded;
    let bytes = bytes + numbers::whole(loaded * gpu.load.pcie_bytes_per_second as f64);
    if gpu.pcie_narrow { (UNSIGNED_INT, bytes & u64::from(u32::MAX)) } else { (UNSIGNED_LONG_LONG, bytes) }
}

fn of_links(total: u64, scope: c_uint) -> u64 {
    if scope == ALL_LINKS { total } else { total / LINKS }
}
