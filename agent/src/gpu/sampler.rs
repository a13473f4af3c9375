//! Settings in, a [`State`] a second out, whatever NVML does.
//!
//! One thread owns NVML, since a call into a sick driver may never return and cannot be cancelled.
//! The task here only listens to that thread, and says so when it has fallen silent.

use crate::clock::Clock;
use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::gpu::State;
use crate::gpu::nvml::Config;
use crate::gpu::nvml::Source;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two attempts to open NVML, so that a driver installed later is found.
const REOPEN: Duration = Duration::from_secs(10);
/// A GPU that was lost comes back to a new session only; opening one is not cheap.
const RENEW_WHEN_LOST: Duration = Duration::from_mins(1);
/// After this long without a reading the last one is no longer true.
const SILENCE: Duration = Duration::from_secs(5);

/// Feeds `sink` until the future is dropped: at each reading, and each second while NVML is silent.
///
/// Dropping the future ends the thread at its next breath; a thread that hangs inside NVML is left behind.
pub async fn run(config: Config, clock: Arc<dyn Clock>, mut sink: impl FnMut(State) + Send) {
    if !config.enabled {
        sink(absent("GPU sampling is switched off"));
        return;
    }
    let (publish, mut published) = watch::channel(absent("NVML has not answered yet"));
    let (_running, stop) = std::sync::mpsc::channel();
    let thread_clock = Arc::clone(&clock);
    let owner = thread::Builder::new().name("nvml".to_owned());
    if let Err(error) = owner.spawn(move || own(&config, thread_clock.as_ref(), &publish, &stop)) {
        sink(absent(&format!("the thread for NVML cannot be started: {error}")));
        return;
    }
    let mut heard = clock.now();
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            changed = published.changed() => {
                if changed.is_err() {
                    sink(absent("the thread for NVML has ended"));
                    return;
                }
                heard = clock.now();
                let state = published.borrow_and_update().clone();
                sink(state);
            }
            _ = tick.tick() => {
                if let Some(why) = silence(heard, clock.now()) {
                    sink(absent(&why));
                }
            }
        }
    }
}

/// Life of the owning thread: publishes at each period until the other side is gone.
fn own(config: &Config, clock: &dyn Clock, publish: &watch::Sender<State>, stop: &Receiver<()>) {
    let mut session = Session::new(config);
    loop {
        if publish.send(session.step(clock.now())).is_err() {
            return;
        }
        match stop.recv_timeout(PERIOD) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What the owning thread knows: an open source, or why there is none.
pub struct Session<'a> {
    config: &'a Config,
    source: Option<Source>,
    opened: Option<MonoNs>,
    why: String,
}

impl<'a> Session<'a> {
    /// Nothing tried yet.
    pub fn new(config: &'a Config) -> Self {
        Self { config, source: None, opened: None, why: String::new() }
    }

    /// Opens what is due to be opened, then reads. Blocks for as long as NVML does.
    pub fn step(&mut self, now: MonoNs) -> State {
        if self.source.is_none() && self.due(now, REOPEN) {
            self.open(now);
        }
        if self.source.as_ref().is_some_and(Source::lost_some) && self.due(now, RENEW_WHEN_LOST) {
            // NVML is one per process and counts its users: the old session must end before a new one is new.
            self.source = None;
            self.open(now);
        }
        let Some(source) = &mut self.source else { return absent(&self.why) };
        match source.read(now) {
            Ok(state) => state,
            Err(error) => {
                self.why = error.to_string();
                tracing::warn!(why = %self.why, "NVML session ended");
                self.source = None;
                self.opened = Some(now);
                absent(&self.why)
            }
        }
    }

    fn due(&self, now: MonoNs, every: Duration) -> bool {
        self.opened.is_none_or(|opened| now >= opened.plus(every))
    }

    fn open(&mut self, now: MonoNs) {
        self.opened = Some(now);
        match Source::open(self.config) {
            Ok(source) => self.source = Some(source),
            Err(error) => {
                let why = error.to_string();
                if why != self.why {
                    tracing::info!(%why, "no GPU readings");
                }
                self.why = why;
            }
        }
    }
}

/// The sentence about a silence that is too long.
fn silence(heard: MonoNs, now: MonoNs) -> Option<String> {
    let silent_ns = now.since(heard)?;
    (now > heard.plus(SILENCE)).then(|| format!("NVML has not answered for {:.0} s", seconds(silent_ns)))
}

fn absent(why: &str) -> State {
    State::Absent { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_seconds_of_silence_are_still_patience() {
        let heard = MonoNs(1_000);
        assert_eq!(silence(heard, heard), None);
        assert_eq!(silence(heard, heard.plus(SILENCE)), None);
        assert_eq!(silence(heard, MonoNs(0)), None, "a clock read out of order is no silence");
        let later = heard.plus(Duration::from_secs(7));
        assert_eq!(silence(heard, later).as_deref(), Some("NVML has not answered for 7 s"));
    }
}
