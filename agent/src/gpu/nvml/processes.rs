//! NVML's two tables of processes in; what each process of this host takes out.

use crate::clock::MonoNs;
use crate::discover::procfs;
use crate::gpu::ProcessMore;
use crate::gpu::ProcessUse;
use crate::gpu::nvml::ask::Asked;
use crate::gpu::nvml::now::share;
use crate::gpu::process::resolve;
use crate::ident::Pid;
use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::struct_wrappers::device::ProcessUtilizationSample;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// So long a number stands for the same process without another look at /proc.
const RESOLVED_FOR: Duration = Duration::from_secs(10);

/// What it remembers from one reading to the next.
#[derive(Default)]
pub(super) struct Reader {
    /// The newest sample of utilisation, on NVML's clock.
    seen: u64,
    told: BTreeSet<u32>,
    pids: BTreeMap<u32, Pid>,
    resolved: Option<MonoNs>,
}

/// The processes of one GPU, in the same order twice.
#[derive(Default)]
pub(super) struct Table {
    pub(super) used: Vec<ProcessUse>,
    pub(super) more: Vec<ProcessMore>,
    /// Numbers that are no process of this host, or may be several.
    pub(super) unknown: u32,
}

impl Reader {
    pub(super) fn read(&mut self, device: &Device<'_>, asked: &mut Asked, at: MonoNs) -> Result<Table, NvmlError> {
        let Some(infos) = asked.tell("compute_processes", || device.running_compute_processes())? else {
            return Ok(Table::default());
        };
        let samples = self.samples(device, asked, infos.is_empty())?;
        let busy = samples.iter().flatten().map(|sample| sample.pid);
        self.resolve(infos.iter().map(|info| info.pid).chain(busy).collect(), at);
        let mut newest: BTreeMap<Pid, &ProcessUtilizationSample> = BTreeMap::new();
        for sample in samples.iter().flatten() {
            let Some(pid) = self.pids.get(&sample.pid) else { continue };
            let kept = newest.entry(*pid).or_insert(sample);
            if sample.timestamp > kept.timestamp {
                *kept = sample;
            }
        }
        let mut table = Table::default();
        for info in &infos {
            let Some(pid) = self.pids.get(&info.pid) else {
                table.unknown += 1;
                continue;
            };
            // Who has no sample, where there are samples, was idle.
            let of = |part: fn(&ProcessUtilizationSample) -> u32| {
                samples.as_ref().and_then(|_told| share(newest.get(pid).map_or(0, |sample| part(sample))))
            };
            table.add(*pid, info, of);
        }
        Ok(table)
    }

    /// Samples newer than the last; `None` where the GPU does not tell. Finding none is idleness, not failure.
    fn samples(
        &mut self,
        device: &Device<'_>,
        asked: &mut Asked,
        nobody: bool,
    ) -> Result<Option<Vec<ProcessUtilizationSample>>, NvmlError> {
        if nobody {
            return Ok(None);
        }
        let since = self.seen;
        let answer = asked.tell("process_utilization", || match device.process_utilization_stats(since) {
            Err(NvmlError::NotFound) => Ok(Vec::new()),
            answer => answer,
        })?;
        // The buffer may hold remains of older samples, and numbers that are none.
        let Some(samples) = answer else { return Ok(None) };
        let sound = |sample: &ProcessUtilizationSample| sample.timestamp > since && sample.sm_util <= 100;
        let samples: Vec<_> = samples.into_iter().filter(sound).collect();
        self.seen = samples.iter().map(|sample| sample.timestamp).max().unwrap_or(since);
        Ok(Some(samples))
    }

    fn resolve(&mut self, told: BTreeSet<u32>, at: MonoNs) {
        let fresh = self.resolved.is_some_and(|resolved| at < resolved.plus(RESOLVED_FOR));
        if told.is_subset(&self.told) && fresh {
            return;
        }
        self.resolved = Some(at);
        self.pids =
            if told.is_empty() { BTreeMap::new() } else { resolve(&told, &procfs::pid_chains(), procfs::holds_gpu) };
        self.told = told;
    }
}

impl Table {
    /// One process may have several rows, one for each of its instances.
    fn add(&mut self, pid: Pid, info: &ProcessInfo, of: impl Fn(fn(&ProcessUtilizationSample) -> u32) -> Option<f64>) {
        let memory_bytes = match info.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        if let Some(known) = self.used.iter_mut().find(|known| known.pid == pid) {
            known.memory_bytes = known.memory_bytes.zip(memory_bytes).map(|(one, other)| one.saturating_add(other));
            return;
        }
        self.used.push(ProcessUse { pid, memory_bytes, sm_utilization: of(|sample| sample.sm_util) });
        self.more.push(ProcessMore {
            pid,
            memory_utilization: of(|sample| sample.mem_util),
            encoder_utilization: of(|sample| sample.enc_util),
            decoder_utilization: of(|sample| sample.dec_util),
            gpu_instance: info.gpu_instance_id,
            compute_instance: info.compute_instance_id,
        });
    }
}
