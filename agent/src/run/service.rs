//! What the agent does in; what systemd is told of it out. Without systemd nobody is told.

use crate::clock::Clock;
use crate::clock::MonoNs;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two looks at whether the agent is ready.
const LOOK: Duration = Duration::from_millis(100);
/// A line that has stood still for so long hangs.
const STILL: Duration = Duration::from_secs(10);

/// When the ring thread last breathed.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It does now.
    pub(super) fn beat(&self, now: MonoNs) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    fn is_alive(&self, now: MonoNs) -> bool {
        now <= MonoNs(self.0.load(Ordering::Relaxed)).plus(STILL)
    }
}

/// Says when the agent is ready, and from then on that it lives, as long as records are read.
#[expect(clippy::infinite_loop, reason = "ends with the task set that holds it")]
pub(super) async fn tell(clock: Arc<dyn Clock>, ready: Arc<AtomicBool>, pulse: Pulse) {
    while !ready.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
    say(&[NotifyState::Ready]);
    // As systemd advises: twice as often as it asks for.
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(every / 2);
    loop {
        tick.tick().await;
        if pulse.is_alive(clock.now()) {
            say(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("no record was read for {STILL:?}: the watchdog is not told that all is well");
        }
    }
}

/// The agent reads its settings anew; it is ready again when [`reloaded`] says so.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no time to tell systemd"),
    }
}

/// It has read them, whether they can be used or not.
pub(super) fn reloaded() {
    say(&[NotifyState::Ready]);
}

/// The agent ends.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_not_alive() {
        let pulse = Pulse::default();
        let at = |seconds: u64| MonoNs(seconds * 1_000_000_000);
        pulse.beat(at(100));
        assert_eq!([100, 110, 111].map(|now| pulse.is_alive(at(now))), [true, true, false]);
    }
}
