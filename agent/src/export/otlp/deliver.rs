//! The tasks: batches and snapshots in, attempts until they are delivered or given up.

use crate::correlate::Finished;
use crate::correlate::Snapshot;
use crate::export::otlp::Reader;
use crate::export::otlp::attribute::pair;
use crate::export::otlp::llm::Calls;
use crate::export::otlp::log;
use crate::export::otlp::log::Entry;
use crate::export::otlp::metric;
use crate::export::otlp::queue::Item;
use crate::export::otlp::queue::Queue;
use crate::export::otlp::retry::Again;
use crate::export::otlp::retry::Failure;
use crate::export::otlp::retry::Policy;
use crate::export::otlp::settings::Endpoint;
use crate::export::otlp::settings::Settings;
use crate::export::otlp::span;
use crate::export::otlp::transport::Message;
use crate::export::otlp::transport::Partly;
use crate::export::otlp::transport::Transport;
use crate::export::otlp::transport::Unusable;
use crate::vitals::Vitals;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::metrics::v1::ScopeMetrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::sleep;
use tokio::time::timeout;

/// A way to a collector with the patience to use it.
#[derive(Debug)]
pub struct Link {
    transport: Transport,
    timeout: Duration,
    linger: Duration,
    policy: Policy,
    vitals: Arc<Vitals>,
    stopped: watch::Receiver<bool>,
    random: SmallRng,
}

impl Link {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the endpoint.
    pub fn new(
        endpoint: &Endpoint,
        settings: &Settings,
        vitals: &Arc<Vitals>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, Unusable> {
        Ok(Self {
            transport: Transport::new(endpoint)?,
            timeout: endpoint.timeout,
            linger: settings.linger,
            policy: settings.retry.clone(),
            vitals: Arc::clone(vitals),
            stopped,
            random: SmallRng::from_os_rng(),
        })
    }

    /// Attempts until the message is delivered or given up. A pause ends early when the agent stops.
    async fn deliver(&mut self, message: &Message) -> Result<Partly, Failure> {
        let began = Instant::now();
        for attempts in 1.. {
            let late = |_elapsed| Err(Failure { what: "no answer in time".to_owned(), again: Again::Later });
            let failure = match timeout(self.timeout, self.transport.send(message)).await.unwrap_or_else(late) {
                Ok(partly) => return Ok(partly),
                Err(failure) => failure,
            };
            self.vitals.export_failures.one();
            tracing::debug!(attempts, error = failure.what, "export attempt failed");
            let Some(pause) = self.policy.pause(failure.again, attempts, began.elapsed(), self.random.random()) else {
                return Err(failure);
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop(&mut self.stopped) => sleep(pause.min(STOPPING_PAUSE)).await,
            }
        }
        Err(Failure { what: "out of attempts".to_owned(), again: Again::Never })
    }

    fn stopping(&self) -> bool {
        *self.stopped.borrow()
    }
}

/// Between attempts while the agent stops.
const STOPPING_PAUSE: Duration = Duration::from_millis(200);

/// Until the agent stops; also when nobody is left to say so.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _gone = stopped.wait_for(|stop| *stop).await;
}

/// Sends batch after batch until the agent stops and the queue is empty.
pub async fn batches<T: Item>(mut link: Link, queue: Arc<Queue<T>>, message: impl Fn(&[T]) -> Message, what: &str) {
    loop {
        let Some(batch) = queue.take() else {
            if link.stopping() {
                return;
            }
            tokio::select! {
                () = queue.arrival() => {}
                () = stop(&mut link.stopped) => continue,
            }
            gather(&mut link, &queue).await;
            continue;
        };
        match link.deliver(&message(batch.items())).await {
            Ok(partly) => {
                warn(&partly, what);
                batch.settled(partly.rejected);
            }
            Err(failure) => {
                tracing::warn!(items = batch.items().len(), what, error = failure.what, "given up");
            }
        }
    }
}

/// The spans of finished requests.
pub fn spans(resource: &[(String, String)], calls: Calls, finished: &[Arc<Finished>]) -> Message {
    Message::Traces(ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource_of(resource)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: finished.iter().flat_map(|finished| span::spans(finished, calls)).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    })
}

/// The records of finished requests, and of what else happened, each under a `job` of its own.
pub fn logs(resource: &[(String, String)], entries: &[Entry]) -> Message {
    let of = |job: &'static str| {
        let records: Vec<_> = entries.iter().filter(|entry| entry.job() == job).map(log::record).collect();
        let mut resource = resource_of(resource);
        resource.attributes.push(pair("job", job));
        (!records.is_empty()).then(|| ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records: records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        })
    };
    Message::Logs(ExportLogsServiceRequest { resource_logs: log::JOBS.into_iter().filter_map(of).collect() })
}

/// Waits until a whole batch is there, or long enough, or the agent stops.
async fn gather<T: Item>(link: &mut Link, queue: &Queue<T>) {
    let full = async {
        while !queue.ripe() {
            queue.arrival().await;
        }
    };
    tokio::select! {
        () = full => {}
        () = sleep(link.linger) => {}
        () = stop(&mut link.stopped) => {}
    }
}

/// Pushes metrics every so often and once more at the end. A push that cannot be delivered before the
/// next is due is given up: the next one holds the same sums.
pub async fn metrics(mut link: Link, reader: Reader, resource: Vec<(String, String)>, interval: Duration) {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _tick = ticks.tick() => {}
            () = stop(&mut link.stopped) => {}
        }
        let last = link.stopping();
        let message = push(&reader(), &resource);
        match timeout(interval, link.deliver(&message)).await {
            Ok(Ok(partly)) => warn(&partly, "data points"),
            Ok(Err(failure)) => tracing::warn!(error = failure.what, "metrics given up"),
            Err(_elapsed) => tracing::warn!("metrics given up for newer ones"),
        }
        if last {
            return;
        }
    }
}

fn push(snapshot: &Snapshot, resource: &[(String, String)]) -> Message {
    Message::Metrics(ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource_of(resource)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: metric::metrics(snapshot),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    })
}

fn warn(partly: &Partly, what: &str) {
    if *partly != Partly::default() {
        tracing::warn!(rejected = partly.rejected, what, why = partly.why, "the collector did not take everything");
    }
}

fn resource_of(resource: &[(String, String)]) -> Resource {
    let attributes = resource.iter().map(|(key, value)| pair(key, value)).collect();
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tachograph".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
