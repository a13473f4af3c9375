//! The fast tier: one call for all that only the driver counts in; counters that only rise, and power, out.

use crate::gpu::More;
use crate::gpu::Sample;
use crate::gpu::counter::Ledger;
use crate::gpu::counter::Reading;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::raw;
use crate::gpu::nvml::raw::Field;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;

/// The whole GPU, where a field is told by link.
const ALL_LINKS: u32 = u32::MAX;

/// The module that holds GPU and processor, where a field is told by scope.
const MODULE: u32 = 1;

/// Names, and NVML's numbers as they were before driver 580.82.
const FIELDS: [(&str, Field); 14] = [
    ("energy", Field { id: 83, scope: 0 }),
    ("power_instant", Field { id: 186, scope: 0 }),
    ("power_average", Field { id: 185, scope: 0 }),
    ("power_module", Field { id: 186, scope: MODULE }),
    ("sw_power_cap", Field { id: 74, scope: 0 }),
    ("sync_boost", Field { id: 76, scope: 0 }),
    ("sw_thermal_slowdown", Field { id: 251, scope: 0 }),
    ("hw_thermal_slowdown", Field { id: 252, scope: 0 }),
    ("hw_power_brake_slowdown", Field { id: 253, scope: 0 }),
    ("pcie_sent", Field { id: 197, scope: 0 }),
    ("pcie_received", Field { id: 198, scope: 0 }),
    ("memory_temperature", Field { id: 82, scope: 0 }),
    ("nvlink_sent", Field { id: 138, scope: ALL_LINKS }),
    ("nvlink_received", Field { id: 139, scope: ALL_LINKS }),
];

/// The counters among them that tell nanoseconds.
const REASONS: [&str; 5] =
    ["sw_power_cap", "sync_boost", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"];

/// Makes counters of one GPU that outlive sessions.
pub(super) struct Counting<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) uuid: &'a str,
    pub(super) session: u64,
}

impl Counting<'_> {
    pub(super) fn count(&mut self, name: &'static str, reading: Reading) -> u64 {
        self.ledger.advance(self.uuid, name, self.session, reading)
    }
}

/// Fills in what the fast tier knows.
pub(super) fn read(
    nvml: &Nvml,
    device: &Device<'_>,
    asked: &mut Asked,
    counting: &mut Counting<'_>,
    sample: &mut Sample,
) -> Result<(), NvmlError> {
    let told = fields(nvml, device, asked, &FIELDS)?;
    let mut count = |name, unit: u64| {
        let Reading { value, narrow } = *told.get(name)?;
        Some(counting.count(name, Reading { value, narrow }).saturating_mul(unit))
    };
    let watts = |name| told.get(name).map(|reading| reading.value as f64 / 1e3);
    let energy = count("energy", 1);
    sample.clock_event_seconds =
        REASONS.iter().filter_map(|name| Some((*name, count(name, 1)? as f64 / 1e9))).collect();
    sample.more.pcie.sent_bytes = count("pcie_sent", 1);
    sample.more.pcie.received_bytes = count("pcie_received", 1);
    sample.more.nvlink.sent_bytes = count("nvlink_sent", 1024);
    sample.more.nvlink.received_bytes = count("nvlink_received", 1024);
    let More { power_average_watts, power_module_watts, memory_temperature_celsius, .. } = &mut sample.more;
    *power_average_watts = watts("power_average");
    *power_module_watts = watts("power_module");
    *memory_temperature_celsius = told.get("memory_temperature").map(|reading| reading.value as f64);
    sample.power_watts = watts("power_instant");
    if sample.power_watts.is_none() {
        sample.power_watts = asked.tell("power_usage", || device.power_usage())?.map(|power| f64::from(power) / 1e3);
    }
    let energy = match energy {
        Some(energy) => Some(energy),
        None => asked
            .tell("total_energy_consumption", || device.total_energy_consumption())?
            .map(|value| counting.count("energy", Reading { value, narrow: false })),
    };
    sample.energy_joules = energy.map(|energy| energy as f64 / 1e3);
    Ok(())
}

/// Fields by name; those that were refused for good are not asked.
pub(super) fn fields(
    nvml: &Nvml,
    device: &Device<'_>,
    asked: &mut Asked,
    fields: &[(&'static str, Field)],
) -> Result<BTreeMap<&'static str, Reading>, NvmlError> {
    let (names, wanted): (Vec<&'static str>, Vec<Field>) =
        fields.iter().filter(|(name, _)| !asked.refused(name)).copied().unzip();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Some(answers) = asked.tell("field_values", || raw::fields(nvml, device, &wanted))? else {
        return Ok(BTreeMap::new());
    };
    let mut told = BTreeMap::new();
    for (name, answer) in names.into_iter().zip(answers) {
        if let Some(reading) = asked.take(name, answer)? {
            told.insert(name, reading);
        }
    }
    Ok(told)
}
