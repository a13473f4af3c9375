//! A failed attempt in, the time until the next one out, or the end of trying.

use std::time::Duration;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One sentence.
    pub what: String,
    /// Whether another attempt makes sense.
    pub again: Again,
}

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The collector has understood and refused.
    Never,
    /// It may pass.
    Later,
    /// The collector said when.
    After(Duration),
}

/// How long to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The first pause.
    pub first: Duration,
    /// The longest pause that we choose ourselves.
    pub longest: Duration,
    /// Attempts in all.
    pub attempts: u32,
    /// Time in all, from the first attempt.
    pub patience: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            attempts: 20,
            patience: Duration::from_mins(5),
        }
    }
}

impl Policy {
    /// The pause after a failure; `None` ends it. `attempts` have been made during `spent`, and `jitter`
    /// is a random number between 0 and 1: our own pauses are between half and the whole of a doubling
    /// length, so that agents that lost one collector together do not come back together.
    pub fn pause(&self, again: Again, attempts: u32, spent: Duration, jitter: f64) -> Option<Duration> {
        let doubled = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.longest);
        let ours = doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let pause = match again {
            Again::Never => return None,
            Again::Later => ours,
            Again::After(theirs) => theirs.max(ours),
        };
        (attempts < self.attempts && spent.saturating_add(pause) < self.patience).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let policy = Policy::default();
        let whole = |attempts| policy.pause(Again::Later, attempts, Duration::ZERO, 1.0).unwrap();
        assert_eq!([1, 2, 3, 6, 19].map(whole), [1, 2, 4, 30, 30].map(Duration::from_secs));
        assert_eq!(policy.pause(Again::Later, 1, Duration::ZERO, 0.0), Some(SECOND / 2));
    }

    #[test]
    fn the_collectors_word_is_kept() {
        let policy = Policy::default();
        let pause = |after| policy.pause(Again::After(after), 3, Duration::ZERO, 1.0);
        assert_eq!(pause(60 * SECOND), Some(60 * SECOND));
        assert_eq!(pause(Duration::ZERO), Some(4 * SECOND), "never hurried by a zero");
        assert_eq!(pause(Duration::MAX), None, "no time left for it");
    }

    #[test]
    fn trying_ends() {
        let policy = Policy::default();
        assert_eq!(policy.pause(Again::Never, 1, Duration::ZERO, 0.5), None);
        assert_eq!(policy.pause(Again::Later, policy.attempts, Duration::ZERO, 0.5), None);
        assert_eq!(policy.pause(Again::Later, 2, policy.patience, 0.5), None);
    }
}
