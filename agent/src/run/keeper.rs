//! Hints and time in, attachments out: the thread that looks at /proc and attaches what it finds there.

use crate::attach::Attach;
use crate::attach::Attached;
use crate::clock::Clock as _;
use crate::clock::System;
use crate::correlate::TargetView;
use crate::correlate::state::Correlator;
use crate::discover;
use crate::discover::Change;
use crate::discover::Discover;
use crate::discover::ObjectKind;
use crate::engine::scrape;
use crate::ident::Role;
use crate::run::engines;
use crate::vitals::Vitals;
use std::collections::BTreeSet;
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

/// Between a look that found a process without a title and the next; twice as long each time.
const UNTITLED: Duration = Duration::from_millis(100);

/// What the keeper may be told anew.
#[derive(Debug, Clone)]
pub struct Orders {
    /// What to look for.
    pub discover: discover::Config,
    /// Between two looks at /proc without a hint.
    pub interval: Duration,
}

/// What the keeper works with.
pub struct Keeper {
    /// Finds.
    pub discover: Discover,
    /// Attaches.
    pub attach: Attach,
    /// Taken up at the next look.
    pub orders: watch::Receiver<Orders>,
    /// Where to count.
    pub vitals: Arc<Vitals>,
    /// Who shows what is attached.
    pub correlator: Arc<Correlator>,
    /// Who must know of a process before its first event.
    pub roster: SyncSender<Attached>,
    /// Who scrapes.
    pub engines: watch::Sender<Vec<scrape::Target>>,
}

impl Keeper {
    /// Looks and attaches until the sender of hints is gone; then everything is detached.
    pub fn run(mut self, hints: &Receiver<()>) {
        let (mut untitled, mut patience) = (BTreeSet::new(), UNTITLED);
        loop {
            // An error means that nobody is left who could change them.
            if self.orders.has_changed().unwrap_or(false) {
                self.discover.set(self.orders.borrow_and_update().discover.clone());
            }
            let interval = self.orders.borrow().interval;
            let began = System.now();
            self.look();
            let took = Duration::from_nanos(System.now().since(began).unwrap_or(0));
            let found = self.discover.untitled();
            patience = if *found == untitled { (patience * 2).min(interval) } else { UNTITLED };
            untitled.clone_from(found);
            match hints.recv_timeout(if untitled.is_empty() { interval } else { patience }) {
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
            if let Change::Appeared(target) = &change {
                self.correlator.placed(target.process.pid, target.place.clone());
            }
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
        let targets: Vec<_> = self.attach.attachments().map(|attachment| &attachment.target).collect();
        let engines = engines::addresses(&targets);
        self.engines.send_if_modified(|known| {
            let new = *known != engines;
            *known = engines;
            new
        });
    }
}

/// Why nothing of a server's sockets is seen; while it starts, too.
const NO_LIBC: &str = "the C library: none is mapped yet, or it is linked into the program";

fn view(attachment: &crate::attach::Attachment) -> TargetView {
    let target = &attachment.target;
    let sees = target.role != Role::Frontend || target.objects.iter().any(|object| object.kind == ObjectKind::Libc);
    let skipped = attachment.skipped.iter().map(|skip| format!("{}: {}", skip.what, skip.why));
    TargetView {
        pid: target.process.pid,
        engine: target.engine,
        kind: target.kind,
        role: target.role,
        attached: attachment.attached.iter().cloned().collect(),
        skipped: skipped.chain((!sees).then(|| NO_LIBC.to_owned())).collect(),
        in_flight: 0,
        place: target.place.clone(),
    }
}
