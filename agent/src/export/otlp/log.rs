//! A finished request or an event in, one log record out: JSON as its body, so that a query can take it apart, and in
//! that one field `msg` of `key=value` for those who only search.

use crate::clock::Anchor;
use crate::clock::milliseconds;
use crate::clock::seconds;
use crate::correlate::CoreView;
use crate::correlate::Finished;
use crate::correlate::Request;
use crate::correlate::events::Event;
use crate::correlate::events::What;
use crate::correlate::fate::Fate;
use crate::correlate::labels;
use crate::correlate::trace;
use crate::correlate::wedged::Wedged;
use crate::export::otlp::attribute::Attributes;
use crate::export::otlp::content;
use crate::export::otlp::queue;
use crate::export::otlp::queue::Item;
use crate::vitals::Count;
use crate::vitals::Vitals;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// Whose requests' logs these are, for queries by `job`.
const REQUESTS: &str = "llm-requests";
/// What else happens on the node.
const EVENTS: &str = "tachograph";
/// All of them.
pub const JOBS: [&str; 2] = [REQUESTS, EVENTS];

/// Bytes of a record's text; Loki refuses a line of 256 KiB, and what stands around it counts.
const LINE: usize = 250_000;

/// What one record is made of.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A finished request.
    Request(Arc<Finished>),
    /// Something else, and the tie between the clocks then.
    Event(Box<Event>, Anchor),
}

impl Entry {
    /// The job that it is logged under.
    pub const fn job(&self) -> &'static str {
        match self {
            Self::Request(_) => REQUESTS,
            Self::Event(..) => EVENTS,
        }
    }
}

impl Item for Entry {
    fn weight(&self) -> usize {
        match self {
            Self::Request(finished) => queue::weight(finished),
            Self::Event(..) => size_of::<Event>(),
        }
    }

    fn count(&self) -> u64 {
        1
    }

    fn counters(vitals: &Vitals) -> [&Count; 2] {
        [&vitals.logs_sent, &vitals.logs_dropped]
    }
}

/// The record.
pub fn record(entry: &Entry) -> LogRecord {
    match entry {
        Entry::Request(finished) => request(finished),
        Entry::Event(what, anchor) => event(what, *anchor),
    }
}

fn request(finished: &Finished) -> LogRecord {
    let fate = Fate::of(&finished.request);
    let severity = match fate {
        Fate::Failed => SeverityNumber::Error,
        Fate::Refused => SeverityNumber::Warn,
        Fate::Ok | Fate::Left if finished.missed() => SeverityNumber::Warn,
        Fate::Ok | Fate::Left => SeverityNumber::Info,
    };
    let Request { model, user, session, x_request_id, error_type, .. } = &finished.request;
    let mut attributes = Attributes::default();
    attributes.put("gen_ai.operation.name", labels::operation(finished.request.operation));
    attributes.put("gen_ai.request.model", model.as_ref());
    attributes.put("gen_ai.conversation.id", session.as_ref());
    attributes.put("user.id", user.as_ref());
    attributes.put("tachograph.x_request_id", x_request_id.as_ref());
    attributes.put("error.type", error_type.as_ref());
    attributes.place(&finished.place);
    LogRecord {
        trace_id: finished.trace.trace_id.to_vec(),
        span_id: finished.trace.span_id.to_vec(),
        flags: finished.trace.sampled.into(),
        attributes: attributes.0,
        ..made("tachograph.llm_request", finished.end_unix_ns, finished.end_unix_ns, severity, &about(finished, fate))
    }
}

fn event(event: &Event, anchor: Anchor) -> LogRecord {
    let severity = if event.what.is_trouble() { SeverityNumber::Error } else { SeverityNumber::Info };
    let name = event.what.name();
    let mut body = Map::new();
    body.insert("event".to_owned(), name.into());
    body.extend(facts(&event.what, anchor));
    let body = Value::Object(body.into_iter().filter(|(_, value)| !value.is_null()).collect());
    made(&format!("tachograph.{name}"), anchor.unix_ns(event.at), anchor.unix_ns, severity, &body)
}

fn made(event_name: &str, at_unix_ns: u64, seen_unix_ns: u64, severity: SeverityNumber, body: &Value) -> LogRecord {
    LogRecord {
        time_unix_nano: at_unix_ns,
        observed_time_unix_nano: seen_unix_ns,
        severity_number: severity.into(),
        severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(body.to_string())) }),
        event_name: event_name.to_owned(),
        ..LogRecord::default()
    }
}

/// What is known of a request; what is not has no key.
fn about(finished: &Finished, fate: Fate) -> Value {
    let request = &finished.request;
    let verdict = finished.verdict.as_ref();
    let missed = verdict.map(|verdict| &verdict.missed).filter(|missed| !missed.is_empty());
    let parts = [
        ("event", json!("llm_request")),
        ("status", json!(fate.name())),
        ("model", json!(request.model)),
        ("operation", json!(labels::operation(request.operation))),
        ("user_id", json!(request.user)),
        ("session_id", json!(request.session)),
        ("request_id", json!(request.x_request_id)),
        ("response_id", json!(request.response_id)),
        ("trace_id", json!(trace::text(&finished.trace.trace_id))),
        ("span_id", json!(trace::text(&finished.trace.span_id))),
        ("status_code", json!(request.status)),
        ("error_type", json!(request.error_type)),
        ("finish_reasons", json!(Some(&request.finish_reasons).filter(|reasons| !reasons.is_empty()))),
        ("stream", json!(request.stream)),
        ("prompt_tokens", json!(request.input_tokens)),
        ("cached_tokens", json!(request.cached_tokens)),
        ("completion_tokens", json!(request.output_tokens)),
        ("completion_tokens_estimated", json!(request.output_tokens_estimated.then_some(true))),
        ("reasoning_tokens", json!(request.reasoning_tokens)),
        ("latency_ms", json!(request.duration_ns().map(milliseconds))),
        ("ttft_ms", json!(request.ttft_ns().map(milliseconds))),
        ("tpot_ms", json!(request.tpot_seconds.map(|seconds| seconds * 1e3))),
        ("queue_ms", json!(request.phases.queue.map(milliseconds))),
        ("prefill_ms", json!(request.phases.prefill.map(milliseconds))),
        ("decode_ms", json!(request.phases.decode.map(milliseconds))),
        ("slo_missed", json!(missed)),
        ("cause", json!(verdict.and_then(|verdict| verdict.explained).map(|explained| explained.cause))),
        ("energy_joules", json!(finished.used.as_ref().and_then(|used| used.part.joules))),
        ("cost_usd", json!(finished.used.as_ref().and_then(|used| used.part.dollars))),
        ("estimated_cost_usd", json!(finished.token_dollars)),
        ("incomplete", json!(Some(&request.incomplete).filter(|reasons| !reasons.is_empty()))),
    ];
    let known: Vec<(&str, Value)> = parts.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let words = known.iter().filter(|(key, value)| *key != "event" && !value.is_array());
    let words: Vec<String> = words.map(|(key, value)| format!("{key}={}", word(value))).collect();
    let mut body: Map<String, Value> = known.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    body.insert("msg".to_owned(), words.join(" ").into());
    if let Some(content) = &finished.content {
        body.extend(content::fields(content, LINE.saturating_sub(Value::Object(body.clone()).to_string().len())));
    }
    Value::Object(body)
}

/// As logfmt writes it.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains([' ', '"', '=', '\n']) || text.is_empty() => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What is told of an event beside its name.
fn facts(what: &What, anchor: Anchor) -> Map<String, Value> {
    let told = match what {
        What::Xid { gpu, name, code, count, meaning } => {
            json!({ "gpu": gpu, "gpu_name": name, "xid": code, "count": count, "meaning": meaning })
        }
        What::GpuLost { gpu, index, why } => json!({ "gpu": gpu, "index": index, "why": why }),
        What::GpuBack { gpu } => json!({ "gpu": gpu }),
        What::Stepping { core } => json!({ "core": core }),
        What::Wedged { core, wedged, view } => {
            let Wedged { since, last_step_age_seconds, usual_step_seconds, processes, gpu_errors } = wedged;
            let since = anchor.mono.since(*since).map(seconds);
            let mut told = json!({
                "core": core, "for_seconds": since, "last_step_age_seconds": last_step_age_seconds,
                "usual_step_seconds": usual_step_seconds, "processes": processes, "gpu_errors": gpu_errors,
            });
            if let (Some(CoreView { engine, load, queued_tokens, live, .. }), Some(told)) =
                (view.as_deref(), told.as_object_mut())
            {
                let last = json!({
                    "engine": engine.0.pid, "running": load.running, "waiting": load.waiting,
                    "kv_usage": load.kv_usage, "queued_tokens": queued_tokens, "live": live,
                });
                told.extend(last.as_object().cloned().unwrap_or_default());
            }
            told
        }
    };
    told.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoNs;
    use crate::correlate::Update;
    use crate::correlate::Xid;
    use crate::correlate::devices::Errors;
    use crate::correlate::golden;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::refused;
    use crate::correlate::sample::streamed;
    use crate::correlate::wedged::Process;
    use crate::ident::Pid;
    use std::fmt::Write as _;

    fn of(request: Request) -> Entry {
        Entry::Request(busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0))
    }

    fn happened(what: What) -> Entry {
        Entry::Event(Box::new(Event { at: MonoNs(ANCHOR.mono.0 - 500), what }), ANCHOR)
    }

    fn body(entry: &Entry) -> Value {
        let Some(Any::StringValue(body)) = record(entry).body.unwrap().value else { panic!("no text") };
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn records() {
        let wedged = Wedged {
            since: MonoNs(ANCHOR.mono.0 - 12_000),
            last_step_age_seconds: Some(12.0),
            usual_step_seconds: None,
            processes: vec![Process { pid: Pid(42), name: "VLLM::EngineCore".to_owned(), state: 'T' }],
            gpu_errors: vec![Errors {
                gpu: "GPU-a".to_owned(),
                code: 79,
                xid: Xid { count: 2, last: MonoNs(ANCHOR.mono.0 - 700) },
            }],
        };
        let (core, gpu) = (Pid(42), "GPU-a".to_owned());
        let entries = [
            of(streamed(1)),
            of(refused(2)),
            happened(What::Xid { gpu: gpu.clone(), name: None, code: 79, count: 2, meaning: "it fell off" }),
            happened(What::GpuLost { gpu: None, index: 3, why: "GPU is lost".to_owned() }),
            happened(What::GpuBack { gpu }),
            happened(What::Wedged { core, wedged, view: busy().snapshot(ANCHOR).cores.first().cloned().map(Box::new) }),
            happened(What::Stepping { core }),
        ];
        let mut out = String::new();
        for entry in &entries {
            let record = record(entry);
            let LogRecord { event_name, severity_text, time_unix_nano, observed_time_unix_nano, .. } = &record;
            writeln!(
                out,
                "{event_name} {severity_text} {time_unix_nano} {observed_time_unix_nano} job={}",
                entry.job()
            )
            .unwrap();
            writeln!(out, "{:#}", body(entry)).unwrap();
        }
        golden::check("logs.txt", &out);
    }

    #[test]
    fn one_record_names_its_span() {
        let entry = of(streamed(1));
        let (record, body) = (record(&entry), body(&entry));
        assert_eq!(
            (body["trace_id"].as_str(), body["span_id"].as_str()),
            (Some(trace::text(&record.trace_id).as_str()), Some(trace::text(&record.span_id).as_str()),)
        );
    }

    #[test]
    fn words_of_callers_cannot_forge_others() {
        for (said, written) in [
            ("user_abc123", "user_id=user_abc123 "),
            ("a b", r#"user_id="a b" "#),
            ("x status=ok", r#"user_id="x status=ok" "#),
            ("\"q\"\n", r#"user_id="\"q\"\n" "#),
        ] {
            let msg = body(&of(Request { user: Some(said.to_owned()), ..streamed(1) }))["msg"].clone();
            assert!(msg.as_str().unwrap().contains(written), "{msg}");
        }
    }
}
