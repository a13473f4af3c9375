//! Judged requests in, how many missed their objective and why in the last minutes out.

use crate::clock::MonoNs;
use crate::correlate::cause::Cause;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// The width of a cell: a window is exact to so much.
const CELL_NS: u64 = 15_000_000_000;
/// Cells of the longest window.
const CELLS: u64 = 240;
/// Cells of the shorter window.
const SHORT: u64 = 20;
/// Models that one cell tells apart; the others count together.
const MODELS: usize = 64;

/// Requests of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// To which an objective applied.
    pub judged: u64,
    /// Of these, those that missed one.
    pub missed: u64,
    /// Of these, by cause.
    pub causes: BTreeMap<Cause, u64>,
}

impl Counts {
    /// One more.
    pub fn count(&mut self, missed: Option<Cause>) {
        self.judged += 1;
        if let Some(cause) = missed {
            self.missed += 1;
            *self.causes.entry(cause).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.judged += other.judged;
        self.missed += other.missed;
        for (cause, count) in &other.causes {
            *self.causes.entry(*cause).or_default() += count;
        }
    }
}

/// By model.
pub type Window = BTreeMap<String, Counts>;

/// The last 5 minutes and the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Windows {
    /// The last 5 minutes.
    #[serde(rename = "5m")]
    pub short: Window,
    /// The last hour.
    #[serde(rename = "1h")]
    pub long: Window,
}

/// The last hour in cells, the newest last.
#[derive(Debug, Default)]
pub struct Rolling {
    cells: VecDeque<(u64, Window)>,
}

impl Rolling {
    /// One request that ended then.
    pub fn count(&mut self, model: &str, missed: Option<Cause>, at: MonoNs) {
        let cell = at.0 / CELL_NS;
        // Requests end a little out of order; one that is older than all cells is in no window.
        let place = self.cells.partition_point(|(number, _)| *number < cell);
        if self.cells.get(place).is_none_or(|(number, _)| *number != cell) {
            self.cells.insert(place, (cell, Window::new()));
        }
        if let Some((_, window)) = self.cells.get_mut(place) {
            let known = window.len() < MODELS || window.contains_key(model);
            let model = if known { model } else { crate::correlate::OTHER };
            window.entry(model.to_owned()).or_default().count(missed);
        }
        while self.cells.len() as u64 > CELLS + 1 {
            self.cells.pop_front();
        }
    }

    /// Both windows, as they are now.
    pub fn windows(&self, now: MonoNs) -> Windows {
        let since = |cells: u64| {
            let oldest = (now.0 / CELL_NS).saturating_sub(cells);
            let mut sum = Window::new();
            for (model, counts) in self.cells.iter().filter(|(cell, _)| *cell >= oldest).flat_map(|(_, window)| window)
            {
                sum.entry(model.clone()).or_default().add(counts);
            }
            sum
        };
        Windows { short: since(SHORT), long: since(CELLS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> MonoNs {
        MonoNs(minutes * 60_000_000_000)
    }

    #[test]
    fn what_is_older_than_a_window_leaves_it() {
        let mut rolling = Rolling::default();
        rolling.count("a", Some(Cause::Queue), minutes(10));
        rolling.count("a", None, minutes(12));
        rolling.count("b", Some(Cause::Error), minutes(12));
        let seen = |now| {
            let Windows { short, long } = rolling.windows(minutes(now));
            let sum =
                |window: &Window| window.values().map(|counts| (counts.judged, counts.missed)).collect::<Vec<_>>();
            (sum(&short), sum(&long))
        };
        assert_eq!(seen(12), (vec![(2, 1), (1, 1)], vec![(2, 1), (1, 1)]));
        assert_eq!(seen(16), (vec![(1, 0), (1, 1)], vec![(2, 1), (1, 1)]));
        assert_eq!(seen(71), (vec![], vec![(1, 0), (1, 1)]));
        assert_eq!(seen(80), (vec![], vec![]));
        assert_eq!(rolling.windows(minutes(12)).short["a"].causes, BTreeMap::from([(Cause::Queue, 1)]));
    }

    #[test]
    fn many_models_and_many_hours_stay_bounded() {
        let mut rolling = Rolling::default();
        for minute in 0..600 {
            for model in 0..100 {
                rolling.count(&model.to_string(), None, minutes(minute));
            }
        }
        assert!(rolling.cells.len() as u64 <= CELLS + 1);
        let hour = rolling.windows(minutes(599)).long;
        assert_eq!((hour.len(), hour.values().map(|counts| counts.judged).sum::<u64>()), (MODELS + 1, 61 * 100));
    }
}
