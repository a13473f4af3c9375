//! A divided GPU in; each of its MIG instances out.

use crate::clock::MonoNs;
use crate::gpu::Activity;
use crate::gpu::Instance;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::gpm::Gpm;
use crate::gpu::nvml::raw;
use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Activity by GPU instance, which compute instances share.
#[derive(Default)]
pub(super) struct Reader {
    gpm: BTreeMap<u32, Gpm>,
}

impl Reader {
    /// Reads every instance; a place without one is no error.
    pub(super) fn read(
        &mut self,
        nvml: &Arc<Nvml>,
        device: &Device<'_>,
        asked: &mut Asked,
        at: MonoNs,
    ) -> Result<Vec<Instance>, NvmlError> {
        let places = asked.tell("max_mig_device_count", || device.mig_device_count())?.unwrap_or(0);
        let mut instances = Vec::new();
        let mut activities: BTreeMap<u32, Activity> = BTreeMap::new();
        for place in 0..places {
            let Ok(part) = device.mig_device_by_index(place) else { continue };
            let gi = asked.tell("gpu_instance_id", || raw::gpu_instance(nvml, &part))?;
            let ci = asked.tell("compute_instance_id", || raw::compute_instance(nvml, &part))?;
            let (Some(gi), Some(ci)) = (gi, ci) else { continue };
            let activity = match activities.get(&gi) {
                Some(activity) => *activity,
                None => self.gpm.entry(gi).or_default().read(nvml, device, Some(gi), asked, at)?,
            };
            activities.insert(gi, activity);
            let memory = asked.tell("mig_memory_info", || part.memory_info())?;
            instances.push(Instance {
                gi,
                ci,
                uuid: asked.tell("mig_uuid", || part.uuid())?,
                name: asked.tell("mig_name", || part.name())?,
                memory_used_bytes: memory.as_ref().map(|memory| memory.used),
                memory_total_bytes: memory.as_ref().map(|memory| memory.total),
                activity,
            });
        }
        self.gpm.retain(|gi, _| activities.contains_key(gi));
        Ok(instances)
    }
}
