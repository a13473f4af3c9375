//! Finished requests, snapshots and events in, OTLP spans, metrics and logs out; nothing here can slow the rest.
//!
//! Messages are built from `opentelemetry-proto` and sent by a transport of our own, the same for all
//! signals. The exporters of `opentelemetry-otlp` cannot carry a metric's exemplars, turn a refusal into a
//! sentence (so that neither its kind nor `Retry-After` nor a partial success can be counted) and give up
//! when one timeout is over.

use crate::clock::Anchor;
use crate::correlate::Finished;
use crate::correlate::Snapshot;
use crate::correlate::events::Event;
use crate::export::otlp::log::Entry;
use crate::vitals::Vitals;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub mod attribute;
pub mod content;
pub mod deliver;
pub mod llm;
pub mod log;
pub mod metric;
pub mod queue;
pub mod retry;
pub mod settings;
pub mod share;
pub mod span;
pub mod transport;

#[cfg(test)]
mod tests;

/// Gives the snapshot that a push of metrics shall carry.
pub type Reader = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// The running export: tasks of their own behind bounded queues.
#[derive(Debug)]
pub struct Exporter {
    spans: Option<Arc<queue::Queue<Arc<Finished>>>>,
    logs: Logs,
    shares: share::Shares,
    vitals: Arc<Vitals>,
    stop: watch::Sender<bool>,
    flush: Duration,
    tasks: JoinSet<()>,
}

/// The way for logs, for whoever has some; without an endpoint it leads nowhere.
#[derive(Debug, Clone)]
pub struct Logs(Option<Arc<queue::Queue<Entry>>>);

impl Logs {
    /// Queues what happened. Never waits: when the queue has no room, it is counted as dropped.
    pub fn event(&self, event: Event, anchor: Anchor) {
        self.offer(|| Entry::Event(Box::new(event), anchor));
    }

    fn offer(&self, entry: impl FnOnce() -> Entry) {
        if let Some(queue) = &self.0 {
            queue.offer(entry());
        }
    }
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
        let mut tasks = JoinSet::new();
        let (mut spans, mut logs) = (None, None);
        if let Some(endpoint) = &settings.traces {
            let link = deliver::Link::new(endpoint, settings, vitals, stopped.clone())?;
            let queue = Arc::new(queue::Queue::new(settings.queue_bytes, Arc::clone(vitals)));
            let (resource, calls) = (settings.resource.clone(), settings.llm_calls);
            let message = move |finished: &[Arc<Finished>]| deliver::spans(&resource, calls, finished);
            tasks.spawn(deliver::batches(link, Arc::clone(&queue), message, "spans"));
            spans = Some(queue);
        }
        if let Some(endpoint) = &settings.logs {
            let link = deliver::Link::new(endpoint, settings, vitals, stopped.clone())?;
            let queue = Arc::new(queue::Queue::new(settings.queue_bytes, Arc::clone(vitals)));
            let resource = settings.resource.clone();
            let message = move |entries: &[Entry]| deliver::logs(&resource, entries);
            tasks.spawn(deliver::batches(link, Arc::clone(&queue), message, "logs"));
            logs = Some(queue);
        }
        if let Some(endpoint) = &settings.metrics {
            let link = deliver::Link::new(endpoint, settings, vitals, stopped)?;
            tasks.spawn(deliver::metrics(link, reader, settings.resource.clone(), settings.interval));
        }
        let (shares, vitals) = (settings.log_shares, Arc::clone(vitals));
        Ok(Self { spans, logs: Logs(logs), shares, vitals, stop, flush: settings.flush, tasks })
    }

    /// Queues a finished request: as a log where its share allows, and as spans unless its caller did not sample it.
    /// Never waits: when a queue has no room, what it would have made is counted as dropped.
    pub fn offer(&self, finished: &Arc<Finished>) {
        if let Some(queue) = self.spans.as_ref().filter(|_| finished.trace.sampled) {
            queue.offer(Arc::clone(finished));
        }
        if self.shares.keep(finished) {
            self.logs.offer(|| Entry::Request(Arc::clone(finished)));
        } else if self.logs.0.is_some() {
            self.vitals.logs_sampled_out.one();
        }
    }

    /// Where others bring what happened.
    pub fn logs(&self) -> Logs {
        self.logs.clone()
    }

    /// Sends what is queued and the last metrics, for at most the time that the settings give it; the rest is counted as dropped.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.flush, all).await.is_err() {
            tracing::warn!("the collector did not take everything in time");
        }
        self.tasks.shutdown().await;
        if let Some(queue) = &self.spans {
            queue.drop_all();
        }
        if let Some(queue) = &self.logs.0 {
            queue.drop_all();
        }
    }
}
