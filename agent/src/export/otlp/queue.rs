//! Finished requests in, batches out; bounded in bytes, and what finds no room is counted.

use crate::correlate::EngineRequest;
use crate::correlate::Finished;
use crate::correlate::Request;
use crate::export::otlp::span;
use crate::vitals::Vitals;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::Notify;

/// Requests in one batch at most.
pub const BATCH: usize = 512;

/// Bytes of requests in one batch at most, so that no collector finds the message too long.
pub const BATCH_BYTES: usize = 1 << 20;

/// What waits to be sent, together with what is being sent.
#[derive(Debug)]
pub struct Queue {
    room: usize,
    vitals: Arc<Vitals>,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Arc<Finished>>,
    /// Of the requests above and of those in batches that live.
    bytes: usize,
}

impl Queue {
    /// Holds at most `room` bytes.
    pub fn new(room: usize, vitals: Arc<Vitals>) -> Self {
        Self { room, vitals, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Takes one in, or counts its spans as dropped.
    pub fn offer(&self, finished: Arc<Finished>) {
        let bytes = weight(&finished);
        let mut waiting = self.lock();
        if waiting.bytes + bytes > self.room {
            drop(waiting);
            self.vitals.spans_dropped.add(span::count(&finished));
            return;
        }
        waiting.bytes += bytes;
        waiting.requests.push_back(finished);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The oldest requests, as many as make a batch; `None` when there are none.
    pub fn take(self: &Arc<Self>) -> Option<Batch> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let mut requests = Vec::new();
        while requests.len() < BATCH && (bytes < BATCH_BYTES) {
            let Some(finished) = waiting.requests.pop_front() else { break };
            bytes += weight(&finished);
            requests.push(finished);
        }
        drop(waiting);
        (!requests.is_empty()).then(|| Batch { requests, bytes, queue: Arc::clone(self) })
    }

    /// Waits for the next arrival.
    pub async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Whether a whole batch waits.
    pub fn ripe(&self) -> bool {
        let waiting = self.lock();
        waiting.requests.len() >= BATCH || waiting.bytes >= BATCH_BYTES
    }

    /// Bytes that are waiting or being sent.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Gives up all that waits.
    pub fn drop_all(self: &Arc<Self>) {
        while self.take().is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests on their way. Unless [`Batch::settled`] says otherwise, their spans are counted as dropped
/// when this goes away, however that comes about.
#[derive(Debug)]
pub struct Batch {
    requests: Vec<Arc<Finished>>,
    bytes: usize,
    queue: Arc<Queue>,
}

impl Batch {
    /// The requests, oldest first.
    pub fn requests(&self) -> &[Arc<Finished>] {
        &self.requests
    }

    /// The collector took the batch and refused `rejected` of its spans.
    pub fn settled(mut self, rejected: u64) {
        let spans: u64 = self.requests.drain(..).map(|finished| span::count(&finished)).sum();
        let rejected = rejected.min(spans);
        self.queue.vitals.spans_sent.add(spans - rejected);
        self.queue.vitals.spans_dropped.add(rejected);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let spans: u64 = self.requests.iter().map(|finished| span::count(finished)).sum();
        self.queue.vitals.spans_dropped.add(spans);
        let mut waiting = self.queue.lock();
        waiting.bytes = waiting.bytes.saturating_sub(self.bytes);
    }
}

/// About how many bytes of memory a finished request holds. GPU and engine samples are shared.
pub fn weight(finished: &Finished) -> usize {
    let Request {
        engine_requests,
        incomplete,
        method,
        path,
        x_request_id,
        traceparent,
        user,
        session,
        model,
        response_model,
        response_id,
        error_type,
        finish_reasons,
        itl,
        null_reasons,
        ..
    } = &finished.request;
    let texts =
        [method, path, x_request_id, traceparent, user, session, model, response_model, response_id, error_type];
    let engine = |request: &EngineRequest| {
        size_of::<EngineRequest>() + request.id.len() + request.external_id.as_ref().map_or(0, String::len)
    };
    size_of::<Finished>()
        + texts.into_iter().flatten().map(String::len).sum::<usize>()
        + engine_requests.iter().map(engine).sum::<usize>()
        + finish_reasons.iter().map(|reason| size_of::<String>() + reason.len()).sum::<usize>()
        + size_of_val(incomplete.as_slice())
        + itl.as_ref().map_or(0, |itl| size_of_val(itl.buckets.as_slice()))
        + null_reasons.len() * 2 * size_of::<&str>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::Update;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::streamed;

    fn finished() -> Arc<Finished> {
        busy().update(Update::Ended(Box::new(streamed(1))), ANCHOR).remove(0)
    }

    fn counts(vitals: &Vitals) -> (u64, u64) {
        (vitals.spans_sent.get(), vitals.spans_dropped.get())
    }

    #[test]
    fn a_full_queue_counts_what_it_refuses_and_never_grows() {
        let vitals = Arc::new(Vitals::default());
        let one = weight(&finished());
        let queue = Arc::new(Queue::new(3 * one, Arc::clone(&vitals)));
        for _ in 0..5 {
            queue.offer(finished());
        }
        assert_eq!((queue.bytes(), counts(&vitals)), (3 * one, (0, 14)));
        let batch = queue.take().unwrap();
        queue.offer(finished());
        assert_eq!((queue.bytes(), counts(&vitals)), (3 * one, (0, 21)), "what is on its way takes room too");
        batch.settled(2);
        assert_eq!((queue.bytes(), counts(&vitals)), (0, (19, 23)));
    }

    #[test]
    fn a_batch_that_goes_away_unsent_is_counted() {
        let vitals = Arc::new(Vitals::default());
        let queue = Arc::new(Queue::new(1 << 20, Arc::clone(&vitals)));
        queue.offer(finished());
        queue.offer(finished());
        drop(queue.take());
        queue.drop_all();
        assert_eq!((queue.bytes(), counts(&vitals)), (0, (0, 14)));
    }

    #[test]
    fn a_batch_is_bounded() {
        let queue = Arc::new(Queue::new(usize::MAX, Arc::default()));
        for _ in 0..=BATCH {
            queue.offer(finished());
        }
        assert!(queue.ripe());
        assert_eq!(queue.take().unwrap().requests().len(), BATCH);
        assert_eq!(queue.take().unwrap().requests().len(), 1);
    }
}
