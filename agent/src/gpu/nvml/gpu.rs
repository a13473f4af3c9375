//! One GPU of one session in; a [`Sample`] with what is due of each tier out.

use crate::clock::Clock as _;
use crate::clock::MonoNs;
use crate::clock::System;
use crate::gpu::Health;
use crate::gpu::More;
use crate::gpu::Sample;
use crate::gpu::nvml::Memory;
use crate::gpu::nvml::NOW_EVERY;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::counters;
use crate::gpu::nvml::counters::Counting;
use crate::gpu::nvml::health;
use crate::gpu::nvml::now;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at what changes slowly.
const HEALTH_EVERY: Duration = Duration::from_secs(10);

/// One GPU as far as it is known since NVML was opened.
pub(super) struct Gpu {
    /// The tier of one second and the last of everything, to be handed on with the fast tier.
    latest: Sample,
    asked: Asked,
    now: now::Reader,
    read: Option<MonoNs>,
    checked: Option<MonoNs>,
}

impl Gpu {
    pub(super) fn new(index: u32, uuid: String) -> Self {
        Self {
            latest: Sample { index, uuid, ..Sample::default() },
            asked: Asked::default(),
            now: now::Reader::default(),
            read: None,
            checked: None,
        }
    }

    pub(super) fn uuid(&self) -> &str {
        &self.latest.uuid
    }

    pub(super) fn name(&self) -> Option<String> {
        self.latest.name.clone()
    }

    /// Reads what is due; the round `began` at the instant `at`.
    pub(super) fn read(
        &mut self,
        nvml: &Arc<Nvml>,
        at: MonoNs,
        began: MonoNs,
        session: u64,
        memory: &mut Memory,
    ) -> Result<Sample, NvmlError> {
        let device = nvml.device_by_index(self.latest.index)?;
        let Self { latest, asked, now, read, checked } = self;
        let uuid = latest.uuid.clone();
        let mut counting = Counting { ledger: &mut memory.ledger, uuid: &uuid, session };
        // A call may take long, and counters of one GPU wait for the slower tiers of another: each reading
        // stands for the middle of its own call.
        let passed = || Duration::from_nanos(System.now().since(began).unwrap_or(0));
        let before = passed();
        counters::read(nvml, &device, asked, &mut counting, latest)?;
        latest.at = at.plus((before + passed()) / 2);
        if checked.is_none_or(|checked| at >= checked.plus(HEALTH_EVERY)) {
            *checked = Some(at);
            let name = asked.tell("name", || device.name())?;
            latest.name = name.or_else(|| latest.name.take());
            let health = health::read(nvml, &device, asked, &mut counting)?;
            if latest.more.health.at.is_some() && health.mig != latest.more.health.mig {
                asked.forget();
            }
            latest.more.health = Arc::new(Health { at: Some(at), ..health });
        }
        if read.is_none_or(|read| at >= read.plus(NOW_EVERY)) {
            *read = Some(at);
            let divided = latest.more.health.mig == Some(true);
            now.read(nvml, &device, asked, latest, divided, at)?;
            latest.more.calls = Arc::new(asked.calls().clone());
        }
        let More { xids, .. } = &mut latest.more;
        *xids = memory.xids.of(&uuid);
        Ok(latest.clone())
    }
}
