//! A record that is as it should be, with one thing wrong in it, in; a table that says so out.

use crate::PLAIN;
use crate::run::Ground;
use crate::run::Tally;
use crate::table::judge;
use crate::truth::Record;
use serde_json::Value;
use serde_json::json;

/// One streamed request: what its client saw, vLLM's span of it, and a record that agrees with both.
fn agreed(temperature: f64) -> (Value, Value, Value) {
    let saw = json!({
        "kind": "chat_stream_usage", "stream": true, "client": "plain", "temperature": temperature, "n": 1, "status": 200,
        "response_id": "chatcmpl-1", "usage": {"input": 9, "cached": 0, "output": 3},
        "first_content_ns": 1_005_000_000, "first_content_alone": true,
    });
    let span = json!({
        "gen_ai.request.temperature": temperature, "gen_ai.usage.prompt_tokens": 9, "gen_ai.usage.completion_tokens": 3,
        "gen_ai.latency.time_to_first_token": 0.004, "gen_ai.latency.time_in_queue": 0.001,
        "gen_ai.latency.time_in_model_prefill": 0.002, "gen_ai.latency.time_in_model_decode": 0.003,
    });
    let record = json!({
        "response_id": "chatcmpl-1", "status": 200, "params": {"temperature": temperature}, "input_tokens": 9,
        "cached_tokens": 0, "output_tokens": 3, "engine_tokens": 3, "ttft_seconds": 0.00501, "join": "external_id",
        "instants": {"accepted": 1_000_000_000, "first_content": 1_005_010_000, "finished": 1_008_000_000},
        "phases_ns": {"frontend": 1_000_000, "queue": 1_000_000, "prefill": 2_000_000, "decode": 3_000_000, "deliver": 1_000_000},
        "incomplete": null,
        "engine_requests": [{
            "external_id": "chatcmpl-1",
            "instants": {
                "queued": 1_001_000_000, "scheduled": 1_002_000_000,
                "first_output": 1_004_000_000, "last_output": 1_007_000_000,
            },
        }],
    });
    (saw, span, record)
}

/// What the table finds, once `spoil` has been at the record; beside it a stream without usage that agrees.
fn found(spoil: impl FnOnce(&mut Value)) -> anyhow::Result<Vec<String>> {
    found_with(Tally { agreed: 3, disagreed: 0 }, spoil)
}

/// As [`found`], with the agent's own comparisons.
fn found_with(waiting: Tally, spoil: impl FnOnce(&mut Value)) -> anyhow::Result<Vec<String>> {
    let (saw, span, mut record) = agreed(0.201);
    let (mut quiet, other, own) = agreed(0.202);
    if let Some(usage) = quiet.get_mut("usage") {
        *usage = Value::Null;
    }
    spoil(&mut record);
    let records: Vec<Record> = serde_json::from_value(json!([record, own]))?;
    let counters = [
        ("vllm:request_prompt_tokens_sum", 18.0),
        ("vllm:request_generation_tokens_sum", 6.0),
        ("vllm:request_queue_time_seconds_sum", 0.002),
        ("vllm:request_prefill_time_seconds_sum", 0.004),
        ("vllm:request_decode_time_seconds_sum", 0.006),
    ];
    let ground = Ground {
        saw: serde_json::from_value(json!([saw, quiet]))?,
        spans: serde_json::from_value(json!([span, other]))?,
        records,
        counters: counters.map(|(name, value)| (name.to_owned(), value)).into(),
        vitals: [("records_lost".to_owned(), json!(0))].into(),
        checks: [("waiting".to_owned(), waiting)].into(),
    };
    Ok(judge(&PLAIN, &ground))
}

#[test]
fn what_agrees_is_not_accused() -> anyhow::Result<()> {
    assert_eq!(found(|_| {})?, Vec::<String>::new());
    Ok(())
}

#[test]
fn one_comparison_that_failed_is_one_too_many() -> anyhow::Result<()> {
    assert_eq!(found_with(Tally { agreed: 9, disagreed: 1 }, |_| {})?.len(), 1);
    assert_eq!(found_with(Tally { agreed: 0, disagreed: 0 }, |_| {})?.len(), 1, "nothing to judge by");
    Ok(())
}

#[test]
fn each_difference_is_found() -> anyhow::Result<()> {
    let spoiled = [
        ("/status", json!(500)),
        ("/response_id", json!("chatcmpl-2")),
        ("/params/temperature", json!(0.3)),
        ("/input_tokens", json!(10)),
        ("/cached_tokens", json!(1)),
        ("/output_tokens", Value::Null),
        ("/instants/first_content", json!(1_015_000_000)),
        ("/instants/finished", json!(1_008_000_001)),
        ("/phases_ns/frontend", json!(-1)),
        ("/engine_requests", json!([])),
        ("/engine_requests/0/external_id", json!("chatcmpl-3")),
        ("/engine_requests/0/instants/scheduled", json!(1_002_200_000)),
        ("/join", json!("ambiguous")),
    ];
    for (path, value) in spoiled {
        let wrong = found(|record| {
            if let Some(place) = record.pointer_mut(path) {
                *place = value;
            }
        })?;
        assert!(!wrong.is_empty(), "{path}");
    }
    Ok(())
}
