//! Finished requests and snapshots in, OTLP spans and metrics out; nothing here can slow the rest.
//!
//! Messages are built from `opentelemetry-proto` and sent by a transport of our own, the same for spans and
//! metrics. The exporters of `opentelemetry-otlp` cannot carry a metric's exemplars, turn a refusal into a
//! sentence (so that neither its kind nor `Retry-After` nor a partial success can be counted) and give up
//! when one timeout is over.

use crate::correlate::Finished;
use crate::correlate::Snapshot;
use crate::vitals::Vitals;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub mod attribute;
pub mod deliver;
pub mod metric;
pub mod queue;
pub mod retry;
pub mod settings;
pub mod span;
pub mod transport;

#[cfg(test)]
mod tests;

/// Gives the snapshot that a push of metrics shall carry.
pub type Reader = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// The running export: tasks of their own behind a bounded queue.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<queue::Queue>,
    spans: SpansWanted,
    stop: watch::Sender<bool>,
    flush: Duration,
    tasks: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpansWanted {
    Yes,
    No,
}

impl Exporter {
    /// Starts a task for each signal that has an endpoint. To be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// An endpoint, header or certificate that cannot be used.
    pub fn start(
        settings: &settings::Settings,
        vitals: &Arc<Vitals>,
        reader: Reader,
    ) -> Result<Self, transport::Unusable> {
        let (stop, stopped) = watch::channel(false);
        let queue = Arc::new(queue::Queue::new(settings.queue_bytes, Arc::clone(vitals)));
        let mut tasks = JoinSet::new();
        let mut spans = SpansWanted::No;
        if let Some(endpoint) = &settings.traces {
            let link = deliver::Link::new(endpoint, settings, vitals, stopped.clone())?;
            tasks.spawn(deliver::spans(link, Arc::clone(&queue), settings.resource.clone()));
            spans = SpansWanted::Yes;
        }
        if let Some(endpoint) = &settings.metrics {
            let link = deliver::Link::new(endpoint, settings, vitals, stopped)?;
            tasks.spawn(deliver::metrics(link, reader, settings.resource.clone(), settings.interval));
        }
        Ok(Self { queue, spans, stop, flush: settings.flush, tasks })
    }

    /// Queues a finished request, unless its caller did not sample it. Never waits: when the queue has
    /// no room, the request's spans are counted as dropped.
    pub fn offer(&self, finished: &Arc<Finished>) {
        if self.spans == SpansWanted::Yes && finished.trace.sampled {
            self.queue.offer(Arc::clone(finished));
        }
    }

    /// Sends what is queued and the last metrics, for at most the time that the settings give it; the rest is counted as dropped.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.flush, all).await.is_err() {
            tracing::warn!("the collector did not take everything in time");
        }
        self.tasks.shutdown().await;
        self.queue.drop_all();
    }
}
