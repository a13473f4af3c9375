//! Troubles as they show in a record in, their causes out.

use super::*;
use crate::correlate::sample::ms;
use crate::correlate::sample::streamed;
use crate::correlate::slo::Objective;
use crate::correlate::slo::judge;
use crate::request::EngineAt;
use crate::request::Phases;
use crate::stream::Load;

/// Milliseconds of each phase; the first content leaves `answer` after the first token.
#[derive(Debug, Clone, Copy)]
struct Shape {
    phases: [u64; 6],
    answer: u64,
    tokens: u64,
}

/// 5 ms of everything, 10 ms for each of 10 tokens.
const GOOD: Shape = Shape { phases: [5, 5, 5, 5, 100, 5], answer: 2, tokens: 11 };

const STRICT: Objective =
    Objective { ttft_seconds: Some(0.2), tpot_seconds: Some(0.03), duration_seconds: Some(1.0), errors: None };

fn request(shape: Shape) -> Request {
    let [receive, frontend, queue, prefill, decode, deliver] = shape.phases;
    let first = receive + frontend + queue + prefill;
    let known = |ms: u64| Some(ms * 1_000_000);
    let mut request = streamed(1);
    for engine in &mut request.engine_requests {
        (engine.output_tokens, engine.preempted_ns, engine.running_max) = (shape.tokens, 0, Some(4));
    }
    Request {
        phases: Phases {
            receive: known(receive),
            frontend: known(frontend),
            queue: known(queue),
            prefill: known(prefill),
            decode: known(decode),
            deliver: known(deliver),
        },
        first_output: Some(ms(first)),
        first_content: Some(ms(first + shape.answer)),
        finished: ms(first + decode + deliver),
        tpot_seconds: Some(decode as f64 / 1e3 / (shape.tokens - 1) as f64),
        engine_at: at(0.3),
        blocked_ns: 0,
        ..request
    }
}

fn at(kv_usage: f64) -> EngineAt {
    let load = Some(Load { running: Some(4), waiting: Some(2), kv_usage: Some(kv_usage) });
    EngineAt { queued: load, first_token: load, finish: load }
}

fn usual() -> Usual {
    let mut usual = Usual::default();
    for _ in 0..20 {
        for spent in spent(&request(GOOD)) {
            usual.learn(&spent);
        }
    }
    usual
}

fn cause_of(objective: &Objective, request: &Request, throttled_ns: Option<u64>) -> Option<&'static str> {
    let missed = judge(objective, request)?;
    (!missed.is_empty()).then(|| explain(request, &missed, &usual(), throttled_ns).cause.name())
}

fn cause(shape: Shape, change: impl FnOnce(&mut Request)) -> Option<&'static str> {
    let mut request = request(shape);
    change(&mut request);
    cause_of(&STRICT, &request, None)
}

#[test]
fn the_phase_with_the_excess_is_the_cause() {
    for (phases, answer, expected) in [
        (GOOD.phases, 2, None),
        ([900, 5, 5, 5, 100, 5], 2, Some("receive")),
        ([5, 900, 5, 5, 100, 5], 2, Some("frontend")),
        ([5, 5, 900, 5, 100, 5], 2, Some("queue")),
        ([5, 5, 5, 900, 100, 5], 2, Some("prefill")),
        ([5, 5, 5, 5, 900, 5], 2, Some("batch_interference")),
        ([5, 5, 5, 5, 100, 900], 2, Some("frontend")),
        ([5, 5, 5, 5, 100, 5], 300, Some("frontend")),
        ([5, 5, 250, 150, 100, 5], 2, Some("queue")),
        ([5, 5, 150, 250, 700, 5], 2, Some("batch_interference")),
    ] {
        assert_eq!(cause(Shape { phases, answer, ..GOOD }, |_| ()), expected, "{phases:?} {answer}");
    }
}

#[test]
fn the_longest_phase_is_not_the_cause_where_it_is_usual() {
    let long = Shape { phases: [5, 5, 300, 5, 850, 5], answer: 2, tokens: 86 };
    assert_eq!(cause(long, |_| ()), Some("queue"), "850 ms of decoding is the usual pace of 85 tokens");
    let longer = Shape { phases: [5, 5, 5, 5, 2_000, 5], answer: 2, tokens: 201 };
    assert_eq!(cause(longer, |_| ()), Some("usual_pace"));
    let prompt = |request: &mut Request| request.input_tokens = Some(2_000);
    let slow_prompt = Shape { phases: [5, 5, 5, 900, 100, 5], ..GOOD };
    assert_eq!(cause(slow_prompt, prompt), Some("prefill"), "usual for its size, and still its prefill");
}

#[test]
fn engine_gpu_and_socket_tell_what_lies_behind_a_phase() {
    let with = |phases| Shape { phases, ..GOOD };
    let queued = with([5, 5, 900, 5, 100, 5]);
    assert_eq!(cause(queued, |request| request.engine_at = at(0.9)), Some("kv_pressure"));
    assert_eq!(cause(queued, |request| request.engine_at = EngineAt::default()), Some("queue"));
    let between = |request: &mut Request| request.engine_requests[0].kv_usage_waiting = Some(0.95);
    assert_eq!(cause(queued, between), Some("kv_pressure"));
    let arrived = |at: u64| {
        move |request: &mut Request| {
            let engine = &mut request.engine_requests[0];
            (engine.added, engine.queued) = (Some(ms(at)), Some(ms(905)));
        }
    };
    let late = with([5, 900, 5, 5, 100, 5]);
    assert_eq!(cause(late, arrived(10)), Some("queue"), "a long step was under way");
    assert_eq!(cause(late, arrived(900)), Some("frontend"));
    let decoded = with([5, 5, 5, 5, 900, 5]);
    let preempted = |ns| move |request: &mut Request| request.engine_requests[0].preempted_ns = ns;
    assert_eq!(cause(decoded, preempted(500_000_000)), Some("kv_pressure"));
    assert_eq!(cause(decoded, preempted(100_000_000)), Some("batch_interference"));
    assert_eq!(cause(with([5, 5, 5, 900, 100, 5]), preempted(800_000_000)), Some("kv_pressure"));
    let alone = |request: &mut Request| request.engine_requests[0].running_max = Some(1);
    assert_eq!(cause(decoded, alone), Some("unknown"), "there was nobody to interfere");
    let delivered = with([5, 5, 5, 5, 100, 1_500]);
    assert_eq!(cause(delivered, |request| request.blocked_ns = 1_400_000_000), Some("slow_client"));
    assert_eq!(cause(delivered, |request| request.blocked_ns = 20_000_000), Some("frontend"));
    for (throttled_ms, expected) in [(600, "gpu_throttling"), (100, "batch_interference")] {
        let found = cause_of(&STRICT, &request(decoded), Some(throttled_ms * 1_000_000));
        assert_eq!(found, Some(expected), "{throttled_ms} ms");
    }
}

#[test]
fn an_error_is_its_own_cause() {
    assert_eq!(cause(GOOD, |request| request.error_type = Some("500".to_owned())), Some("error"));
}

#[test]
fn a_phase_that_is_not_known_is_not_blamed() {
    let unknown = |request: &mut Request| {
        request.phases = Phases { receive: Some(5_000_000), ..Phases::default() };
        (request.first_output, request.engine_requests, request.tpot_seconds) = (None, Vec::new(), None);
    };
    assert_eq!(cause(Shape { phases: [5, 5, 900, 5, 100, 5], ..GOOD }, unknown), Some("unknown"));
}

#[test]
fn only_the_time_before_the_first_token_explains_a_late_first_token() {
    let only_ttft = Objective { ttft_seconds: Some(0.2), ..Objective::default() };
    let late = request(Shape { phases: [5, 5, 250, 5, 5_000, 900], ..GOOD });
    assert_eq!(cause_of(&only_ttft, &late, None), Some("queue"));
}
