//! What requests took in, what is usual for a model and a size out: running medians in bounded tables.

use std::collections::BTreeMap;

/// Values of one power of two are told apart by this many parts.
const PARTS: u64 = 8;
/// Values remembered before all of them weigh half.
const FULL: u32 = 1_024;
/// Fewer values than these make nothing usual.
const ENOUGH: u32 = 5;

/// A running median of whole numbers, to a sixteenth.
#[derive(Debug, Clone, Default)]
pub struct Median {
    counts: BTreeMap<u64, u32>,
    total: u32,
}

impl Median {
    /// One value.
    pub fn learn(&mut self, value: u64) {
        if self.total >= FULL {
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            self.total = self.counts.values().sum();
        }
        *self.counts.entry(rounded(value)).or_default() += 1;
        self.total += 1;
    }

    /// The value that half of them do not exceed; `None` while there are few.
    pub fn get(&self) -> Option<u64> {
        let mut reached = 0;
        let middle = self.counts.iter().find(|(_, count)| {
            reached += **count;
            reached * 2 >= self.total
        });
        middle.filter(|_| self.total >= ENOUGH).map(|(value, _)| *value)
    }
}

/// The middle of the value's part of its power of two.
fn rounded(value: u64) -> u64 {
    let width = 1_u64.checked_shl(value.max(1).ilog2()).unwrap_or(u64::MAX) / PARTS;
    if width < 2 { value } else { value / width * width + width / 2 }
}

/// Where a request spends its time, as far as each has a usual of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The phase of that name.
    Receive,
    /// The phase of that name.
    Frontend,
    /// The phase of that name.
    Queue,
    /// The phase of that name.
    Prefill,
    /// The phase of that name.
    Decode,
    /// From the step of the first token to the first content on the wire.
    Answer,
    /// The phase of that name.
    Deliver,
}

/// What a request spent in one part, and the tokens on which that depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Where.
    pub part: Part,
    /// How long, nanoseconds.
    pub ns: u64,
    /// Prompt tokens for receive and frontend, those not cached for prefill, those after the first for
    /// decode, 0 for the rest.
    pub tokens: u64,
}

impl Part {
    /// Whether its time grows with its tokens, so that the usual is one for each token.
    const fn by_token(self) -> bool {
        matches!(self, Self::Prefill | Self::Decode)
    }

    /// Sizes within a power of two are alike; decode has one pace for all.
    fn size(self, tokens: u64) -> u32 {
        if self == Self::Decode { 0 } else { tokens.checked_ilog2().map_or(0, |power| power + 1) }
    }
}

/// What is usual for one model. At most 65 sizes in each of seven parts.
#[derive(Debug, Clone, Default)]
pub struct Usual {
    medians: BTreeMap<(Part, u32), Median>,
}

impl Usual {
    /// A request that was as it should be spent this.
    pub fn learn(&mut self, spent: &Spent) {
        let Spent { part, ns, tokens } = *spent;
        let value = if part.by_token() { ns / tokens.max(1) } else { ns };
        self.medians.entry((part, part.size(tokens))).or_default().learn(value);
    }

    /// What a request of this size usually spends there, nanoseconds. For a size that is not known yet, what
    /// the most like it took, or the lowest time for each token: short prompts have a fixed cost, which
    /// would make a long one's usual too high.
    pub fn of(&self, part: Part, tokens: u64) -> Option<u64> {
        let size = part.size(tokens);
        let own = self.medians.get(&(part, size)).and_then(Median::get);
        let known = || {
            let all = self.medians.range((part, 0)..=(part, u32::MAX));
            all.filter_map(|((_, size), median)| Some((*size, median.get()?)))
        };
        let usual = if part.by_token() {
            own.or_else(|| known().map(|(_, value)| value).min())?.saturating_mul(tokens)
        } else {
            own.or_else(|| known().min_by_key(|(known, _)| known.abs_diff(size)).map(|(_, value)| value))?
        };
        Some(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut median = Median::default();
        values.into_iter().for_each(|value| median.learn(value));
        median.get()
    }

    #[test]
    fn a_median_is_the_middle_to_a_sixteenth_and_wild_values_do_not_move_it() {
        assert_eq!(median([7; 4]), None, "too few");
        assert_eq!(median([7; 5]), Some(7));
        for middle in [0, 1, 15, 16, 1_000, 123_456_789, u64::MAX / 3, u64::MAX] {
            let found = median([0, 0, middle, middle, middle, u64::MAX, u64::MAX]).unwrap();
            assert!(found.abs_diff(middle) <= middle / 16 + 1, "{found} for {middle}");
        }
        let wild = (0..10_000_u64).map(|at| if at % 3 == 0 { 1 << 40 } else { 1_000 });
        assert!(median(wild).unwrap().abs_diff(1_000) < 63);
    }

    #[test]
    fn what_is_usual_follows_a_lasting_change_and_stays_bounded() {
        let values = (0..20_000_u64).map(|at| if at < 10_000 { 1_000 } else { 9_000 });
        assert!(median(values).unwrap().abs_diff(9_000) < 563);
        let mut median = Median::default();
        (0..100_000_u64).for_each(|value| median.learn(value.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        assert!(median.counts.len() < 600 && median.total <= FULL);
    }

    #[test]
    fn the_usual_is_that_of_the_size() {
        let mut usual = Usual::default();
        let mut learn = |part, ns, tokens| (0..ENOUGH).for_each(|_| usual.learn(&Spent { part, ns, tokens }));
        learn(Part::Queue, 40, 0);
        learn(Part::Frontend, 100, 16);
        learn(Part::Frontend, 1_600, 1_024);
        learn(Part::Prefill, 8_000, 8);
        learn(Part::Prefill, 102_400, 1_024);
        learn(Part::Decode, 9_600, 1_200);
        for (part, tokens, expected) in [
            (Part::Queue, 0, Some(42)),
            (Part::Frontend, 20, Some(100)),
            (Part::Frontend, 3_000, Some(1_600)),
            (Part::Prefill, 9, Some(9 * 992)),
            (Part::Prefill, 10_000, Some(1_000_000)),
            (Part::Prefill, 0, Some(0)),
            (Part::Decode, 10, Some(80)),
            (Part::Deliver, 0, None),
        ] {
            let found = usual.of(part, tokens);
            let near = found.zip(expected).is_some_and(|(found, expected)| found.abs_diff(expected) <= expected / 12);
            assert!(near || found == expected, "{part:?} {tokens}: {found:?}, not {expected:?}");
        }
    }
}
