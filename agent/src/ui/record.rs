//! One finished request in, its JSON out: every key is always there, and each null has its reason.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::correlate::EngineRequest;
use crate::correlate::Exchange;
use crate::correlate::Facts;
use crate::correlate::Finished;
use crate::correlate::ITL_BOUNDS_NS;
use crate::correlate::Itl;
use crate::correlate::Request;
use crate::correlate::Sample;
use crate::correlate::split::Split;
use crate::correlate::totals;
use crate::correlate::trace;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The JSON of a finished request. Instants and `*_ns` are nanoseconds, instants of CLOCK_MONOTONIC;
/// `*_seconds` of an instant count from `accepted`.
pub fn record(finished: &Finished) -> Value {
    let Finished { request, trace, end_unix_ns, anchor, engine_sample, engine_facts, place, verdict, .. } = finished;
    let explained = verdict.as_ref().and_then(|verdict| verdict.explained);
    let since = |instant: Option<MonoNs>| Some(seconds(instant?.since(request.accepted?)?));
    let fields = [
        ("id", json!(request.serial)),
        ("engine_requests", json!(request.engine_requests.iter().map(engine_request).collect::<Vec<Value>>())),
        ("x_request_id", json!(request.x_request_id)),
        ("trace_id", json!(trace::text(&trace.trace_id))),
        ("span_id", json!(trace::text(&trace.span_id))),
        ("parent_span_id", json!(trace.parent_span_id.map(|id| trace::text(&id)))),
        ("sampled", json!(trace.sampled)),
        ("time_unix_nano", json!(request.accepted.map(|at| anchor.unix_ns(at)))),
        ("end_unix_nano", json!(end_unix_ns)),
        ("target", json!({ "pid": request.pid, "engine": request.engine, "model": request.model })),
        ("place", json!(**place)),
        ("connection", json!(request.exchange.map(connection))),
        ("response_model", json!(request.response_model)),
        ("operation", json!(request.operation)),
        ("path", json!(request.path)),
        ("method", json!(request.method)),
        ("provider", json!(request.kind.name())),
        ("response_id", json!(request.response_id)),
        ("status", json!(status(request))),
        ("error_type", json!(request.error_type)),
        ("finish_reasons", json!(request.finish_reasons)),
        ("stream", json!(request.stream)),
        ("params", json!(request.params)),
        ("user", json!(request.user)),
        ("session", json!(request.session)),
        ("input_tokens", json!(request.input_tokens)),
        ("cached_tokens", json!(request.cached_tokens)),
        ("cached_share", json!(request.cached_share())),
        ("output_tokens", json!(request.output_tokens)),
        ("output_tokens_estimated", json!(request.output_tokens_estimated)),
        ("reasoning_tokens", json!(request.reasoning_tokens)),
        ("engine_tokens", json!(request.engine_tokens)),
        ("duration_seconds", json!(request.duration_ns().map(seconds))),
        ("received_seconds", json!(since(request.received))),
        ("first_byte_seconds", json!(since(request.first_byte))),
        ("first_output_seconds", json!(since(request.first_output))),
        ("ttft_seconds", json!(request.ttft_ns().map(seconds))),
        ("last_output_seconds", json!(since(request.last_output))),
        ("tpot_seconds", json!(request.tpot_seconds)),
        ("itl", json!(request.itl.as_ref().map(itl))),
        ("phases", json!(phases(request, |ns| json!(seconds(ns))))),
        ("phases_ns", json!(phases(request, |ns| json!(ns)))),
        ("blocked_seconds", json!(seconds(request.blocked_ns))),
        ("preemptions", json!(request.preemptions)),
        ("engine_at", json!(request.engine_at)),
        ("slo_missed", json!(verdict.as_ref().map(|verdict| &verdict.missed))),
        ("cause", json!(explained.map(|explained| explained.cause))),
        ("cause_seconds", json!(explained.map(|explained| seconds(explained.excess_ns)))),
        ("join", json!(request.join)),
        ("incomplete", json!((!request.incomplete.is_empty()).then_some(&request.incomplete))),
        (
            "instants",
            json!({
                "accepted": request.accepted,
                "received": request.received,
                "first_byte": request.first_byte,
                "first_output": request.first_output,
                "first_content": request.first_content,
                "last_output": request.last_output,
                "finished": request.finished,
            }),
        ),
        ("gpus", json!(finished.gpus)),
        ("gpus_by", json!((!finished.gpus.is_empty()).then_some(finished.gpus_by))),
        ("used", json!(finished.used)),
        ("token_dollars", json!(finished.token_dollars)),
        ("engine_sample", json!(engine_sample.as_deref().map(sample))),
        ("served", served(request, engine_facts.as_deref())),
        ("disaggregated", json!(finished.split.as_deref().map(disaggregated))),
    ];
    let mut record: Map<String, Value> = fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
    let mut reasons: Map<String, Value> =
        request.null_reasons.iter().map(|(key, reason)| ((*key).to_owned(), json!(reason))).collect();
    for (key, value) in &record {
        explain(value, key, &mut reasons);
    }
    record.insert("null_reasons".to_owned(), Value::Object(reasons));
    Value::Object(record)
}

/// A code, or the word for a response that was not seen.
fn status(request: &Request) -> Value {
    request.status.map_or_else(|| json!("unobserved"), |status| json!(status))
}

fn phases(request: &Request, show: impl Fn(u64) -> Value) -> Map<String, Value> {
    let named = totals::named(&request.phases).into_iter();
    named.map(|(name, ns)| (name.to_owned(), ns.map_or(Value::Null, &show))).collect()
}

/// The gauges; the counters stand in the snapshot, for they are no matter of one request.
fn sample(sample: &Sample) -> Value {
    json!({
        "engine": sample.engine,
        "at": sample.at,
        "running": sample.running,
        "waiting": sample.waiting,
        "kv_usage": sample.kv_usage,
        "models": sample.models,
    })
}

/// What served the request: an adapter where the model asked for is one, else the model itself.
fn served(request: &Request, facts: Option<&Facts>) -> Value {
    let model = facts.zip(request.model.as_ref()).and_then(|(facts, model)| facts.model(model));
    let flag = |name| facts.and_then(|facts| facts.flags.get(name));
    let base = model.and_then(|model| model.parent.as_ref()).and_then(|parent| facts?.model(parent));
    let adapter = model.filter(|model| model.parent.is_some());
    let weights = if adapter.is_some() { base } else { model };
    json!({
        "model": weights.map(|model| &model.id),
        "root": weights.and_then(|model| model.root.as_ref()),
        "lora_adapter": adapter.map(|model| &model.id),
        "lora_root": adapter.and_then(|model| model.root.as_ref()),
        "max_model_len": model.and_then(|model| model.max_model_len),
        "revision": flag("revision"),
        "dtype": flag("dtype"),
        "quantization": flag("quantization"),
        "engine_version": facts.and_then(|facts| facts.version.as_ref()),
    })
}

/// What the request was of one that two engines served.
fn disaggregated(split: &Split) -> Value {
    let other = split.other.as_ref().map(|other| {
        let (trace_id, span_id) = other.place();
        json!({
            "id": other.serial,
            "target": { "pid": other.pid, "engine": other.engine },
            "trace_id": trace_id,
            "span_id": span_id,
            "instants": { "accepted": other.accepted, "finished": other.finished },
        })
    });
    json!({
        "role": split.half,
        "remote_engine_id": split.transfer.remote_engine,
        "remote_request_id": split.transfer.remote_request,
        "transfer_id": split.transfer.id,
        "other": other,
        "handover_seconds": split.handover_ns.map(seconds),
        "handover_ns": split.handover_ns,
        "duration_seconds": split.duration_ns.map(seconds),
        "duration_ns": split.duration_ns,
    })
}

fn connection(exchange: Exchange) -> Value {
    json!({ "fd": exchange.conn.fd, "opened": exchange.conn.opened_ns, "exchange": exchange.number })
}

fn itl(itl: &Itl) -> Value {
    json!({
        "count": itl.count,
        "sum_seconds": seconds(itl.sum_ns),
        "max_seconds": seconds(itl.max_ns),
        "sum_ns": itl.sum_ns,
        "max_ns": itl.max_ns,
        "bounds_seconds": ITL_BOUNDS_NS.map(seconds),
        "counts": itl.buckets,
    })
}

fn engine_request(engine: &EngineRequest) -> Value {
    let (queue, prefill, decode) = engine.phases();
    let shown = |ns: Option<u64>| ns.map(seconds);
    json!({
        "id": engine.id,
        "external_id": engine.external_id,
        "client_index": engine.client_index,
        "pid": engine.engine,
        "instants": {
            "added": engine.added,
            "queued": engine.queued,
            "scheduled": engine.scheduled,
            "first_output": engine.first_output,
            "last_output": engine.last_output,
            "aborted": engine.aborted,
        },
        "phases": { "queue": shown(queue), "prefill": shown(prefill), "decode": shown(decode) },
        "phases_ns": { "queue": queue, "prefill": prefill, "decode": decode },
        "preemptions": engine.preemptions,
        "preempted_seconds": seconds(engine.preempted_ns),
        "kv_usage_waiting": engine.kv_usage_waiting,
        "running_max": engine.running_max,
        "input_tokens": engine.prompt_tokens,
        "cached_tokens": engine.cached_tokens,
        "output_tokens": engine.output_tokens,
        "engine_tokens": engine.engine_tokens,
        "overrun_tokens": engine.overrun_tokens,
        "finish": engine.finish,
    })
}

/// Gives each null a reason under its path (`phases.queue`, `engine_requests[].finish`), unless the record
/// brought one for the path, for its last key, or for what it lies in.
fn explain(value: &Value, path: &str, reasons: &mut Map<String, Value>) {
    match value {
        Value::Null => {
            let last = path.rsplit('.').next().unwrap_or(path);
            let within = path.match_indices('.').filter_map(|(at, _)| path.get(..at));
            let known = [path, last].into_iter().chain(within).any(|key| reasons.contains_key(key));
            if !known {
                reasons.insert(path.to_owned(), json!(usual_reason(path)));
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                explain(value, &format!("{path}.{key}"), reasons);
            }
        }
        Value::Array(items) => {
            let path = format!("{path}[]");
            for item in items {
                explain(item, &path, reasons);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Why a field is null where nothing more is known.
fn usual_reason(path: &str) -> &'static str {
    match path {
        "parent_span_id" => "no_caller_span",
        "error_type" => "no_error",
        "incomplete" => "complete",
        "x_request_id" | "user" | "session" => "not_sent",
        "engine_requests[].instants.aborted" => "not_aborted",
        "engine_requests[].finish" => "not_finished_by_engine",
        "engine_sample" => "not_scraped",
        "used" => "not_in_engine",
        "gpus_by" | "used.device_seconds" => "no_gpu",
        "used.joules" | "used.uncertain_joules" => "no_energy_counter",
        "used.dollars" | "token_dollars" => "no_price",
        "served.lora_adapter" | "served.lora_root" => "no_adapter",
        "served.revision" | "served.dtype" | "served.quantization" => "no_flag",
        _ if path.starts_with("place.") => "not_in_control_group",
        _ if path.starts_with("served.") => "not_told",
        _ if path.starts_with("engine_sample.") => "not_exported",
        "disaggregated" => "not_disaggregated",
        "disaggregated.remote_engine_id" | "disaggregated.remote_request_id" | "disaggregated.transfer_id" => {
            "not_sent"
        }
        _ if path.starts_with("disaggregated.") => "other_half_not_seen",
        "slo_missed" => "no_objective",
        "cause" | "cause_seconds" => "nothing_missed",
        _ if path.starts_with("params.") => "not_sent",
        _ => "not_seen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::Update;
    use crate::correlate::golden;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::refused;
    use crate::correlate::sample::streamed;
    use crate::correlate::split;

    fn of(request: Request) -> Value {
        record(&busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0))
    }

    #[test]
    fn two_requests() {
        let both = json!([of(streamed(1)), of(refused(2))]);
        golden::check("requests.json", &(serde_json::to_string_pretty(&both).unwrap() + "\n"));
    }

    #[test]
    fn readers_see_of_each_half_its_other() {
        let correlator = busy();
        let [prefill, decode] = split::sample::halves();
        for half in [prefill, decode] {
            correlator.update(Update::Ended(Box::new(half)), ANCHOR);
        }
        let records: Vec<Value> = correlator.snapshot(ANCHOR).requests.iter().map(|it| record(it)).collect();
        let part = |number: usize, path: &str| records[number]["disaggregated"].pointer(path).cloned().unwrap();
        assert_eq!([0, 1].map(|it| part(it, "/role")), ["decode", "prefill"]);
        assert_eq!([0, 1].map(|it| part(it, "/other/id")), [json!(1), json!(2)]);
        assert_eq!(part(0, "/other/span_id"), records[1]["span_id"]);
        assert_eq!(part(0, "/duration_ns"), part(1, "/duration_ns"));
    }

    fn keys(value: &Value) -> Vec<&String> {
        value.as_object().unwrap().keys().collect()
    }

    #[test]
    fn every_key_is_always_there() {
        let (whole, bare) = (of(streamed(1)), of(Request { accepted: None, status: None, ..refused(2) }));
        assert_eq!(keys(&whole), keys(&bare));
        for part in ["params", "phases", "instants", "engine_at", "target"] {
            assert_eq!(keys(&whole[part]), keys(&bare[part]), "{part}");
        }
        assert_eq!(bare["status"], "unobserved");
    }

    #[test]
    fn every_null_has_a_reason_and_a_given_one_stands() {
        let null_reasons = [("queue", "engine_not_tapped"), ("itl", "not_streamed")].into();
        let record = of(Request { null_reasons, ..refused(2) });
        let reasons = &record["null_reasons"];
        assert_eq!((&reasons["queue"], &reasons["itl"]), (&json!("engine_not_tapped"), &json!("not_streamed")));
        assert_eq!(reasons.get("phases.queue"), None, "said once, by its last key");
        for (key, value) in record.as_object().unwrap() {
            assert!(!value.is_null() || reasons[key].is_string(), "{key}");
        }
        assert_eq!(reasons["phases.decode"], "not_seen");
        assert_eq!(reasons["params.seed"], "not_sent");
    }

    #[test]
    fn phases_sum_to_the_duration_to_the_nanosecond() {
        let record = of(streamed(1));
        let sum: u64 = record["phases_ns"].as_object().unwrap().values().map(|ns| ns.as_u64().unwrap()).sum();
        let instant = |name: &str| record["instants"][name].as_u64().unwrap();
        assert_eq!(sum, instant("finished") - instant("accepted"));
    }
}
