//! Settings in, a [`State`] about ten times a second out, whatever NVML does.
//!
//! One thread owns NVML, since a call into a sick driver may never return and cannot be cancelled.
//! The task here only listens to that thread, and says so when it has fallen silent.

use crate::clock::Clock;
use crate::clock::MonoNs;
use crate::clock::System;
use crate::clock::seconds;
use crate::gpu::State;
use crate::gpu::nvml::Config;
use crate::gpu::nvml::Error;
use crate::gpu::nvml::Memory;
use crate::gpu::nvml::Source;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at whether NVML has fallen silent.
const LISTEN: Duration = Duration::from_secs(1);
/// More often is of no use: the driver's own counters move about ten times a second.
const SHORTEST: Duration = Duration::from_millis(20);
/// Between two attempts to open NVML, so that a driver installed later is found.
const REOPEN: Duration = Duration::from_secs(10);
/// A GPU that was lost comes back to a new session only; opening one is not cheap.
const RENEW_WHEN_LOST: Duration = Duration::from_mins(1);
/// So long a session that is over may take to let go of the library.
const LET_GO: Duration = Duration::from_secs(2);
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
    let mut tick = tokio::time::interval(LISTEN);
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
    let period = config.interval.clamp(SHORTEST, LISTEN);
    loop {
        let began = clock.now();
        if publish.send(session.step(began)).is_err() {
            return;
        }
        // The time that the reading took is part of the period; without a session there is nothing to hurry for.
        let took = Duration::from_nanos(clock.now().since(began).unwrap_or(0));
        let rest = if session.is_open() { period.saturating_sub(took).max(period / 10) } else { LISTEN };
        match stop.recv_timeout(rest) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What the owning thread knows: an open source, or why there is none.
pub struct Session<'a> {
    config: &'a Config,
    memory: Memory,
    source: Option<Source>,
    /// Whether the last session's library is still held by somebody.
    closing: Option<Box<dyn Fn() -> bool>>,
    opened: Option<MonoNs>,
    why: String,
}

impl<'a> Session<'a> {
    /// Nothing tried yet.
    pub fn new(config: &'a Config) -> Self {
        Self { config, memory: Memory::default(), source: None, closing: None, opened: None, why: String::new() }
    }

    /// Whether NVML answers.
    pub fn is_open(&self) -> bool {
        self.source.is_some()
    }

    /// Opens what is due to be opened, then reads what is due to be read. Blocks for as long as NVML does.
    pub fn step(&mut self, now: MonoNs) -> State {
        if self.source.is_none() && self.due(now, REOPEN) {
            self.open(now);
        }
        let (some, all) = self.source.as_ref().map_or((false, false), Source::lost);
        if some && self.due(now, if all { REOPEN } else { RENEW_WHEN_LOST }) {
            // NVML is one per process and counts its users: the old session must end before a new one is new.
            self.close();
            self.open(now);
        }
        let Some(source) = &mut self.source else { return absent(&self.why) };
        match source.read(now, &mut self.memory) {
            Ok(state) => state,
            Err(error) => {
                self.why = error.to_string();
                tracing::warn!(why = %self.why, "NVML session ended");
                self.close();
                self.opened = Some(now);
                if matches!(error, Error::Replaced) {
                    // The new library may be there already.
                    self.opened = None;
                }
                absent(&self.why)
            }
        }
    }

    fn due(&self, now: MonoNs, every: Duration) -> bool {
        self.opened.is_none_or(|opened| now >= opened.plus(every))
    }

    fn close(&mut self) {
        if let Some(source) = self.source.take() {
            let held = source.close();
            self.closing = Some(Box::new(move || held.strong_count() > 0));
        }
    }

    /// Waits a little for the old session; whether it is gone.
    fn gone(&mut self) -> bool {
        let Some(held) = &self.closing else { return true };
        let until = System.now().plus(LET_GO);
        while held() {
            if System.now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.closing = None;
        true
    }

    fn open(&mut self, now: MonoNs) {
        self.opened = Some(now);
        let opened = if self.gone() {
            Source::open(self.config, &mut self.memory).map_err(|error| error.to_string())
        } else {
            Err("the last session with NVML hangs in a call and cannot be closed".to_owned())
        };
        match opened {
            Ok(source) => self.source = Some(source),
            Err(why) => {
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
