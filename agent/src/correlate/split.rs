//! The two requests of a disaggregated one in, as each ends; what each was to the other out.
//!
//! A proxy sends a request to one engine for its prefill and then to another for its decode. They are paired only
//! where the decode names the prefill's engine request (`remote_request_id`, which vLLM's connectors make of its own
//! id) or where both carry one `transfer_id`. An X-Request-Id in common is not enough: callers retry.

use crate::clock::MonoNs;
use crate::correlate::Request;
use crate::correlate::Trace;
use crate::correlate::Transfer;
use crate::correlate::trace;
use crate::ident::EngineId;
use crate::ident::Pid;
use crate::vitals::Vitals;
use serde::Serialize;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Halves that wait for their other, by key. On a node of prefills alone none of them ever comes.
const WAITING: usize = 16_384;
/// For so long: a decode may take many minutes.
const PATIENCE: Duration = Duration::from_mins(15);

/// Which part an engine did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// The prompt, and the first token.
    Prefill,
    /// The rest.
    Decode,
}

impl Half {
    /// By what the request says of the other engine.
    pub fn of(transfer: &Transfer) -> Option<Self> {
        match (transfer.remote_prefill, transfer.remote_decode) {
            (Some(true), _) => Some(Self::Decode),
            (_, Some(true)) => Some(Self::Prefill),
            _ => None,
        }
    }

    /// As it stands in attributes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// What a request was of a disaggregated one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its part.
    pub half: Half,
    /// What it said of the other engine.
    pub transfer: Transfer,
    /// The other half, where that was seen on this node and has ended.
    pub other: Option<Other>,
    /// From the last byte of the prefill's answer to the first of the decode's request, nanoseconds: whoever sends
    /// them has it in hand. `None` also where the decode came first.
    pub handover_ns: Option<u64>,
    /// From the first byte of the prefill's request to the end of the decode, nanoseconds.
    pub duration_ns: Option<u64>,
}

/// The other half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its number.
    pub serial: u64,
    /// The process that served it.
    pub pid: Pid,
    /// Its engine.
    pub engine: Option<EngineId>,
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its span.
    pub span_id: [u8; 8],
    /// First byte of its request.
    pub accepted: Option<MonoNs>,
    /// Last byte of its response, or the break.
    pub finished: MonoNs,
}

/// What the two halves of one have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    EngineRequest(String),
    Transfer(String),
}

/// What the end of a request tells.
#[derive(Debug, Default)]
pub struct Ended {
    /// What it was.
    pub split: Option<Box<Split>>,
    /// The number of its other half, where that had ended before, and what that turns out to have been.
    pub earlier: Option<(u64, Box<Split>)>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    half: Half,
    transfer: Transfer,
    own: Other,
}

/// The halves whose other has not ended yet.
#[derive(Debug, Default)]
pub struct Halves {
    waiting: HashMap<Key, Waiting>,
    /// By age; a key may have been taken or renewed since.
    order: VecDeque<(u64, Key)>,
    numbers: u64,
}

impl Halves {
    /// A request ended.
    pub fn ended(&mut self, request: &Request, trace: &Trace, vitals: &Vitals) -> Ended {
        let Some(transfer) = request.transfer.as_deref() else { return Ended::default() };
        let Some(half) = Half::of(transfer) else { return Ended::default() };
        let own = Other {
            serial: request.serial,
            pid: request.pid,
            engine: request.engine,
            trace_id: trace.trace_id,
            span_id: trace.span_id,
            accepted: request.accepted,
            finished: request.finished,
        };
        let keys = keys(half, transfer, request);
        let found = self.take(&keys, half, request);
        let split = Split::new(half, transfer, &own, found.as_ref().map(|found| &found.own));
        let earlier = found.map(|found| {
            let split = Split::new(found.half, &found.transfer, &found.own, Some(&own));
            (found.own.serial, Box::new(split))
        });
        if earlier.is_none() {
            for key in keys {
                self.wait(key, Waiting { number: 0, half, transfer: transfer.clone(), own: own.clone() }, vitals);
            }
        }
        Ended { split: Some(Box::new(split)), earlier }
    }

    fn take(&mut self, keys: &[Key], half: Half, request: &Request) -> Option<Waiting> {
        let fits = |waiting: &Waiting| waiting.half != half && waiting.own.engine != request.engine;
        let key = keys.iter().find(|key| self.waiting.get(key).is_some_and(fits))?;
        let taken = self.waiting.remove(key)?;
        // It may wait under another key too.
        for key in keys {
            if self.waiting.get(key).is_some_and(|waiting| waiting.own.serial == taken.own.serial) {
                self.waiting.remove(key);
            }
        }
        Some(taken)
    }

    fn wait(&mut self, key: Key, waiting: Waiting, vitals: &Vitals) {
        let now = waiting.own.finished;
        while let Some((number, key)) = self.order.front() {
            let entry = self.waiting.get(key).filter(|waiting| waiting.number == *number);
            let old = entry.is_none_or(|waiting| now > waiting.own.finished.plus(PATIENCE));
            if !old && self.waiting.len() < WAITING {
                break;
            }
            if !old {
                vitals.evicted.one();
            }
            if entry.is_some() {
                self.waiting.remove(key);
            }
            self.order.pop_front();
        }
        self.numbers += 1;
        self.order.push_back((self.numbers, key.clone()));
        self.waiting.insert(key, Waiting { number: self.numbers, ..waiting });
    }
}

/// Under what a half waits, or its other is looked for.
fn keys(half: Half, transfer: &Transfer, request: &Request) -> Vec<Key> {
    let named: Vec<String> = match half {
        Half::Prefill => request.engine_requests.iter().map(|engine| engine.id.clone()).collect(),
        Half::Decode => transfer.remote_request.clone().into_iter().collect(),
    };
    let named = named.into_iter().map(Key::EngineRequest);
    named.chain(transfer.id.clone().map(Key::Transfer)).collect()
}

impl Split {
    fn new(half: Half, transfer: &Transfer, own: &Other, other: Option<&Other>) -> Self {
        let both = other.map(|other| if half == Half::Prefill { (own, other) } else { (other, own) });
        Self {
            half,
            transfer: transfer.clone(),
            other: other.cloned(),
            handover_ns: both.and_then(|(prefill, decode)| decode.accepted?.since(prefill.finished)),
            duration_ns: both.and_then(|(prefill, decode)| decode.finished.since(prefill.accepted?)),
        }
    }
}

impl Other {
    /// Its trace and span as text.
    pub fn place(&self) -> (String, String) {
        (trace::text(&self.trace_id), trace::text(&self.span_id))
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
