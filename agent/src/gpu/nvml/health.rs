//! The tier of ten seconds: errors, limits and identity of one GPU in; [`Health`] out.

use crate::gpu::Ecc;
use crate::gpu::Health;
use crate::gpu::Remaps;
use crate::gpu::counter::Reading;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::counters;
use crate::gpu::nvml::counters::Counting;
use crate::gpu::nvml::now::CLOCKS;
use crate::gpu::nvml::now::megahertz;
use crate::gpu::nvml::raw::Field;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::EccCounter;
use nvml_wrapper::enum_wrappers::device::MemoryError;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;

const FIELDS: [(&str, Field); 5] = [
    ("remapped_corrected", Field { id: 142, scope: 0 }),
    ("remapped_uncorrected", Field { id: 143, scope: 0 }),
    ("remap_pending", Field { id: 144, scope: 0 }),
    ("remap_failed", Field { id: 145, scope: 0 }),
    ("recovery_action", Field { id: 230, scope: 0 }),
];

/// Everything of this tier but its instant.
pub(super) fn read(
    nvml: &Nvml,
    device: &Device<'_>,
    asked: &mut Asked,
    counting: &mut Counting<'_>,
) -> Result<Health, NvmlError> {
    let told = counters::fields(nvml, device, asked, &FIELDS)?;
    let value = |name| told.get(name).map(|reading| reading.value);
    let pci = asked.tell("pci_info", || device.pci_info())?;
    let mode = asked.tell("mig_mode", || device.mig_mode())?;
    let replays = asked.tell("pcie_replay_counter", || device.pcie_replay_counter())?;
    Ok(Health {
        at: None,
        ecc: ecc(device, asked, counting)?,
        remaps: Remaps {
            corrected: value("remapped_corrected"),
            uncorrected: value("remapped_uncorrected"),
            pending: value("remap_pending").map(|value| value != 0),
            failed: value("remap_failed").map(|value| value != 0),
        },
        recovery_action: value("recovery_action"),
        power_limit_watts: limits(device, asked)?,
        clocks_max_hertz: clocks(device, asked)?,
        pcie_replays: replays
            .map(|value| counting.count("pcie_replays", Reading { value: u64::from(value), narrow: true })),
        pcie_generation: asked.tell("pcie_link_generation", || device.current_pcie_link_gen())?,
        pcie_width: asked.tell("pcie_link_width", || device.current_pcie_link_width())?,
        pci_bus_id: pci.map(|pci| pci.bus_id),
        serial: asked.tell("serial", || device.serial())?,
        vbios: asked.tell("vbios_version", || device.vbios_version())?,
        mig: mode.map(|mode| mode.current != 0),
    })
}

fn ecc(device: &Device<'_>, asked: &mut Asked, counting: &mut Counting<'_>) -> Result<Ecc, NvmlError> {
    let mut errors = |call, kind, counter| asked.tell(call, || device.total_ecc_errors(kind, counter));
    let corrected = errors("ecc_corrected", MemoryError::Corrected, EccCounter::Volatile)?;
    let uncorrected = errors("ecc_uncorrected", MemoryError::Uncorrected, EccCounter::Volatile)?;
    let corrected_lifetime = errors("ecc_corrected_lifetime", MemoryError::Corrected, EccCounter::Aggregate)?;
    let uncorrected_lifetime = errors("ecc_uncorrected_lifetime", MemoryError::Uncorrected, EccCounter::Aggregate)?;
    let mut count =
        |name, value: Option<u64>| value.map(|value| counting.count(name, Reading { value, narrow: false }));
    Ok(Ecc {
        corrected: count("ecc_corrected", corrected),
        uncorrected: count("ecc_uncorrected", uncorrected),
        corrected_lifetime,
        uncorrected_lifetime,
    })
}

fn limits(device: &Device<'_>, asked: &mut Asked) -> Result<BTreeMap<&'static str, f64>, NvmlError> {
    let enforced = asked.tell("enforced_power_limit", || device.enforced_power_limit())?;
    let requested = asked.tell("power_management_limit", || device.power_management_limit())?;
    let default = asked.tell("power_management_limit_default", || device.power_management_limit_default())?;
    let all = [("enforced", enforced), ("requested", requested), ("default", default)];
    Ok(all.into_iter().filter_map(|(kind, limit)| Some((kind, f64::from(limit?) / 1e3))).collect())
}

fn clocks(device: &Device<'_>, asked: &mut Asked) -> Result<BTreeMap<&'static str, f64>, NvmlError> {
    let mut clocks = BTreeMap::new();
    for (name, _, call, clock) in CLOCKS {
        if let Some(clock) = asked.tell(call, || device.max_clock_info(clock()))? {
            clocks.insert(name, megahertz(clock));
        }
    }
    Ok(clocks)
}
