//! Time: CLOCK_MONOTONIC nanoseconds in, wall time out through an anchor.
//!
//! Every instant in this crate is on the clock of `bpf_ktime_get_ns`, which is also the clock of
//! vLLM's engine events, so instants subtract without correction.

use serde::Serialize;
use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// Nanoseconds from `earlier` to `self`; `None` when the order is the other way round.
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// From the engine's float seconds of the same clock; `None` for what is no time at all.
    pub fn from_secs_f64(seconds: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked just above")]
        (seconds.is_finite() && (0.0..9.0e9).contains(&seconds)).then(|| Self((seconds * 1e9).round() as u64))
    }

    /// `self` moved forward.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Seconds of a nanosecond count, for export.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Milliseconds of a nanosecond count, for export.
pub fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// One pair of readings that ties CLOCK_MONOTONIC to CLOCK_REALTIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The monotonic reading.
    pub mono: MonoNs,
    /// Unix nanoseconds at the same moment.
    pub unix_ns: u64,
}

impl Anchor {
    /// Unix nanoseconds of a monotonic instant.
    pub fn unix_ns(&self, at: MonoNs) -> u64 {
        if at >= self.mono {
            self.unix_ns.saturating_add(at.0 - self.mono.0)
        } else {
            self.unix_ns.saturating_sub(self.mono.0 - at.0)
        }
    }
}

/// Where time comes from: the system in service, a script in tests and replays.
pub trait Clock: Send + Sync {
    /// Now, on CLOCK_MONOTONIC.
    fn now(&self) -> MonoNs;
    /// A fresh tie between the two clocks.
    fn anchor(&self) -> Anchor;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> MonoNs {
        MonoNs(crate::sys::clock_ns(crate::sys::ClockId::Monotonic))
    }

    /// The wall reading is put midway between two monotonic ones, so its error is half their distance.
    fn anchor(&self) -> Anchor {
        let before = self.now();
        let unix_ns = crate::sys::clock_ns(crate::sys::ClockId::Realtime);
        let after = self.now();
        Anchor { mono: MonoNs(u64::midpoint(before.0, after.0)), unix_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_seconds_keep_their_nanoseconds() {
        assert_eq!(MonoNs::from_secs_f64(12.000_000_5), Some(MonoNs(12_000_000_500)));
        assert_eq!(MonoNs::from_secs_f64(f64::NAN), None);
        assert_eq!(MonoNs::from_secs_f64(-1.0), None);
        assert_eq!(MonoNs::from_secs_f64(1.7e19), None);
    }

    #[test]
    fn an_anchor_runs_both_ways() {
        let anchor = Anchor { mono: MonoNs(100), unix_ns: 1_000 };
        assert_eq!(anchor.unix_ns(MonoNs(150)), 1_050);
        assert_eq!(anchor.unix_ns(MonoNs(50)), 950);
    }
}
