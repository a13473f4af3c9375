//! A request that missed an objective and what is usual for its model in, the one cause that explains it out.
//!
//! What counts is not which phase was longest, but in which the time lies that it took beyond the usual. That
//! phase is then read with what the engine, the GPUs and the socket did meanwhile.

use crate::correlate::slo::Missed;
use crate::correlate::slo::Slo;
use crate::correlate::slo::answer_ns;
use crate::correlate::usual::Part;
use crate::correlate::usual::Spent;
use crate::correlate::usual::Usual;
use crate::request::Request;
use serde::Serialize;

/// A KV cache as full as this keeps requests waiting.
pub const KV_FULL: f64 = 0.85;

/// Why a request missed its objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The server failed.
    Error,
    /// Its bytes came slowly.
    Receive,
    /// The front end was late, before the engine or behind it.
    Frontend,
    /// It waited for a place in the batch, or for the step under way when it came.
    Queue,
    /// Its prompt took long to compute.
    Prefill,
    /// Others in the batch slowed its decoding.
    BatchInterference,
    /// It waited for room in the KV cache, or lost its own.
    KvPressure,
    /// Its GPUs were throttled.
    GpuThrottling,
    /// Its caller read slowly.
    SlowClient,
    /// Nothing was unusual: so many tokens take this long.
    UsualPace,
    /// Where the time went is not known.
    Unknown,
}

impl Cause {
    /// The value of the label `cause`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Receive => "receive",
            Self::Frontend => "frontend",
            Self::Queue => "queue",
            Self::Prefill => "prefill",
            Self::BatchInterference => "batch_interference",
            Self::KvPressure => "kv_pressure",
            Self::GpuThrottling => "gpu_throttling",
            Self::SlowClient => "slow_client",
            Self::UsualPace => "usual_pace",
            Self::Unknown => "unknown",
        }
    }
}

/// A cause, and how much time it explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// The cause.
    pub cause: Cause,
    /// Beyond what is usual, nanoseconds; 0 for an error.
    pub excess_ns: u64,
}

/// What a request spent in each part that is known.
pub fn spent(request: &Request) -> Vec<Spent> {
    let prompt = request.input_tokens.unwrap_or(0);
    let uncached = prompt.saturating_sub(request.cached_tokens.unwrap_or(0));
    let made = request.engine_requests.iter().map(|engine| engine.output_tokens).max().unwrap_or(0);
    let phases = &request.phases;
    let parts = [
        (Part::Receive, phases.receive, prompt),
        (Part::Frontend, phases.frontend, prompt),
        (Part::Queue, phases.queue, 0),
        (Part::Prefill, phases.prefill, uncached),
        (Part::Decode, phases.decode, made.saturating_sub(1)),
        (Part::Answer, answer_ns(request), 0),
        (Part::Deliver, phases.deliver, 0),
    ];
    parts.into_iter().filter_map(|(part, ns, tokens)| Some(Spent { part, ns: ns?, tokens })).collect()
}

/// The one cause of what was missed. `throttled_ns` is how long its GPUs were throttled meanwhile, where that
/// is known.
pub fn explain(request: &Request, missed: &[Missed], usual: &Usual, throttled_ns: Option<u64>) -> Explained {
    if missed.iter().any(|missed| missed.slo == Slo::Error) {
        return Explained { cause: Cause::Error, excess_ns: 0 };
    }
    let spent = spent(request);
    let excesses = missed.iter().flat_map(|missed| excesses(missed, &spent, usual));
    let largest = excesses.max_by_key(|excess| excess.ns);
    let Some(Excess { of, ns }) = largest.filter(|excess| excess.ns > 0) else {
        return Explained { cause: Cause::Unknown, excess_ns: 0 };
    };
    let cause = match of {
        Of::Usual(Part::Decode) => Cause::UsualPace,
        Of::Part(part) | Of::Usual(part) => behind(request, part, ns, throttled_ns),
        Of::Unseen => Cause::Unknown,
    };
    Explained { cause, excess_ns: ns }
}

/// What made a part of a request long.
fn behind(request: &Request, part: Part, excess_ns: u64, throttled_ns: Option<u64>) -> Cause {
    match part {
        Part::Receive => Cause::Receive,
        // It was with the engine already, which takes requests in between two steps only.
        Part::Frontend if covers(untaken_ns(request), excess_ns) => Cause::Queue,
        Part::Frontend => Cause::Frontend,
        Part::Queue => {
            if waited_for_kv(request) {
                Cause::KvPressure
            } else {
                Cause::Queue
            }
        }
        Part::Prefill | Part::Decode => in_engine(request, part, excess_ns, throttled_ns),
        Part::Answer | Part::Deliver => {
            if covers(request.blocked_ns, excess_ns) {
                Cause::SlowClient
            } else {
                Cause::Frontend
            }
        }
    }
}

/// From a request's arrival at its engine core to its place in the queue, nanoseconds.
fn untaken_ns(request: &Request) -> u64 {
    let each = request.engine_requests.iter().filter_map(|engine| engine.queued?.since(engine.added?));
    each.max().unwrap_or(0)
}

/// Where time lies that an objective had no room for.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// More than usual in this part.
    Part(Part),
    /// The usual alone was too much, and most of it is this part.
    Usual(Part),
    /// In no part that was seen.
    Unseen,
}

#[derive(Debug, Clone, Copy)]
struct Excess {
    of: Of,
    ns: u64,
}

fn excesses(missed: &Missed, spent: &[Spent], usual: &Usual) -> Vec<Excess> {
    let parts: &[Part] = match missed.slo {
        Slo::Ttft => &[Part::Receive, Part::Frontend, Part::Queue, Part::Prefill, Part::Answer],
        Slo::Tpot => &[Part::Decode],
        Slo::Duration | Slo::Error => {
            &[Part::Receive, Part::Frontend, Part::Queue, Part::Prefill, Part::Decode, Part::Deliver]
        }
    };
    let counted = || spent.iter().filter(|spent| parts.contains(&spent.part));
    let usuals: Vec<(Part, u64)> =
        counted().map(|spent| (spent.part, usual.of(spent.part, spent.tokens).unwrap_or(0).min(spent.ns))).collect();
    let mut found: Vec<Excess> = counted()
        .zip(&usuals)
        .map(|(spent, (part, usual))| Excess { of: Of::Part(*part), ns: spent.ns.saturating_sub(*usual) })
        .collect();
    if let Some((part, _)) = usuals.iter().max_by_key(|(_, usual)| *usual) {
        let all: u64 = usuals.iter().map(|(_, usual)| *usual).fold(0, u64::saturating_add);
        found.push(Excess { of: Of::Usual(*part), ns: all.saturating_sub(missed.limit_ns) });
    }
    let seen = counted().map(|spent| spent.ns).fold(0, u64::saturating_add);
    found.push(Excess { of: Of::Unseen, ns: missed.took_ns.saturating_sub(seen) });
    found
}

/// Whether what was measured is a good part of the excess.
fn covers(ns: u64, excess_ns: u64) -> bool {
    ns.saturating_mul(2) >= excess_ns
}

/// Whether the scheduler said, when it was queued, while it waited or when it first answered, that the cache was full.
fn waited_for_kv(request: &Request) -> bool {
    let loads = [request.engine_at.queued, request.engine_at.first_token].into_iter().flatten();
    let waiting = request.engine_requests.iter().filter_map(|engine| engine.kv_usage_waiting);
    loads.filter_map(|load| load.kv_usage).chain(waiting).any(|usage| usage >= KV_FULL)
}

/// What made a phase of the engine long. One that lost its room also computes again what it had.
fn in_engine(request: &Request, part: Part, excess_ns: u64, throttled_ns: Option<u64>) -> Cause {
    let preempted = request.engine_requests.iter().map(|engine| engine.preempted_ns).max().unwrap_or(0);
    if covers(preempted, excess_ns) {
        return Cause::KvPressure;
    }
    if throttled_ns.is_some_and(|throttled| covers(throttled, excess_ns)) {
        return Cause::GpuThrottling;
    }
    if part == Part::Prefill {
        return Cause::Prefill;
    }
    let alone = request.engine_requests.iter().all(|engine| engine.running_max.is_some_and(|running| running <= 1));
    if alone { Cause::Unknown } else { Cause::BatchInterference }
}

#[cfg(test)]
mod tests;
