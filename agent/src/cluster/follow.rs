//! [`Config`] in, a [`State`] at each change out: list once, watch from there, and never give up.
//!
//! What is known stays when the API server is away, with the time when it was last known to be all. A watch that ends
//! goes on from the last state that it told; only a server that has forgotten that state is asked for everything.

use crate::clock::Clock;
use crate::clock::MonoNs;
use crate::cluster::Asked;
use crate::cluster::Config;
use crate::cluster::State;
use crate::cluster::api::Error;
use crate::cluster::api::Event;
use crate::cluster::api::Session;
use crate::cluster::api::Since;
use crate::cluster::pods::Pods;
use crate::cluster::pods::Store;
use crate::vitals::Vitals;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;

/// A watch that ends sooner and says nothing is a failure: else such a server would be asked without a pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// Follows the pods of the node until the future is dropped.
#[expect(clippy::infinite_loop, reason = "ends with the task that holds it")]
pub async fn run(config: Config, clock: Arc<dyn Clock>, vitals: Arc<Vitals>, sink: impl FnMut(State) + Send) {
    let mut follower = Follower {
        store: Store::default(),
        pods: Arc::default(),
        since: Since::Any,
        version: None,
        current: None,
        trouble: None,
        failures: 0,
        config,
        clock,
        vitals,
        sink,
    };
    loop {
        let error = follower.session().await;
        follower.failed(&error);
        let pause = follower.pause(rand::rng().random());
        tokio::time::sleep(pause).await;
    }
}

/// Asks once, for a list and a watch, in a runtime of its own; how many pods there are.
///
/// # Errors
///
/// What stands in the way.
pub fn once(config: &Config) -> Result<usize, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Settings(error.to_string()))?;
    runtime.block_on(async {
        let session = Session::open(config).await?;
        let list = session.list(&Since::Any).await?;
        session.watch(&list.version).await?;
        Ok(list.pods.len())
    })
}

struct Follower<S> {
    config: Config,
    clock: Arc<dyn Clock>,
    vitals: Arc<Vitals>,
    sink: S,
    store: Store,
    pods: Arc<Pods>,
    /// How to list.
    since: Since,
    /// The last state of the cluster that is known; without it, a list comes first.
    version: Option<String>,
    current: Option<MonoNs>,
    trouble: Option<String>,
    /// In a row.
    failures: u32,
}

impl<S: FnMut(State) + Send> Follower<S> {
    /// Lists and watches until something goes wrong.
    async fn session(&mut self) -> Error {
        let session = match Session::open(&self.config).await {
            Ok(session) => session,
            Err(error) => return error,
        };
        loop {
            if let Err(error) = self.round(&session).await {
                return error;
            }
        }
    }

    /// One watch to its end, after a list where there is none yet.
    async fn round(&mut self, session: &Session) -> Result<(), Error> {
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list(session).await?,
        };
        self.vitals.kubernetes_watches.one();
        let began = self.clock.now();
        let mut watch = session.watch(&version).await?;
        let mut heard = false;
        loop {
            let next = tokio::time::timeout(self.config.silence, watch.next()).await;
            match next.map_err(|_silent| Error::Silent(self.config.silence))?? {
                Some(event) => self.hear(event),
                None if heard || self.clock.now() > began.plus(SHORTEST) => return Ok(()),
                None => return Err(Error::Broken("a watch that ends at once".to_owned())),
            }
            heard = true;
        }
    }

    async fn list(&mut self, session: &Session) -> Result<String, Error> {
        self.vitals.kubernetes_lists.one();
        let list = session.list(&self.since).await?;
        let pods = list.pods.into_iter().map(|pod| pod.pod(&self.config.labels)).collect();
        self.store.replace(pods, self.clock.now());
        self.version = Some(list.version.clone());
        self.since = Since::NotOlder(list.version.clone());
        tracing::info!(node = self.config.node, pods = self.store.here(), "the pods of this node are known");
        self.changed();
        self.heard();
        Ok(list.version)
    }

    fn hear(&mut self, event: Event) {
        let version = match event {
            Event::Is(pod) => {
                let version = pod.version().cloned();
                self.store.put(pod.pod(&self.config.labels));
                self.changed();
                version
            }
            Event::Was(pod) => {
                let version = pod.version().cloned();
                self.store.delete(pod.pod(&self.config.labels), self.clock.now());
                self.changed();
                version
            }
            Event::Upto(version) => {
                if self.store.forget(self.clock.now()) {
                    self.changed();
                }
                Some(version)
            }
        };
        if let Some(version) = version {
            self.since = Since::NotOlder(version.clone());
            self.version = Some(version);
        }
        self.heard();
    }

    fn changed(&mut self) {
        self.store.forget(self.clock.now());
        self.vitals.evicted.add(self.store.evicted());
        self.pods = self.store.view();
    }

    /// What is known is all, just now.
    fn heard(&mut self) {
        self.current = Some(self.clock.now());
        self.failures = 0;
        self.trouble = None;
        self.publish();
    }

    fn failed(&mut self, error: &Error) {
        let count = match error {
            Error::Settings(_) => &self.vitals.kubernetes_settings,
            Error::Unreachable(_) => &self.vitals.kubernetes_unreachable,
            Error::Refused { .. } => &self.vitals.kubernetes_refused,
            Error::Gone => &self.vitals.kubernetes_expired,
            Error::Status { .. } => &self.vitals.kubernetes_failed,
            Error::Broken(_) => &self.vitals.kubernetes_broken,
            Error::Silent(_) => &self.vitals.kubernetes_silent,
        };
        count.one();
        if *error == Error::Gone {
            // The server's cache may be behind what it once told: then only the newest state is sure to be there.
            self.since = Since::Newest;
            self.version = None;
        }
        let trouble = error.to_string();
        if self.trouble.as_ref() != Some(&trouble) {
            // Once for each trouble, not for each attempt.
            let remedy = error.remedy();
            tracing::warn!(node = self.config.node, why = trouble, remedy, "the pods of this node are not followed");
        }
        self.trouble = Some(trouble);
        self.failures = self.failures.saturating_add(1);
        self.publish();
    }

    /// Until the next attempt: between half and the whole of a doubling length, so that the agents of a cluster that
    /// lost its API server do not come back together.
    fn pause(&self, jitter: f64) -> Duration {
        let (first, longest) = self.config.pause;
        let doubled = first.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(longest);
        doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    fn publish(&mut self) {
        (self.sink)(State::Asked(Asked {
            node: self.config.node.clone(),
            pods: Arc::clone(&self.pods),
            current: self.current,
            trouble: self.trouble.clone(),
        }));
    }
}
