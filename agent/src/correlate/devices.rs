//! Readings of GPUs and the engine's time by requests in; which GPUs served whom, what they did meanwhile, and what
//! was used of them, out.

use crate::correlate::TargetView;
use crate::correlate::account::Ledger;
use crate::correlate::account::Used;
use crate::correlate::during::During;
use crate::correlate::during::History;
use crate::correlate::prices::Prices;
use crate::correlate::serving;
use crate::correlate::serving::How;
use crate::correlate::serving::Lineage;
use crate::gpu;
use crate::gpu::Xid;
use crate::ident::Pid;
use crate::request::Request;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The GPUs of the node.
#[derive(Debug)]
pub struct Devices {
    latest: gpu::State,
    /// By `hw.id`.
    histories: BTreeMap<String, History>,
    /// GPUs by their `hw.id`, and the cores that each serves; of a lost one, those that it served last.
    serving: BTreeMap<String, Vec<Pid>>,
    how: How,
    lineage: Arc<Lineage>,
    /// What was used of each.
    pub ledger: Ledger,
}

/// Critical errors of one code that a GPU of an engine has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// The GPU's `hw.id`.
    pub gpu: String,
    /// The driver's code.
    pub code: u64,
    /// How often since the agent started, and when last.
    #[serde(flatten)]
    pub xid: Xid,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            latest: gpu::State::Absent { why: "not looked for yet".to_owned() },
            histories: BTreeMap::new(),
            serving: BTreeMap::new(),
            how: How::OnlyEngine,
            lineage: Arc::default(),
            ledger: Ledger::default(),
        }
    }
}

impl Devices {
    /// What NVML tells now, and which processes are traced.
    pub fn read(&mut self, state: gpu::State, targets: &[TargetView], prices: &Prices) {
        let gpus: &[gpu::Sample] = match &state {
            gpu::State::Present { gpus, .. } => gpus,
            gpu::State::Absent { .. } => &[],
        };
        let (cores, how) = serving::cores(gpus, &self.lineage, targets);
        self.how = how;
        self.ledger.keep(|id| gpus.iter().any(|gpu| gpu.uuid == id));
        for (gpu, cores) in gpus.iter().zip(&cores) {
            let price = prices.hour(gpu.name.as_deref());
            self.ledger.read(&gpu.uuid, gpu.name.as_deref(), gpu.at, gpu.energy_joules, price, cores.clone());
            self.histories.entry(gpu.uuid.clone()).or_default().read(gpu);
        }
        self.histories.retain(|id, _| gpus.iter().any(|gpu| gpu.uuid == *id));
        let lost = errors_of_lost(&state);
        self.serving.retain(|id, _| lost.iter().any(|(lost, _)| lost == id));
        self.serving.extend(gpus.iter().map(|gpu| gpu.uuid.clone()).zip(cores));
        self.latest = state;
    }

    /// What stands above the processes on GPUs.
    pub fn set_lineage(&mut self, lineage: Lineage) {
        self.lineage = Arc::new(lineage);
    }

    /// The same.
    pub fn lineage(&self) -> Arc<Lineage> {
        Arc::clone(&self.lineage)
    }

    /// As NVML last told.
    pub fn latest(&self) -> &gpu::State {
        &self.latest
    }

    /// How it is known which of them serves whom.
    pub fn how(&self) -> How {
        self.how
    }

    /// Whether all is known of what a request used.
    pub fn is_known(&self, request: &Request) -> bool {
        request.engine_requests.iter().all(|one| {
            let instants = [one.added, one.scheduled, one.first_output, one.last_output, one.aborted];
            instants.into_iter().flatten().max().is_none_or(|last| self.ledger.is_decided(one.engine, last))
        })
    }

    /// What the GPUs of its engine cores did while a request was served.
    pub fn during(&self, request: &Request) -> Vec<During> {
        let from = request.accepted.or_else(|| request.engine_requests.iter().filter_map(|one| one.added).min());
        let own = |cores: &[Pid]| request.engine_requests.iter().any(|one| cores.contains(&one.engine));
        let served = self.serving.iter().filter(|(_, cores)| own(cores));
        let histories = served.filter_map(|(id, _)| self.histories.get(id));
        let mut during: Vec<During> =
            histories.map(|history| history.during(from.unwrap_or(request.finished), request.finished)).collect();
        during.sort_by_key(|gpu| gpu.index);
        during
    }

    /// What a request used; nobody else is told of it again.
    pub fn claim(&mut self, request: &Request) -> Option<Used> {
        let mut sum: Option<Used> = None;
        for one in &request.engine_requests {
            if let Some(used) = self.ledger.claim(one.key) {
                sum.get_or_insert_default().add(&used);
            }
        }
        sum
    }

    /// The critical errors of the GPUs that serve a core, or served it until they were lost.
    pub fn errors(&self, core: Pid) -> Vec<Errors> {
        let gpu::State::Present { gpus, .. } = &self.latest else { return Vec::new() };
        let present = gpus.iter().map(|gpu| (gpu.uuid.as_str(), &gpu.more.xids));
        let all = present.chain(errors_of_lost(&self.latest));
        let own = all.filter(|(id, _)| self.serving.get(*id).is_some_and(|cores| cores.contains(&core)));
        own.flat_map(|(id, xids)| xids.iter().map(|(code, xid)| Errors { gpu: id.to_owned(), code: *code, xid: *xid }))
            .collect()
    }
}

type Xids = Arc<BTreeMap<u64, Xid>>;

fn errors_of_lost(state: &gpu::State) -> Vec<(&str, &Xids)> {
    let gpu::State::Present { lost, .. } = state else { return Vec::new() };
    lost.iter().filter_map(|gpu| Some((gpu.uuid.as_deref()?, &gpu.xids))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoNs;
    use crate::correlate::sample;
    use crate::gpu::Lost;
    use crate::gpu::More;
    use crate::gpu::ProcessUse;
    use crate::gpu::Sample;
    use crate::ident::Role;

    const CORE: Pid = Pid(42);

    fn target() -> TargetView {
        TargetView { pid: CORE, role: Role::Core, ..sample::target() }
    }

    fn xids() -> Xids {
        Arc::new(BTreeMap::from([(79, Xid { count: 1, last: MonoNs(5) })]))
    }

    #[test]
    fn a_lost_gpu_keeps_its_engine_and_its_errors() {
        let mut devices = Devices::default();
        let process = ProcessUse { pid: CORE, memory_bytes: None, sm_utilization: None };
        let more = More { xids: xids(), ..More::default() };
        let gpu = Sample { uuid: "GPU-a".to_owned(), processes: vec![process], more, ..Sample::default() };
        let lost =
            Lost { index: 0, uuid: Some("GPU-a".to_owned()), name: None, why: "fell off".to_owned(), xids: xids() };
        let present = |gpus, lost| gpu::State::Present { driver: None, gpus, lost };
        let expected = [Errors { gpu: "GPU-a".to_owned(), code: 79, xid: Xid { count: 1, last: MonoNs(5) } }];
        for (state, known) in
            [(present(vec![gpu], vec![]), true), (present(vec![], vec![lost]), true), (present(vec![], vec![]), false)]
        {
            devices.read(state, &[target()], &Prices::default());
            assert_eq!(devices.errors(CORE), if known { &expected[..] } else { &[] });
            assert_eq!(devices.errors(Pid(43)), []);
        }
    }
}
