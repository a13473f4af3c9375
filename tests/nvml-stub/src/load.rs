//! A GPU's load over time in; where its counters stand now out.

use serde::Deserialize;
use std::mem::MaybeUninit;

/// How counters go on. Without `since_ns` they stand still.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// The instant of CLOCK_MONOTONIC at which the counters stood as the scenario says.
    pub since_ns: u64,
    /// Its load from then on, each step until the next; without any, full.
    pub step: Vec<Step>,
    /// Bytes a second over PCIe in each direction, under full load.
    pub pcie_bytes_per_second: u64,
    /// Index into `clock_event_ns` of what counts while the load is full.
    pub full_load_event: Option<usize>,
}

/// A load from one moment on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Seconds after `since_ns`.
    pub at_seconds: f64,
    /// 0 idle, 1 full.
    pub share: f64,
}

/// What has passed up to one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Passed {
    /// Seconds.
    pub seconds: f64,
    /// Seconds weighed with the load in them.
    pub loaded: f64,
    /// Seconds under full load.
    pub full: f64,
}

impl Load {
    /// From `since_ns` to this instant of CLOCK_MONOTONIC.
    pub fn passed(&self, now_ns: u64) -> Passed {
        if self.since_ns == 0 {
            return Passed::default();
        }
        let seconds = now_ns.saturating_sub(self.since_ns) as f64 / 1e9;
        let steps = self.steps();
        let ends = steps.iter().skip(1).map(|step| step.at_seconds).chain([f64::INFINITY]);
        let mut passed = Passed { seconds, ..Passed::default() };
        for (step, end) in steps.iter().zip(ends) {
            let part = (end.min(seconds) - step.at_seconds).max(0.0);
            passed.loaded += part * step.share;
            passed.full += if step.share >= 1.0 { part } else { 0.0 };
        }
        passed
    }

    /// The load at an instant; `None` where nothing moves.
    pub fn share(&self, now_ns: u64) -> Option<f64> {
        let seconds = now_ns.saturating_sub(self.since_ns) as f64 / 1e9;
        let steps = self.steps();
        let step = steps.iter().rfind(|step| step.at_seconds <= seconds);
        step.filter(|_| self.since_ns > 0).map(|step| step.share)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a hundred")]
    pub(crate) fn percent(&self) -> Option<u32> {
        self.share(now_ns()).map(|share| (share * 100.0).round() as u32)
    }

    fn steps(&self) -> Vec<Step> {
        if self.step.is_empty() { vec![Step { at_seconds: 0.0, share: 1.0 }] } else { self.step.clone() }
    }
}

/// CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: writable memory for one timespec.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
    }
    // SAFETY: zeroes are a valid timespec, and the call fills it in.
    let time = unsafe { time.assume_init() };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_weighed_with_their_load() {
        let step = |at_seconds, share| Step { at_seconds, share };
        let load = Load { since_ns: 1_000_000_000, step: vec![step(0.0, 0.5), step(2.0, 1.0)], ..Load::default() };
        assert_eq!(load.passed(2_000_000_000), Passed { seconds: 1.0, loaded: 0.5, full: 0.0 });
        assert_eq!(load.passed(6_000_000_000), Passed { seconds: 5.0, loaded: 4.0, full: 3.0 });
        assert_eq!((load.share(2_000_000_000), load.share(4_000_000_000)), (Some(0.5), Some(1.0)));
        assert_eq!(Load::default().passed(9), Passed::default());
    }
}
