//! The tier of one second: how one GPU stands in; [`Now`] and the seam's own fields out.

use crate::clock::MonoNs;
use crate::gpu::Now;
use crate::gpu::Sample;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::gpm::Gpm;
use crate::gpu::nvml::mig;
use crate::gpu::nvml::processes;
use crate::gpu::nvml::raw;
use crate::gpu::reason;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A clock's name, the names of the calls for it and for its highest value, and NVML's word for it.
pub(super) type ClockCall = (&'static str, &'static str, &'static str, fn() -> Clock);

/// The clock domains.
pub(super) const CLOCKS: [ClockCall; 4] = [
    ("graphics", "clock_graphics", "max_clock_graphics", || Clock::Graphics),
    ("sm", "clock_sm", "max_clock_sm", || Clock::SM),
    ("memory", "clock_memory", "max_clock_memory", || Clock::Memory),
    ("video", "clock_video", "max_clock_video", || Clock::Video),
];

/// What this tier remembers from one reading to the next.
#[derive(Default)]
pub(super) struct Reader {
    gpm: Gpm,
    mig: mig::Reader,
    processes: processes::Reader,
}

impl Reader {
    /// Fills in what this tier knows.
    pub(super) fn read(
        &mut self,
        nvml: &Arc<Nvml>,
        device: &Device<'_>,
        asked: &mut Asked,
        sample: &mut Sample,
        divided: bool,
        at: MonoNs,
    ) -> Result<(), NvmlError> {
        let memory = asked.tell("memory_info", || device.memory_info())?;
        let busy = asked.tell("utilization_rates", || device.utilization_rates())?;
        let temperature = match asked.tell("temperature_v", || raw::temperature(nvml, device))? {
            Some(temperature) => Some(f64::from(temperature)),
            None => old_temperature(device, asked)?,
        };
        let reasons = asked.tell("clock_event_reasons", || raw::clock_event_reasons(nvml, device))?;
        let clocks = clocks(device, asked)?;
        let activity = self.gpm.read(nvml, device, None, asked, at)?;
        let instances = if divided { self.mig.read(nvml, device, asked, at)? } else { Vec::new() };
        let processes::Table { used, more, unknown } = self.processes.read(device, asked, at)?;

        sample.memory_used_bytes = memory.as_ref().map(|memory| memory.used);
        sample.memory_total_bytes = memory.as_ref().map(|memory| memory.total);
        sample.utilization = busy.as_ref().and_then(|busy| share(busy.gpu));
        sample.memory_utilization = busy.as_ref().and_then(|busy| share(busy.memory));
        sample.sm_clock_hertz = clocks.get("sm").copied();
        sample.processes = used;
        sample.more.now = Arc::new(Now {
            at: Some(at),
            memory_free_bytes: memory.as_ref().map(|memory| memory.free),
            memory_reserved_bytes: memory.as_ref().map(|memory| memory.reserved),
            temperature_celsius: temperature,
            clocks_hertz: clocks,
            clock_events: reasons.into_iter().flat_map(reason::active).collect(),
            activity,
            processes: more,
            processes_unknown: unknown,
            instances,
        });
        Ok(())
    }
}

fn old_temperature(device: &Device<'_>, asked: &mut Asked) -> Result<Option<f64>, NvmlError> {
    use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
    Ok(asked.tell("temperature", || device.temperature(TemperatureSensor::Gpu))?.map(f64::from))
}

fn clocks(device: &Device<'_>, asked: &mut Asked) -> Result<BTreeMap<&'static str, f64>, NvmlError> {
    let mut clocks = BTreeMap::new();
    for (name, call, _, clock) in CLOCKS {
        if let Some(clock) = asked.tell(call, || device.clock_info(clock()))? {
            clocks.insert(name, megahertz(clock));
        }
    }
    Ok(clocks)
}

/// Hertz.
pub(super) fn megahertz(clock: u32) -> f64 {
    f64::from(clock) * 1e6
}

/// A share from NVML's percent; what is no percentage is no measurement.
pub(super) fn share(percent: u32) -> Option<f64> {
    (percent <= 100).then(|| f64::from(percent) / 100.0)
}
