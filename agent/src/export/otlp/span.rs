//! A finished request in, one SERVER span with a child for each known phase out.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::correlate::EngineRequest;
use crate::correlate::Facts;
use crate::correlate::Finished;
use crate::correlate::Load;
use crate::correlate::Operation;
use crate::correlate::Request;
use crate::correlate::cause::Explained;
use crate::correlate::during::During;
use crate::correlate::fate::Fate;
use crate::correlate::labels;
use crate::correlate::split::Other;
use crate::correlate::totals;
use crate::export::otlp::attribute::Attributes;
use crate::export::otlp::content;
use crate::export::otlp::llm;
use crate::export::otlp::llm::Calls;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::SpanFlags;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use std::collections::BTreeMap;

/// The sampled flag of the trace context standard.
const SAMPLED: u32 = 1;

/// How many spans a finished request makes.
pub fn count(finished: &Finished) -> u64 {
    1 + phases(&finished.request).flatten().count() as u64
}

/// The spans of a finished request, the SERVER span first.
pub fn spans(finished: &Finished, calls: Calls) -> impl Iterator<Item = Span> {
    let server = server(finished, calls);
    let children = phases(&finished.request).enumerate();
    let children = children.filter_map(|(nth, phase)| phase.map(|phase| child(finished, nth, &phase)));
    std::iter::once(server).chain(children)
}

fn server(finished: &Finished, calls: Calls) -> Span {
    let request = &finished.request;
    let trace = &finished.trace;
    let operation = labels::operation(request.operation);
    let remote = if trace.parent_span_id.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let start = request.accepted.or_else(|| first_seen(request)).unwrap_or(request.finished);
    Span {
        trace_id: trace.trace_id.to_vec(),
        span_id: trace.span_id.to_vec(),
        parent_span_id: trace.parent_span_id.map(Vec::from).unwrap_or_default(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: match &request.model {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        },
        kind: SpanKind::Server as i32,
        start_time_unix_nano: finished.anchor.unix_ns(start),
        end_time_unix_nano: finished.end_unix_ns,
        attributes: attributes(finished, calls).0,
        status: (Fate::of(request) == Fate::Failed).then(|| Status {
            message: request.error_type.clone().unwrap_or_default(),
            code: StatusCode::Error as i32,
        }),
        links: finished.split.as_ref().and_then(|split| split.other.as_ref()).map(link).into_iter().collect(),
        ..Span::default()
    }
}

/// To the other half of a request that two engines served, which ended before this one.
fn link(other: &Other) -> Link {
    let mut attributes = Attributes::default();
    attributes.put("tachograph.engine.pid", other.engine.map(|engine| engine.0.pid.0));
    Link {
        trace_id: other.trace_id.to_vec(),
        span_id: other.span_id.to_vec(),
        attributes: attributes.0,
        ..Link::default()
    }
}

fn first_seen(request: &Request) -> Option<MonoNs> {
    request.engine_requests.iter().filter_map(|engine| engine.added.or(engine.queued)).min()
}

/// A phase between two instants.
struct Phase {
    name: &'static str,
    start: MonoNs,
    end: MonoNs,
}

/// Each phase of a request, where its length and its place are known.
fn phases(request: &Request) -> impl Iterator<Item = Option<Phase>> {
    let earliest =
        |instant: fn(&EngineRequest) -> Option<MonoNs>| request.engine_requests.iter().filter_map(instant).min();
    let deliver = request.phases.deliver.and_then(|ns| request.finished.0.checked_sub(ns)).map(MonoNs);
    let starts = [
        request.accepted,
        request.received,
        earliest(|engine| engine.queued),
        earliest(|engine| engine.scheduled),
        request.first_output,
        deliver,
    ];
    totals::named(&request.phases)
        .into_iter()
        .zip(starts)
        .map(|((name, ns), start)| Some(Phase { name, start: start?, end: MonoNs(start?.0.saturating_add(ns?)) }))
}

fn child(finished: &Finished, nth: usize, phase: &Phase) -> Span {
    let mut attributes = Attributes::default();
    attributes.put("tachograph.phase", phase.name);
    Span {
        trace_id: finished.trace.trace_id.to_vec(),
        span_id: child_id(finished.trace.span_id, nth as u64).to_vec(),
        parent_span_id: finished.trace.span_id.to_vec(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32,
        name: phase.name.to_owned(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: finished.anchor.unix_ns(phase.start),
        end_time_unix_nano: finished.anchor.unix_ns(phase.end),
        attributes: attributes.0,
        ..Span::default()
    }
}

/// The id of a request's nth child: its own random id, mixed, so that a span can be rendered again and is
/// the same (the finalizer of SplitMix64 maps no two ids to one).
fn child_id(span_id: [u8; 8], nth: u64) -> [u8; 8] {
    let mut mixed = u64::from_be_bytes(span_id).wrapping_add((nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1).to_be_bytes()
}

fn attributes(finished: &Finished, calls: Calls) -> Attributes {
    let mut out = Attributes::default();
    conventional(&finished.request, &mut out);
    let usage = if calls.counts(finished) { "gen_ai.usage" } else { "tachograph.usage" };
    tokens(&finished.request, usage, &mut out);
    if calls.include(finished) {
        llm::attributes(finished, &mut out);
    }
    own(&finished.request, &mut out);
    around(finished, &mut out);
    out.place(&finished.place);
    if let Some(content) = &finished.content {
        content::attributes(content, &finished.request.finish_reasons, &mut out);
    }
    out
}

/// Names of the semantic conventions, and those of the engines' own tracing (`gen_ai.latency.*`).
fn conventional(request: &Request, out: &mut Attributes) {
    let params = &request.params;
    out.put("gen_ai.operation.name", labels::operation(request.operation));
    out.put("gen_ai.provider.name", request.kind.name());
    out.put("gen_ai.conversation.id", request.session.as_ref());
    out.put("gen_ai.request.model", request.model.as_ref());
    out.put("gen_ai.request.stream", request.stream);
    out.put("gen_ai.request.temperature", params.temperature);
    out.put("gen_ai.request.top_p", params.top_p);
    out.put("gen_ai.request.top_k", params.top_k);
    out.put("gen_ai.request.seed", params.seed);
    out.put("gen_ai.request.max_tokens", params.max_tokens);
    out.put("gen_ai.request.choice.count", params.n.filter(|n| *n != 1));
    out.put("gen_ai.request.presence_penalty", params.presence_penalty);
    out.put("gen_ai.request.frequency_penalty", params.frequency_penalty);
    out.put("gen_ai.response.id", request.response_id.as_ref());
    out.put("gen_ai.response.model", request.response_model.as_ref());
    out.list("gen_ai.response.finish_reasons", &request.finish_reasons);
    out.put("gen_ai.response.time_to_first_chunk", request.ttft_ns().map(seconds));
    out.put("gen_ai.latency.time_to_first_token", request.ttft_ns().map(seconds));
    out.put("gen_ai.latency.e2e", request.duration_ns().map(seconds));
    out.put("gen_ai.latency.time_in_queue", request.phases.queue.map(seconds));
    out.put("gen_ai.latency.time_in_model_prefill", request.phases.prefill.map(seconds));
    out.put("gen_ai.latency.time_in_model_decode", request.phases.decode.map(seconds));
    out.put("http.request.method", request.method.as_ref());
    out.put("http.route", request.operation.and_then(route));
    out.put("url.path", request.path.as_ref());
    out.put("http.response.status_code", request.status);
    out.put("error.type", request.error_type.as_ref());
    out.put("user.id", request.user.as_ref());
    out.put("process.pid", request.pid.0);
}

/// The tokens of a request, below `prefix`.
fn tokens(request: &Request, prefix: &str, out: &mut Attributes) {
    for (name, count) in [
        ("input_tokens", request.input_tokens),
        ("output_tokens", request.output_tokens),
        ("cache_read.input_tokens", request.cached_tokens),
        ("reasoning.output_tokens", request.reasoning_tokens),
    ] {
        out.put(&format!("{prefix}.{name}"), count);
    }
}

const fn route(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Chat => Some("/v1/chat/completions"),
        Operation::TextCompletion => Some("/v1/completions"),
        Operation::Responses => Some("/v1/responses"),
        Operation::Messages => Some("/v1/messages"),
        Operation::Embeddings => Some("/v1/embeddings"),
        // One operation, many paths; which of them is a template is not known.
        Operation::Pooling => None,
    }
}

/// Energy counters, shared by the tokens of each engine step.
const ENERGY_METHOD: &str = "counter_by_step_tokens";

/// What no convention has a name for.
fn own(request: &Request, out: &mut Attributes) {
    out.put("tachograph.serial", request.serial);
    out.put("tachograph.engine.pid", request.engine.map(|engine| engine.0.pid.0));
    out.put("tachograph.x_request_id", request.x_request_id.as_ref());
    out.put("tachograph.join", word(&request.join));
    out.list("tachograph.incomplete", request.incomplete.iter().filter_map(word));
    out.list("tachograph.engine.request_ids", request.engine_requests.iter().map(|engine| &engine.id));
    out.put("tachograph.request.repetition_penalty", request.params.repetition_penalty);
    out.put("tachograph.cached_share", request.cached_share());
    out.put("tachograph.engine_tokens", request.engine_tokens);
    out.put("tachograph.output_tokens_estimated", request.output_tokens_estimated);
    out.put("tachograph.time_per_output_token", request.tpot_seconds);
    let since = |instant: Option<MonoNs>| Some(seconds(instant?.since(request.accepted?)?));
    out.put("tachograph.time_to_first_byte", since(request.first_byte));
    out.put("tachograph.time_to_first_output", since(request.first_output));
    if let Some(itl) = &request.itl {
        out.put("tachograph.itl.count", itl.count);
        out.put("tachograph.itl.sum", seconds(itl.sum_ns));
        out.put("tachograph.itl.max", seconds(itl.max_ns));
    }
    out.put("tachograph.blocked", seconds(request.blocked_ns));
    out.put("tachograph.preemptions", request.preemptions);
    for (name, load) in [
        ("queued", request.engine_at.queued),
        ("first_token", request.engine_at.first_token),
        ("finish", request.engine_at.finish),
    ] {
        if let Some(Load { running, waiting, kv_usage }) = load {
            out.put(&format!("tachograph.engine_at.{name}.running"), running);
            out.put(&format!("tachograph.engine_at.{name}.waiting"), waiting);
            out.put(&format!("tachograph.engine_at.{name}.kv_usage"), kv_usage);
        }
    }
}

/// Its verdict, and what the side lines knew of it. Lists run over the GPUs that served it in one order, and only those
/// that every one of them tells are given.
fn around(finished: &Finished, out: &mut Attributes) {
    if let Some(verdict) = &finished.verdict {
        out.list("tachograph.slo.missed", verdict.missed.iter().filter_map(word));
        if let Some(Explained { cause, excess_ns }) = verdict.explained {
            out.put("tachograph.cause", cause.name());
            out.put("tachograph.cause.excess", seconds(excess_ns));
        }
    }
    let gpus = &finished.gpus;
    out.list("tachograph.gpu.ids", gpus.iter().map(|gpu| &gpu.uuid));
    if !gpus.is_empty() {
        out.put("tachograph.gpu.by", word(&finished.gpus_by));
    }
    if let Some(used) = gpus.iter().map(|gpu| gpu.memory_used_bytes).collect::<Option<Vec<u64>>>() {
        out.list("tachograph.gpu.memory_usage", used);
    }
    let mut means = |name: &str, mean: fn(&During) -> Option<f64>| {
        if let Some(means) = gpus.iter().map(mean).collect::<Option<Vec<f64>>>() {
            out.list(name, means);
        }
    };
    means("tachograph.gpu.utilization", |gpu| gpu.utilization);
    means("tachograph.gpu.power", |gpu| gpu.power_watts);
    means("tachograph.gpu.sm_clock", |gpu| gpu.sm_clock_hertz);
    let mut throttled: BTreeMap<&str, f64> = BTreeMap::new();
    for (reason, seconds) in gpus.iter().flat_map(|gpu| &gpu.throttled_seconds) {
        let longest = throttled.entry(reason).or_default();
        *longest = longest.max(*seconds);
    }
    for (reason, seconds) in throttled {
        out.put(&format!("tachograph.gpu.throttled.{reason}"), seconds);
    }
    if let Some(used) = &finished.used {
        out.put("tachograph.used.engine_time", used.core_seconds);
        out.put("tachograph.used.gpu_time", used.part.device_seconds);
        if let Some(joules) = used.part.joules {
            out.put("tachograph.used.energy", joules);
            out.put("tachograph.used.energy.uncertain", used.uncertain_joules);
            out.put("tachograph.used.energy.method", ENERGY_METHOD);
        }
        out.put("tachograph.used.cost_dollars", used.part.dollars);
    }
    out.put("tachograph.token_dollars", finished.token_dollars);
    if let Some(split) = &finished.split {
        out.put("tachograph.disaggregated.role", split.half.name());
        out.put("tachograph.disaggregated.remote_engine_id", split.transfer.remote_engine.as_ref());
        out.put("tachograph.disaggregated.remote_request_id", split.transfer.remote_request.as_ref());
        out.put("tachograph.disaggregated.transfer_id", split.transfer.id.as_ref());
        out.put("tachograph.disaggregated.handover", split.handover_ns.map(seconds));
        out.put("tachograph.disaggregated.duration", split.duration_ns.map(seconds));
    }
    if let Some(engine) = &finished.engine_sample {
        out.put("tachograph.engine.scraped.running", engine.running);
        out.put("tachograph.engine.scraped.waiting", engine.waiting);
        out.put("tachograph.engine.scraped.kv_usage", engine.kv_usage);
    }
    if let Some(facts) = &finished.engine_facts {
        served(&finished.request, facts, out);
    }
}

/// What served the request: an adapter where the model asked for is one, else the model itself.
fn served(request: &Request, facts: &Facts, out: &mut Attributes) {
    out.put("tachograph.engine.version", facts.version.as_ref());
    let Some(model) = request.model.as_ref().and_then(|model| facts.model(model)) else { return };
    if let Some(parent) = &model.parent {
        out.put("tachograph.model.lora_adapter", model.id.as_str());
        out.put("tachograph.model.name", parent.as_str());
        out.put("tachograph.model.root", facts.model(parent).and_then(|base| base.root.as_ref()));
    } else {
        out.put("tachograph.model.name", model.id.as_str());
        out.put("tachograph.model.root", model.root.as_ref());
    }
}

/// The name that a unit variant has in JSON.
fn word(variant: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(variant).ok()?.as_str().map(str::to_owned)
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
    use opentelemetry_proto::tonic::common::v1::any_value;
    use std::fmt::Write as _;
    use std::sync::Arc;

    fn finished(request: Request) -> Arc<Finished> {
        busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0)
    }

    #[test]
    fn the_half_that_ends_last_links_to_the_other() {
        let correlator = busy();
        let server =
            |half| server(&correlator.update(Update::Ended(Box::new(half)), ANCHOR).remove(0), Calls::default());
        let [prefill, decode] = crate::correlate::split::sample::halves().map(server);
        assert_eq!(prefill.links, []);
        let linked: Vec<_> = decode.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
        assert_eq!(linked, [(&prefill.trace_id, &prefill.span_id)]);
        for (span, expected) in [(&prefill, "prefill"), (&decode, "decode")] {
            let role = span.attributes.iter().find(|it| it.key == "tachograph.disaggregated.role");
            let role = role.and_then(|it| it.value.as_ref()?.value.as_ref());
            assert_eq!(role, Some(&any_value::Value::StringValue(expected.to_owned())));
        }
    }

    #[expect(clippy::use_debug, reason = "the golden shows values with their types")]
    fn render(spans: &[Span]) -> String {
        let mut out = String::new();
        for span in spans {
            let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            writeln!(
                out,
                "{} kind={} trace={} span={} parent={} flags={:#x} {} -> {} status={:?}",
                span.name,
                span.kind,
                hex(&span.trace_id),
                hex(&span.span_id),
                hex(&span.parent_span_id),
                span.flags,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.as_ref().map(|status| (status.code, status.message.as_str())),
            )
            .unwrap();
            for attribute in &span.attributes {
                let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
                writeln!(out, "  {} = {:?}", attribute.key, value.unwrap()).unwrap();
            }
        }
        out
    }

    #[test]
    fn spans_of_two_requests() {
        let all: Vec<Span> = [streamed(1), refused(2)]
            .into_iter()
            .flat_map(|r| spans(&finished(r), Calls::default()).collect::<Vec<_>>())
            .collect();
        golden::check("spans.txt", &render(&all));
    }

    #[test]
    fn children_tile_their_parent_and_are_as_many_as_announced() {
        let finished = finished(streamed(1));
        let all: Vec<Span> = spans(&finished, Calls::default()).collect();
        assert_eq!(all.len() as u64, count(&finished));
        let (server, children) = all.split_first().unwrap();
        let mut at = server.start_time_unix_nano;
        for child in children {
            assert_eq!(child.start_time_unix_nano, at, "{} begins where its neighbour ends", child.name);
            at = child.end_time_unix_nano;
            assert!(child.attributes.iter().all(|attribute| !attribute.key.starts_with("gen_ai.")));
        }
        assert_eq!(at, server.end_time_unix_nano);
        let ids: std::collections::BTreeSet<&[u8]> = all.iter().map(|span| span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn what_is_unknown_has_no_attribute_and_no_span() {
        let bare = Request { accepted: None, received: None, ..refused(1) };
        let all: Vec<Span> = spans(&finished(bare), Calls::default()).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].start_time_unix_nano, all[0].end_time_unix_nano);
        let keys: Vec<&str> = all[0].attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert!(!keys.contains(&"gen_ai.latency.e2e") && !keys.contains(&"gen_ai.usage.output_tokens"));
    }
}
