//! Two readings of the activity counters in; shares of the time between them out (Hopper and later).

use crate::clock::MonoNs;
use crate::gpu::Activity;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::raw::GpmSample;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::sync::Arc;
use std::time::Duration;

/// Activity of graphics, of multiprocessors, their occupancy, of tensor cores, of memory.
const METRICS: [u32; 5] = [1, 2, 3, 5, 10];
/// NVML wants at least so much between two readings.
const SHORTEST: Duration = Duration::from_millis(100);
/// Of a longer time a share says little.
const LONGEST: Duration = Duration::from_mins(1);

/// The last reading of one GPU, or of one GPU instance.
#[derive(Default)]
pub(super) struct Gpm {
    last: Option<(MonoNs, GpmSample)>,
}

impl Gpm {
    /// What it did since the last time.
    pub(super) fn read(
        &mut self,
        nvml: &Arc<Nvml>,
        device: &Device<'_>,
        instance: Option<u32>,
        asked: &mut Asked,
        at: MonoNs,
    ) -> Result<Activity, NvmlError> {
        let call = if instance.is_some() { "gpm_mig_sample" } else { "gpm_sample" };
        let Some(sample) = asked.tell(call, || GpmSample::take(nvml, device, instance))? else {
            self.last = None;
            return Ok(Activity::default());
        };
        let last = self.last.replace((at, sample));
        let (Some((before, earlier)), Some((_, sample))) = (last, &self.last) else { return Ok(Activity::default()) };
        if at < before.plus(SHORTEST) || at > before.plus(LONGEST) {
            return Ok(Activity::default());
        }
        let values = asked.tell("gpm_metrics", || sample.since(&earlier, METRICS))?.unwrap_or_default();
        let [graphics, sm, sm_occupancy, tensor, dram] = values.map(|value| value.and_then(share));
        Ok(Activity { graphics, sm, sm_occupancy, tensor, dram })
    }
}

/// A share from NVML's percent; what is no percentage is no measurement.
fn share(percent: f64) -> Option<f64> {
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}
