//! Critical errors as the driver reports them in; counts by GPU and code, and words for the log, out.

use crate::clock::MonoNs;
use crate::gpu::Xid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Codes kept of one GPU: the driver has fewer than 200.
const CODES_MAX: usize = 256;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The GPU's uuid.
    pub gpu: String,
    /// The code.
    pub code: u64,
    /// When it was heard of.
    pub at: MonoNs,
}

/// All events since the agent started, over every session.
#[derive(Debug, Default)]
pub struct Xids(BTreeMap<String, Arc<BTreeMap<u64, Xid>>>);

impl Xids {
    /// Counts one.
    pub fn take(&mut self, event: Event) {
        let codes = Arc::make_mut(self.0.entry(event.gpu).or_default());
        if codes.len() < CODES_MAX || codes.contains_key(&event.code) {
            let xid = codes.entry(event.code).or_insert(Xid { count: 0, last: event.at });
            *xid = Xid { count: xid.count + 1, last: xid.last.max(event.at) };
        }
    }

    /// Those of one GPU.
    pub fn of(&self, gpu: &str) -> Arc<BTreeMap<u64, Xid>> {
        self.0.get(gpu).map(Arc::clone).unwrap_or_default()
    }
}

/// What a code means, for those that an operator of inference meets.
pub const fn meaning(code: u64) -> &'static str {
    match code {
        13 => "graphics engine exception, mostly the application's",
        31 => "memory page fault, mostly the application's",
        43 => "the GPU stopped processing, mostly the application's",
        45 => "work cut off, after another error or a killed process",
        48 => "uncorrectable memory error",
        62 | 119 | 120 => "the GPU's own processor failed",
        63 => "a row of memory is to be replaced",
        64 => "a row of memory could not be replaced",
        74 => "NVLink error",
        79 => "the GPU has fallen off the bus",
        92 => "many corrected memory errors",
        94 => "memory error contained to one application",
        95 => "memory error that is not contained",
        _ => "see NVIDIA's list of Xid errors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_shows() {
        let mut xids = Xids::default();
        for (code, at) in [(79, 5), (31, 6), (31, 9)] {
            xids.take(Event { gpu: "GPU-a".to_owned(), code, at: MonoNs(at) });
        }
        let expected = [(31, Xid { count: 2, last: MonoNs(9) }), (79, Xid { count: 1, last: MonoNs(5) })];
        assert_eq!(*xids.of("GPU-a"), BTreeMap::from(expected));
        assert!(xids.of("GPU-b").is_empty());
    }

    #[test]
    fn rubbish_codes_find_an_end() {
        let mut xids = Xids::default();
        for code in 0..1_000 {
            xids.take(Event { gpu: String::new(), code, at: MonoNs(1) });
        }
        assert_eq!(xids.of("").len(), CODES_MAX);
    }
}
