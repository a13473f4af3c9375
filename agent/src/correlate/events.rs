//! GPUs as they are read in; what an operator is told of, each thing once, out.

use crate::clock::MonoNs;
use crate::correlate::CoreView;
use crate::correlate::wedged::Wedged;
use crate::gpu::Lost;
use crate::gpu::Sample;
use crate::gpu::State;
use crate::gpu::Xid;
use crate::gpu::xid;
use crate::ident::Pid;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Events that wait to be told at most; they are asked for each second.
const WAITING_MAX: usize = 1_024;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: MonoNs,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A GPU had a critical error.
    Xid {
        /// Its `hw.id`.
        gpu: String,
        /// Product name.
        name: Option<String>,
        /// The driver's code.
        code: u64,
        /// How often it has had this one since the agent started.
        count: u64,
        /// The code in words.
        meaning: &'static str,
    },
    /// A GPU no longer answers.
    GpuLost {
        /// Its `hw.id`, where it was ever told.
        gpu: Option<String>,
        /// Position in NVML's list.
        index: u32,
        /// What it says instead.
        why: String,
    },
    /// A GPU that was lost answers again.
    GpuBack {
        /// Its `hw.id`.
        gpu: String,
    },
    /// An engine core has work and does nothing.
    Wedged {
        /// The core.
        core: Pid,
        /// How it stands still.
        wedged: Wedged,
        /// What was last heard of it.
        view: Option<Box<CoreView>>,
    },
    /// It steps again.
    Stepping {
        /// The core.
        core: Pid,
    },
}

impl What {
    /// Its name in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Xid { .. } => "gpu_xid",
            Self::GpuLost { .. } => "gpu_lost",
            Self::GpuBack { .. } => "gpu_back",
            Self::Wedged { .. } => "engine_wedged",
            Self::Stepping { .. } => "engine_stepping",
        }
    }

    /// Whether somebody should look after it.
    pub const fn is_trouble(&self) -> bool {
        match self {
            Self::Xid { .. } | Self::GpuLost { .. } | Self::Wedged { .. } => true,
            Self::GpuBack { .. } | Self::Stepping { .. } => false,
        }
    }
}

/// What was told of GPUs, and what waits to be told.
#[derive(Debug, Default)]
pub struct Events {
    /// By GPU and code.
    xids: BTreeMap<(String, u64), u64>,
    /// Lost GPUs by position.
    lost: BTreeSet<u32>,
    waiting: Vec<Event>,
}

impl Events {
    /// The GPUs as they were read at `now`.
    pub fn gpus(&mut self, state: &State, now: MonoNs) {
        let State::Present { gpus, lost, .. } = state else { return };
        for gpu in gpus {
            self.xids(&gpu.uuid, gpu.name.as_ref(), &gpu.more.xids);
        }
        for gpu in lost {
            if let Some(uuid) = &gpu.uuid {
                self.xids(uuid, gpu.name.as_ref(), &gpu.xids);
            }
        }
        self.lost(gpus, lost, now);
    }

    /// One more to tell.
    pub fn push(&mut self, event: Event) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(event);
        }
    }

    /// All that has not been told yet.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.waiting)
    }

    fn xids(&mut self, gpu: &str, name: Option<&String>, xids: &BTreeMap<u64, Xid>) {
        for (code, xid) in xids {
            let told = self.xids.entry((gpu.to_owned(), *code)).or_default();
            if *told != xid.count {
                *told = xid.count;
                let (meaning, gpu) = (xid::meaning(*code), gpu.to_owned());
                let what = What::Xid { gpu, name: name.cloned(), code: *code, count: xid.count, meaning };
                self.push(Event { at: xid.last, what });
            }
        }
    }

    fn lost(&mut self, answering: &[Sample], lost: &[Lost], now: MonoNs) {
        for gpu in lost {
            if self.lost.insert(gpu.index) {
                let what = What::GpuLost { gpu: gpu.uuid.clone(), index: gpu.index, why: gpu.why.clone() };
                self.push(Event { at: now, what });
            }
        }
        for gpu in answering {
            if self.lost.remove(&gpu.index) {
                self.push(Event { at: now, what: What::GpuBack { gpu: gpu.uuid.clone() } });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::More;
    use std::sync::Arc;

    const NOW: MonoNs = MonoNs(99);

    /// A GPU with so many errors 31, the last at `last`.
    fn gpu(count: u64, last: u64) -> Sample {
        let xids = Arc::new(BTreeMap::from([(31, Xid { count, last: MonoNs(last) })]));
        Sample { uuid: "GPU-a".to_owned(), more: More { xids, ..More::default() }, ..Sample::default() }
    }

    fn told(events: &mut Events, gpus: Vec<Sample>, lost: Vec<Lost>) -> Vec<(&'static str, u64)> {
        events.gpus(&State::Present { driver: None, gpus, lost }, NOW);
        events.take().iter().map(|event| (event.what.name(), event.at.0)).collect()
    }

    fn lost(xids: u64) -> Lost {
        let xids = (xids > 0).then_some((79, Xid { count: xids, last: MonoNs(70) }));
        let xids = Arc::new(xids.into_iter().collect());
        Lost { index: 0, uuid: Some("GPU-a".to_owned()), name: None, why: "gone".to_owned(), xids }
    }

    #[test]
    fn each_error_is_told_once_and_a_repeat_again() {
        let mut events = Events::default();
        for (gpu, expected) in
            [(gpu(1, 5), vec![("gpu_xid", 5)]), (gpu(1, 5), vec![]), (gpu(3, 8), vec![("gpu_xid", 8)])]
        {
            assert_eq!(told(&mut events, vec![gpu], vec![]), expected);
        }
    }

    #[test]
    fn a_gpu_goes_and_comes_back() {
        let mut events = Events::default();
        for (gpus, lost, expected) in [
            (vec![Sample::default()], vec![], vec![]),
            (vec![], vec![lost(0)], vec![("gpu_lost", 99)]),
            (vec![], vec![lost(1)], vec![("gpu_xid", 70)]),
            (vec![Sample::default()], vec![], vec![("gpu_back", 99)]),
            (vec![Sample::default()], vec![], vec![]),
        ] {
            assert_eq!(told(&mut events, gpus, lost), expected);
        }
        events.gpus(&State::Absent { why: "no driver".to_owned() }, NOW);
        assert_eq!(events.take(), []);
    }

    #[test]
    fn nobody_who_asks_is_no_reason_to_grow() {
        let mut events = Events::default();
        for _ in 0..=WAITING_MAX {
            events.push(Event { at: NOW, what: What::Stepping { core: Pid(1) } });
        }
        assert_eq!(events.take().len(), WAITING_MAX);
    }
}
