//! Processes on GPUs and the trees that they stand in, and traced engine cores, in; which GPU serves which core, out.

use crate::correlate::TargetView;
use crate::gpu::Sample;
use crate::ident::Pid;
use crate::ident::Role;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The processes above a process, nearest first.
pub type Lineage = BTreeMap<Pid, Vec<Pid>>;

/// How it is known which GPUs serve a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A process of the core, or one below it, computes there.
    Process,
    /// No GPU tells its processes, and there is one engine only.
    OnlyEngine,
}

/// The cores of each GPU, by the GPU's place in the list.
pub fn cores(gpus: &[Sample], lineage: &Lineage, targets: &[TargetView]) -> (Vec<Vec<Pid>>, How) {
    let cores: BTreeMap<Pid, &TargetView> =
        targets.iter().filter(|target| target.role == Role::Core).map(|target| (target.pid, target)).collect();
    let engines: BTreeSet<_> = cores.values().map(|core| core.engine).collect();
    if gpus.iter().all(|gpu| gpu.processes.is_empty()) && engines.len() == 1 {
        return (gpus.iter().map(|_| cores.keys().copied().collect()).collect(), How::OnlyEngine);
    }
    let of = |pid: Pid| -> Vec<Pid> {
        let line = || std::iter::once(pid).chain(lineage.get(&pid).into_iter().flatten().copied());
        if let Some(core) = line().find(|pid| cores.contains_key(pid)) {
            return vec![core];
        }
        // One below the engine and beside its cores works for all of them.
        let engine = line().find(|pid| engines.iter().any(|engine| engine.0.pid == *pid));
        let own = cores.iter().filter(|(_, core)| Some(core.engine.0.pid) == engine);
        own.map(|(pid, _)| *pid).collect()
    };
    let each = gpus.iter().map(|gpu| {
        let all: BTreeSet<Pid> = gpu.processes.iter().flat_map(|process| of(process.pid)).collect();
        all.into_iter().collect()
    });
    (each.collect(), How::Process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::target;
    use crate::gpu::ProcessUse;
    use crate::ident::EngineId;
    use crate::ident::ProcessId;

    fn core(pid: u32, root: u32) -> TargetView {
        let engine = EngineId(ProcessId { pid: Pid(root), start_ticks: 1 });
        TargetView { pid: Pid(pid), engine, role: Role::Core, ..target() }
    }

    fn gpu(pids: &[u32]) -> Sample {
        let one = |pid: &u32| ProcessUse { pid: Pid(*pid), memory_bytes: None, sm_utilization: None };
        Sample { processes: pids.iter().map(one).collect(), ..Sample::default() }
    }

    #[test]
    fn a_gpu_serves_the_core_above_its_process() {
        let lineage = Lineage::from([
            (Pid(101), vec![Pid(20), Pid(10)]),
            (Pid(102), vec![Pid(21), Pid(10)]),
            (Pid(103), vec![Pid(10), Pid(1)]),
            (Pid(900), vec![Pid(1)]),
        ]);
        let targets = [core(20, 10), core(21, 10), core(40, 30)];
        let gpus = [gpu(&[101]), gpu(&[102, 900]), gpu(&[103]), gpu(&[900]), gpu(&[40]), gpu(&[])];
        let pids = |all: &[u32]| all.iter().copied().map(Pid).collect::<Vec<Pid>>();
        let expected = [pids(&[20]), pids(&[21]), pids(&[20, 21]), pids(&[]), pids(&[40]), pids(&[])];
        assert_eq!(cores(&gpus, &lineage, &targets), (expected.to_vec(), How::Process));
    }

    #[test]
    fn without_processes_only_a_single_engine_is_known_to_be_served() {
        let silent = [gpu(&[]), gpu(&[])];
        let one = cores(&silent, &Lineage::new(), &[core(20, 10), core(21, 10)]);
        assert_eq!(one, (vec![vec![Pid(20), Pid(21)]; 2], How::OnlyEngine));
        let two = cores(&silent, &Lineage::new(), &[core(20, 10), core(40, 30)]);
        assert_eq!(two, (vec![vec![]; 2], How::Process));
        assert!(cores(&silent, &Lineage::new(), &[]).0.concat().is_empty());
    }
}
