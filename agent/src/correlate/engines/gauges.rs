//! An engine's gauges by its own metrics, and by its messages, in; agreements, disagreements and stale gauges out.
//!
//! The two are comparable where nothing moved: the schedulers had spoken well before the engine was asked, and have
//! not spoken again two ticks after it answered. Where they speak all the time, a gauge that shows the same value
//! twice, while the messages in between never came to that value, stands still.

use crate::correlate::engines::COMPARED;
use crate::correlate::engines::Checks;
use crate::correlate::engines::Disagreement;
use crate::correlate::engines::Word;
use crate::engine::Sample;
use std::sync::Arc;

/// From a scheduler's word to the gauge that repeats it: the front end may be busy.
const MARGIN_NS: u64 = 1_000_000_000;
/// Ticks after a sample, of each core, until what had been said before it has surely come.
const TICKS: usize = 2;
/// Ticks between two samples without which nothing is said of a gauge that stands still.
const TICKS_BETWEEN: usize = 10;
/// Shares that differ by less are one.
const SAME: f64 = 1e-6;

/// What is remembered between samples.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// The last sample's gauges.
    last: [Option<f64>; 3],
    /// What the messages said since, lowest and highest.
    since: [Option<(f64, f64)>; 3],
    ticks: usize,
    /// A sample to be compared when it is certain that nothing moved.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    sample: Arc<Sample>,
    word: Word,
    ticks: usize,
}

/// Of a gauge that shows the same twice: what the messages in between said nearest to it, if never that.
fn never_said(now: f64, last: f64, (low, high): (f64, f64)) -> Option<f64> {
    let differs = now < low - SAME || now > high + SAME;
    (differs && now.to_bits() == last.to_bits()).then(|| now.clamp(low, high))
}

fn read(sample: &Sample) -> [Option<f64>; 3] {
    [sample.running, sample.waiting, sample.kv_usage]
}

impl Gauges {
    pub(super) fn sampled(&mut self, sample: &Arc<Sample>, word: &Word, checks: &mut Checks) {
        let now = read(sample);
        self.see(word);
        let enough = self.ticks >= TICKS_BETWEEN;
        for (((what, now), last), since) in COMPARED.into_iter().zip(now).zip(self.last).zip(self.since) {
            let stale = match (now, last, since) {
                (Some(now), Some(last), Some(range)) if enough => never_said(now, last, range),
                _ => None,
            };
            let was = checks.stale.contains(&what);
            match stale {
                Some(messages) => {
                    checks.disagreed(Disagreement { what, at: sample.at, messages, scraped: now.unwrap_or(messages) });
                    if !was {
                        checks.stale.push(what);
                    }
                }
                None => checks.stale.retain(|it| *it != what),
            }
        }
        let settled = word.at.iter().all(|at| at.0.saturating_add(MARGIN_NS) <= sample.asked.0);
        self.pending = settled.then(|| Pending { sample: Arc::clone(sample), word: word.clone(), ticks: 0 });
        self.last = now;
        self.since = [None; 3];
        self.ticks = 0;
        self.see(word);
    }

    pub(super) fn ticked(&mut self, word: &Word, checks: &mut Checks) {
        self.ticks += 1;
        self.see(word);
        let Some(mut pending) = self.pending.take() else { return };
        if pending.word.at != word.at {
            return;
        }
        pending.ticks += 1;
        if pending.ticks < TICKS * word.at.len() {
            self.pending = Some(pending);
            return;
        }
        for ((what, scraped), messages) in COMPARED.into_iter().zip(read(&pending.sample)).zip(word.gauges) {
            // What stands still was counted as that.
            let (Some(scraped), Some(messages), false) = (scraped, messages, checks.stale.contains(&what)) else {
                continue;
            };
            if (scraped - messages).abs() <= SAME {
                checks.agreed(what);
            } else {
                checks.disagreed(Disagreement { what, at: pending.sample.at, messages, scraped });
            }
        }
    }

    fn see(&mut self, word: &Word) {
        for (since, value) in self.since.iter_mut().zip(word.gauges) {
            let Some(value) = value else { continue };
            let (low, high) = since.unwrap_or((value, value));
            *since = Some((low.min(value), high.max(value)));
        }
    }
}
