//! A synthetic record and its truth: equal as made, and different after any one change.

use super::differences;
use super::hold;
use crate::record::Record;
use crate::truth::Truth;
use serde_json::Value;
use serde_json::json;

const FIVE_MS: i64 = 5_000_000;

fn truth() -> Value {
    json!({
        "temperature": 0.12345, "x_request_id": "r", "pid": 1, "core_pid": 2, "fd": 9, "end": "complete", "status": 200,
        "waited": 0,
        "response_id": "chatcmpl-r", "stream": true, "usage": true, "finish_reasons": ["stop"],
        "input_tokens": 9, "cached_tokens": 0, "output_tokens": 2,
        "instants": {
            "accepted": [1_000_000_000_u64, 1_000_900_000_u64], "received": [1_001_000_000_u64, 1_001_900_000_u64],
            "first_byte": [1_010_000_000_u64, 1_010_900_000_u64], "comment": null, "role": null, "empty": null,
            "first_content": [1_100_000_000_u64, 1_100_900_000_u64], "finished": [1_200_000_000_u64, 1_200_900_000_u64],
        },
        "engine": [{
            "id": "chatcmpl-r-01234567", "external_id": "chatcmpl-r", "added": [1_020_000_000_u64, 1_020_900_000_u64],
            "aborted": [1_190_000_000_u64, 1_190_900_000_u64], "queued": 1_021_000_000_u64,
            "scheduled": 1_040_000_000_u64, "preemptions": 0,
            "steps": [[1_090_000_000_u64, 1], [1_180_000_000_u64, 1], [1_189_000_000_u64, 1]],
            "taken": [[1_090_000_000_u64, 1], [1_180_000_000_u64, 1]],
            "prompt_tokens": 9, "engine_tokens": 3, "delivered_tokens": 2,
        }],
    })
}

fn record() -> Value {
    json!({
        "target": { "pid": 1 }, "connection": { "fd": 9, "opened": 999_000_000_u64 },
        "x_request_id": "r", "response_id": "chatcmpl-r", "status": 200, "error_type": null,
        "finish_reasons": ["stop"], "stream": true, "params": { "temperature": 0.12345 },
        "input_tokens": 9, "cached_tokens": 0, "output_tokens": 2, "engine_tokens": 3,
        "duration_seconds": 0.2, "blocked_seconds": 0.0, "join": "id", "incomplete": null, "preemptions": 0,
        "instants": {
            "accepted": 1_000_500_000_u64, "received": 1_001_500_000_u64, "first_byte": 1_010_500_000_u64,
            "first_output": 1_090_000_000_u64, "first_content": 1_100_500_000_u64, "last_output": 1_180_000_000_u64,
            "finished": 1_200_500_000_u64,
        },
        "phases": {
            "receive": 0.001, "frontend": 0.0195, "queue": 0.019, "prefill": 0.05, "decode": 0.09, "deliver": 0.0205,
        },
        "engine_requests": [{
            "id": "chatcmpl-r-01234567", "external_id": "chatcmpl-r", "pid": 2,
            "instants": {
                "added": 1_020_500_000_u64, "queued": 1_021_000_000_u64, "scheduled": 1_040_000_000_u64,
                "first_output": 1_090_000_000_u64, "last_output": 1_180_000_000_u64, "aborted": 1_190_500_000_u64,
            },
        }],
    })
}

fn difference(record: &Value) -> Vec<String> {
    let record: Record = serde_json::from_value(record.clone()).unwrap();
    let truth: Truth = serde_json::from_value(truth()).unwrap();
    differences(&record, &truth)
}

/// Every place of a record that `wanted` says yes to, as JSON pointers.
fn places(value: &Value, wanted: &dyn Fn(&str, &Value) -> bool) -> Vec<String> {
    fn walk(value: &Value, at: &str, wanted: &dyn Fn(&str, &Value) -> bool, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, part)| walk(part, &format!("{at}/{key}"), wanted, found));
            }
            Value::Array(parts) => {
                parts.iter().enumerate().for_each(|(index, part)| walk(part, &format!("{at}/{index}"), wanted, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if wanted(at, value) => {
                found.push(at.to_owned());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", wanted, &mut found);
    found
}

fn with(place: &str, value: Value) -> Value {
    let mut changed = record();
    *changed.pointer_mut(place).unwrap() = value;
    changed
}

#[test]
fn a_right_record_is_right() {
    assert_eq!(difference(&record()), Vec::<String>::new());
}

#[test]
fn moving_any_one_instant_by_5_ms_fails() {
    let instants = places(&record(), &|_, value| value.as_u64().is_some_and(|number| number > 1_000_000_000));
    assert_eq!(instants.len(), 7 + 6);
    for place in instants {
        let at = record().pointer(&place).and_then(Value::as_i64).unwrap();
        for moved in [at - FIVE_MS, at + FIVE_MS] {
            assert_ne!(difference(&with(&place, json!(moved))), Vec::<String>::new(), "{place} {moved}");
        }
    }
}

#[test]
fn moving_any_one_phase_by_5_ms_fails() {
    for place in places(&record(), &|at, _| at.starts_with("/phases") || at == "/duration_seconds") {
        let seconds = record().pointer(&place).and_then(Value::as_f64).unwrap();
        assert_ne!(difference(&with(&place, json!(seconds + 0.005))), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn a_null_in_the_place_of_a_value_fails() {
    let optional = ["/error_type", "/incomplete", "/preemptions", "/blocked_seconds", "/params/temperature"];
    let strict = |at: &str, value: &Value| {
        !(value.is_null() || optional.contains(&at) || at.ends_with("/aborted") || at == "/duration_seconds")
            && !(at.ends_with("id")
                || at.starts_with("/connection")
                || at == "/join"
                || at.starts_with("/finish_reasons"))
    };
    for place in places(&record(), &strict) {
        assert_ne!(difference(&with(&place, Value::Null)), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn longer_blocked_than_bytes_waited_fails() {
    assert_ne!(difference(&with("/blocked_seconds", json!(0.001))), Vec::<String>::new());
}

#[test]
fn a_wrong_join_fails() {
    let other = with("/engine_requests/0/id", json!("chatcmpl-r-fedcba98"));
    assert_eq!(difference(&other).len(), 2);
    assert_ne!(difference(&with("/join", json!("none"))), Vec::<String>::new());
}

#[test]
fn one_record_each() {
    let record: Record = serde_json::from_value(record()).unwrap();
    let truth: Truth = serde_json::from_value(truth()).unwrap();
    let wrong = |records: &[Record], truths: &[Truth]| hold(records, truths).wrong.len();
    assert_eq!(wrong(std::slice::from_ref(&record), std::slice::from_ref(&truth)), 0);
    assert_eq!(wrong(&[], std::slice::from_ref(&truth)), 1);
    assert_eq!(wrong(std::slice::from_ref(&record), &[]), 1);
    assert_eq!(wrong(&[record.clone(), record], &[truth]), 1);
}
