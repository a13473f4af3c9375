//! Readings of the driver's counters in; counters that only rise out, over wraps, resets and reloads.

use std::collections::BTreeMap;

/// One counter of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counter {
    total: u64,
    last: u64,
    session: u64,
}

/// Every counter of every GPU, for as long as the agent runs.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<String, BTreeMap<&'static str, Counter>>);

/// A reading: its value, and whether it is a number of 32 bits, which wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the driver said.
    pub value: u64,
    /// Whether it has 32 bits only.
    pub narrow: bool,
}

impl Ledger {
    /// The counter after this reading. It begins at the first reading's own value. A fall is a wrap when the
    /// number is narrow and the session is the same; else the driver began anew, at zero.
    pub fn advance(&mut self, gpu: &str, name: &'static str, session: u64, reading: Reading) -> u64 {
        let Reading { value, narrow } = reading;
        let gpu = match self.0.get_mut(gpu) {
            Some(gpu) => gpu,
            None => self.0.entry(gpu.to_owned()).or_default(),
        };
        let counter = gpu.entry(name).or_insert(Counter { total: value, last: value, session });
        let risen = match value.checked_sub(counter.last) {
            Some(risen) => risen,
            None if narrow && counter.session == session => (value + (1 << 32)).saturating_sub(counter.last),
            None => value,
        };
        *counter = Counter { total: counter.total.saturating_add(risen), last: value, session };
        counter.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(narrow: bool, readings: &[(u64, u64)]) -> Vec<u64> {
        let mut ledger = Ledger::default();
        readings
            .iter()
            .map(|(session, value)| ledger.advance("GPU-a", "energy", *session, Reading { value: *value, narrow }))
            .collect()
    }

    #[test]
    fn it_starts_where_the_driver_stands_and_never_falls() {
        assert_eq!(totals(false, &[(1, 500), (1, 500), (1, 700)]), [500, 500, 700]);
        assert_eq!(totals(false, &[(1, 500), (2, 30), (2, 40)]), [500, 530, 540], "a driver that began anew");
        assert_eq!(
            totals(false, &[(1, 500), (2, 510)]),
            [500, 510],
            "a session that began anew, a driver that did not"
        );
    }

    #[test]
    fn a_narrow_counter_wraps_within_a_session_only() {
        let end = (1 << 32) - 10;
        assert_eq!(totals(true, &[(1, end), (1, 5)]), [end, end + 15]);
        assert_eq!(totals(true, &[(1, end), (2, 5)]), [end, end + 5]);
    }

    #[test]
    fn each_gpu_and_each_name_counts_alone() {
        let mut ledger = Ledger::default();
        let mut at = |gpu, name, value| ledger.advance(gpu, name, 1, Reading { value, narrow: false });
        assert_eq!([at("a", "x", 1), at("b", "x", 10), at("a", "y", 100), at("a", "x", 2)], [1, 10, 100, 2]);
    }
}
