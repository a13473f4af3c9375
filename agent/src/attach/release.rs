//! Probes of processes that have left in; a thread of its own lets go of them, one after another.
//!
//! The kernel waits for some grace periods for each, a tenth of a second for a perf event and a third of that for a link
//! of many places, and lets nobody attach meanwhile. Nothing is gained by more threads, so whoever attaches waits for
//! one at most.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Between two looks whether the others are done.
const LOOK: Duration = Duration::from_millis(5);

/// Where probes go that nothing can reach any more.
pub struct Release<L> {
    links: mpsc::Sender<Vec<L>>,
    held: Arc<AtomicBool>,
}

impl<L: Send + 'static> Release<L> {
    /// With a thread that ends when this is gone and everything is let go.
    pub fn start() -> Self {
        let (links, taken) = mpsc::channel();
        let held = Arc::new(AtomicBool::new(false));
        let thread = {
            let held = Arc::clone(&held);
            thread::Builder::new().name("release".to_owned()).spawn(move || run(&taken, &held))
        };
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread that lets go of probes");
        }
        Self { links, held }
    }

    /// Lets go of these, some time.
    pub fn take(&self, links: Vec<L>) {
        // Without the thread they come back in the error, and are let go of here.
        drop(self.links.send(links));
    }

    /// While true, nothing more is let go of.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

fn run<L>(taken: &mpsc::Receiver<Vec<L>>, held: &AtomicBool) {
    for link in taken.iter().flatten() {
        while held.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        drop(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says when it is let go of.
    struct Link(mpsc::Sender<u32>, u32);

    impl Drop for Link {
        fn drop(&mut self) {
            self.0.send(self.1).unwrap();
        }
    }

    #[test]
    fn links_are_let_go_of_in_order_and_not_while_others_attach() {
        let (said, heard) = mpsc::channel();
        let release = Release::start();
        release.hold(true);
        release.take([1, 2].map(|number| Link(said.clone(), number)).into());
        release.take(vec![Link(said, 3)]);
        assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Empty));
        release.hold(false);
        drop(release);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
