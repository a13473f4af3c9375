//! What is to be sent in, batches out; bounded in bytes, and what finds no room is counted.

use crate::correlate::EngineRequest;
use crate::correlate::Finished;
use crate::correlate::Request;
use crate::export::otlp::span;
use crate::vitals::Count;
use crate::vitals::Vitals;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::Notify;

/// Items in one batch at most.
pub const BATCH: usize = 512;

/// Bytes of items in one batch at most, so that no collector finds the message too long.
pub const BATCH_BYTES: usize = 1 << 20;

/// What can wait here.
pub trait Item: Clone {
    /// Its bytes in memory, about.
    fn weight(&self) -> usize;
    /// How many spans or log records it makes.
    fn count(&self) -> u64;
    /// Where they are counted, once delivered and once given up.
    fn counters(vitals: &Vitals) -> [&Count; 2];
}

/// Sent as spans.
impl Item for Arc<Finished> {
    fn weight(&self) -> usize {
        weight(self)
    }

    fn count(&self) -> u64 {
        span::count(self)
    }

    fn counters(vitals: &Vitals) -> [&Count; 2] {
        [&vitals.spans_sent, &vitals.spans_dropped]
    }
}

/// What waits to be sent, together with what is being sent.
#[derive(Debug)]
pub struct Queue<T: Item> {
    room: usize,
    vitals: Arc<Vitals>,
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// Of the items above and of those in batches that live.
    bytes: usize,
}

impl<T: Item> Queue<T> {
    /// Holds at most `room` bytes.
    pub fn new(room: usize, vitals: Arc<Vitals>) -> Self {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), bytes: 0 });
        Self { room, vitals, waiting, arrived: Notify::new() }
    }

    /// Takes one in, or counts it as dropped. Never waits.
    pub fn offer(&self, item: T) {
        let bytes = item.weight();
        let mut waiting = self.lock();
        if waiting.bytes + bytes > self.room {
            drop(waiting);
            self.dropped(item.count());
            return;
        }
        waiting.bytes += bytes;
        waiting.items.push_back(item);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The oldest items, as many as make a batch; `None` when there are none.
    pub fn take(self: &Arc<Self>) -> Option<Batch<T>> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let mut items = Vec::new();
        while items.len() < BATCH && (bytes < BATCH_BYTES) {
            let Some(item) = waiting.items.pop_front() else { break };
            bytes += item.weight();
            items.push(item);
        }
        drop(waiting);
        (!items.is_empty()).then(|| Batch { items, bytes, queue: Arc::clone(self) })
    }

    /// Waits for the next arrival.
    pub async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Whether a whole batch waits.
    pub fn ripe(&self) -> bool {
        let waiting = self.lock();
        waiting.items.len() >= BATCH || waiting.bytes >= BATCH_BYTES
    }

    /// Bytes that are waiting or being sent.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Gives up all that waits.
    pub fn drop_all(self: &Arc<Self>) {
        while self.take().is_some() {}
    }

    fn sent(&self, count: u64) {
        let [sent, _] = T::counters(&self.vitals);
        sent.add(count);
    }

    fn dropped(&self, count: u64) {
        let [_, dropped] = T::counters(&self.vitals);
        dropped.add(count);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Items on their way. Unless [`Batch::settled`] says otherwise, they are counted as dropped when this goes away,
/// however that comes about.
#[derive(Debug)]
pub struct Batch<T: Item> {
    items: Vec<T>,
    bytes: usize,
    queue: Arc<Queue<T>>,
}

impl<T: Item> Batch<T> {
    /// The items, oldest first.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The collector took the batch and refused `rejected` of what it is made of.
    pub fn settled(mut self, rejected: u64) {
        let all: u64 = self.items.drain(..).map(|item| item.count()).sum();
        let rejected = rejected.min(all);
        self.queue.sent(all - rejected);
        self.queue.dropped(rejected);
    }
}

impl<T: Item> Drop for Batch<T> {
    fn drop(&mut self) {
        self.queue.dropped(self.items.iter().map(Item::count).sum());
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
        + finished.content.as_ref().map_or(0, |content| content.weight())
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
        assert_eq!(queue.take().unwrap().items().len(), BATCH);
        assert_eq!(queue.take().unwrap().items().len(), 1);
    }
}
