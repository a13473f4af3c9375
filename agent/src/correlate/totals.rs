//! Finished requests in, the cumulative figures of one series out.

use crate::clock::seconds;
use crate::correlate::OTHER_ERROR;
use crate::correlate::Trace;
use crate::correlate::account::Used;
use crate::correlate::bounds::Bounds;
use crate::correlate::window::Exemplar;
use crate::correlate::window::Histogram;
use crate::request::Phases;
use crate::request::Request;
use std::collections::BTreeMap;

/// Pairs of status and error type that one series tells apart; further error types become `_OTHER`.
pub const OUTCOMES_MAX: usize = 64;

/// The error type of a request whose caller left before the end.
pub const CALLER_LEFT: &str = "client_disconnect";

/// What a request ended as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// The status code, or `unobserved`.
    pub status: String,
    /// The error type; empty for none.
    pub error_type: String,
}

/// Cumulative figures of one series; a sum of which nothing is known yet is `None`.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Requests by outcome.
    pub requests: BTreeMap<Outcome, u64>,
    /// Prompt tokens.
    pub input_tokens: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: Option<u64>,
    /// Tokens delivered.
    pub output_tokens: Option<u64>,
    /// Tokens made by the engine.
    pub engine_tokens: Option<u64>,
    /// Tokens made and not delivered, of requests whose caller left.
    pub wasted_tokens: Option<u64>,
    /// Preemptions.
    pub preemptions: Option<u64>,
    /// Duration by error type (empty: none), seconds.
    pub duration: BTreeMap<String, Histogram>,
    /// Time to first token, seconds; streams without an error.
    pub ttft: Histogram,
    /// Time per output token, seconds; without an error.
    pub tpot: Histogram,
    /// Gaps between content-carrying writes, seconds.
    pub itl: Histogram,
    /// Each phase by name, seconds.
    pub phases: BTreeMap<&'static str, Histogram>,
    /// What was used of engines and GPUs.
    pub used: Used,
    /// Energy of each request, joules.
    pub energy: Histogram,
    /// What the tokens would cost at the prices set for tokens.
    pub token_dollars: Option<f64>,
}

impl Totals {
    /// Nothing yet.
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            requests: BTreeMap::new(),
            input_tokens: None,
            cached_tokens: None,
            output_tokens: None,
            engine_tokens: None,
            wasted_tokens: None,
            preemptions: None,
            duration: BTreeMap::new(),
            ttft: Histogram::new(&bounds.ttft),
            tpot: Histogram::new(&bounds.tpot),
            itl: Histogram::new(&bounds.itl),
            phases: BTreeMap::new(),
            used: Used::default(),
            energy: Histogram::new(&bounds.energy),
            token_dollars: None,
        }
    }

    /// Begins every histogram anew, over these bounds. Sums go on.
    pub fn rebound(&mut self, bounds: &Bounds) {
        let Self { duration, ttft, tpot, itl, phases, energy, .. } = Self::new(bounds);
        *self = Self { duration, ttft, tpot, itl, phases, energy, ..self.clone() };
    }

    /// Takes in what one request used.
    pub fn add_use(&mut self, used: Option<&Used>, token_dollars: Option<f64>) {
        if let Some(used) = used {
            self.used.add(used);
            if let Some(joules) = used.part.joules {
                self.energy.observe(joules);
            }
        }
        if let Some(dollars) = token_dollars {
            self.token_dollars = Some(self.token_dollars.unwrap_or(0.0) + dollars);
        }
    }

    /// Takes one request in; `end_unix_ns` is its end. Exemplars point to sampled traces only, the
    /// others have no span to look at. A figure that is unknown moves nothing.
    pub fn add(&mut self, request: &Request, trace: &Trace, end_unix_ns: u64, bounds: &Bounds) {
        let outcome = self.outcome(request);
        let error_type = outcome.error_type.clone();
        *self.requests.entry(outcome).or_default() += 1;

        let add = |sum: &mut Option<u64>, known: Option<u64>| {
            if let Some(known) = known {
                *sum = Some(sum.unwrap_or(0) + known);
            }
        };
        add(&mut self.input_tokens, request.input_tokens);
        add(&mut self.cached_tokens, request.cached_tokens);
        add(&mut self.output_tokens, request.output_tokens);
        add(&mut self.engine_tokens, request.engine_tokens);
        add(&mut self.wasted_tokens, wasted(request));
        add(&mut self.preemptions, request.preemptions.map(u64::from));

        let observe = |histogram: &mut Histogram, value: f64| {
            if trace.sampled {
                histogram.observe_traced(Exemplar {
                    value,
                    unix_ns: end_unix_ns,
                    trace_id: trace.trace_id,
                    span_id: trace.span_id,
                });
            } else {
                histogram.observe(value);
            }
        };
        if let Some(ns) = request.duration_ns() {
            let histogram = self.duration.entry(error_type).or_insert_with(|| Histogram::new(&bounds.duration));
            observe(histogram, seconds(ns));
        }
        if request.error_type.is_none() {
            if let Some(ns) = request.ttft_ns() {
                observe(&mut self.ttft, seconds(ns));
            }
            if let Some(tpot) = request.tpot_seconds {
                observe(&mut self.tpot, tpot);
            }
        }
        if let Some(itl) = &request.itl {
            self.itl.merge(itl.buckets.iter().copied(), seconds(itl.sum_ns));
        }
        for (name, ns) in named(&request.phases) {
            if let Some(ns) = ns {
                observe(self.phases.entry(name).or_insert_with(|| Histogram::new(&bounds.ttft)), seconds(ns));
            }
        }
    }

    fn outcome(&self, request: &Request) -> Outcome {
        let status = request.status.map_or_else(|| "unobserved".to_owned(), |status| status.to_string());
        let error_type = request.error_type.clone().unwrap_or_default();
        let outcome = Outcome { status, error_type };
        if outcome.error_type.is_empty() || self.requests.len() < OUTCOMES_MAX || self.requests.contains_key(&outcome) {
            return outcome;
        }
        Outcome { status: OTHER_ERROR.to_owned(), error_type: OTHER_ERROR.to_owned() }
    }
}

fn wasted(request: &Request) -> Option<u64> {
    let undelivered = request.engine_tokens?.saturating_sub(request.output_tokens?);
    Some(if request.error_type.as_deref() == Some(CALLER_LEFT) { undelivered } else { 0 })
}

/// The phases in their order, by name, nanoseconds.
pub fn named(phases: &Phases) -> [(&'static str, Option<u64>); 6] {
    let Phases { receive, frontend, queue, prefill, decode, deliver } = *phases;
    [
        ("receive", receive),
        ("frontend", frontend),
        ("queue", queue),
        ("prefill", prefill),
        ("decode", decode),
        ("deliver", deliver),
    ]
}
