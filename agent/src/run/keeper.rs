//! Hints and time in, attachments out: the thread that looks at /proc and attaches what it finds there.

use crate::attach::Attach;
use crate::attach::Attached;
use crate::clock::Clock as _;
use crate::clock::System;
use crate::correlate::TargetView;
use crate::correlate::state::Correlator;
use crate::discover::Discover;
use crate::discover::procfs;
use crate::engine::scrape::Url;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Role;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// After a hint, the time in which more hints are taken with it. A new process has its title by then.
const SETTLE: Duration = Duration::from_millis(20);

/// Of the time between two looks, hints leave this many times what a look took: a storm of new
/// processes costs some tenth of one processor.
const REST: u32 = 9;

/// The longest such rest: an engine that starts is not kept waiting.
const REST_MOST: Duration = Duration::from_millis(250);

/// vLLM's own default.
const VLLM_PORT: u16 = 8_000;

/// Where each engine's metrics are.
pub type Engines = Vec<(EngineId, Url)>;

/// What the keeper works with.
pub struct Keeper {
    /// Finds.
    pub discover: Discover,
    /// Attaches.
    pub attach: Attach,
    /// Between two looks at /proc without a hint.
    pub interval: Duration,
    /// Where to count.
    pub vitals: Arc<Vitals>,
    /// Who shows what is attached.
    pub correlator: Arc<Correlator>,
    /// Who must know of a process before its first event.
    pub roster: SyncSender<Attached>,
    /// Who scrapes.
    pub engines: watch::Sender<Engines>,
}

impl Keeper {
    /// Looks and attaches until the sender of hints is gone; then everything is detached.
    pub fn run(mut self, hints: &Receiver<()>) {
        loop {
            let began = System.now();
            self.look();
            let took = Duration::from_nanos(System.now().since(began).unwrap_or(0));
            match hints.recv_timeout(self.interval) {
                Ok(()) => {
                    thread::sleep(SETTLE.max((took * REST).min(REST_MOST)));
                    while hints.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One look at /proc, and what follows from it.
    pub fn look(&mut self) {
        let changes = self.discover.pass();
        let changed = !changes.is_empty();
        for change in changes {
            let roster = &self.roster;
            self.attach.apply(change, &self.vitals, &mut |attached| {
                if roster.send(attached).is_err() {
                    tracing::debug!("the ring thread has ended");
                }
            });
        }
        if changed {
            self.correlator.targets(self.attach.attachments().map(view).collect());
        }
        // A server listens some time after it appeared.
        let engines = addresses(&self.attach);
        self.engines.send_if_modified(|known| {
            let new = *known != engines;
            *known = engines;
            new
        });
    }
}

fn view(attachment: &crate::attach::Attachment) -> TargetView {
    let target = &attachment.target;
    TargetView {
        pid: target.process.pid,
        engine: target.engine,
        kind: target.kind,
        role: target.role,
        attached: attachment.attached.iter().cloned().collect(),
        skipped: attachment.skipped.iter().map(|skip| format!("{}: {}", skip.what, skip.why)).collect(),
        in_flight: 0,
    }
}

/// The port of each engine's HTTP server: the one its command line names, else its lowest.
fn addresses(attach: &Attach) -> Engines {
    let mut found = BTreeMap::new();
    for target in attach.attachments().map(|attachment| &attachment.target) {
        if target.role != Role::Frontend || found.contains_key(&target.engine) {
            continue;
        }
        let ports = procfs::listening(target.process.pid);
        let words = procfs::cmdline(target.engine.0.pid);
        let asked = argument(&words, "--port").and_then(|port| port.parse().ok());
        let usual = (target.kind == EngineKind::Vllm).then_some(VLLM_PORT);
        let port = [asked, usual].into_iter().flatten().find(|port| ports.contains(port)).or(ports.first().copied());
        let scheme = if argument(&words, "--ssl-certfile").is_some() { "https" } else { "http" };
        let url = port.and_then(|port| Url::parse(&format!("{scheme}://127.0.0.1:{port}/metrics")).ok());
        if let Some(url) = url {
            found.insert(target.engine, url);
        }
    }
    found.into_iter().collect()
}

/// The value of `--name value` or `--name=value`.
fn argument<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
        "" => words.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_both_spellings() {
        let words = ["vllm", "serve", "m", "--port", "81", "--host=h", "--porter=x"].map(str::to_owned);
        assert_eq!(argument(&words, "--port"), Some("81"));
        assert_eq!(argument(&words, "--host"), Some("h"));
        assert_eq!(argument(&words, "--ssl-certfile"), None);
    }
}
