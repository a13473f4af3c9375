//! A finished request in; the attributes that viewers of LLM calls read (`OpenInference`, Langfuse) out.
//!
//! Such viewers add up tokens and cost over a trace. Where the caller's own span is in the trace it may tell them too,
//! so by default these attributes and the usage of the conventions are given to requests without a caller only.

use crate::correlate::Finished;
use crate::correlate::Operation;
use crate::correlate::Params;
use crate::correlate::Request;
use crate::export::otlp::attribute::Attributes;
use serde_json::Map;
use serde_json::json;

/// Which spans are LLM calls to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    /// Those of requests that name no caller's span.
    #[default]
    Roots,
    /// All.
    All,
    /// None.
    None,
}

impl Calls {
    /// Whether this request's span is one.
    pub fn include(self, finished: &Finished) -> bool {
        match self {
            Self::Roots => finished.trace.parent_span_id.is_none(),
            Self::All => true,
            Self::None => false,
        }
    }

    /// Whether this request's span may tell the tokens by the names that viewers add up.
    pub fn counts(self, finished: &Finished) -> bool {
        self == Self::All || finished.trace.parent_span_id.is_none()
    }
}

/// The attributes of one.
pub fn attributes(finished: &Finished, out: &mut Attributes) {
    let request = &finished.request;
    let kind = match request.operation {
        Some(Operation::Embeddings) => "EMBEDDING",
        Some(Operation::Pooling) => "RERANKER",
        _ => "LLM",
    };
    out.put("openinference.span.kind", kind);
    out.put("llm.system", request.kind.name());
    out.put("llm.provider", request.kind.name());
    out.put("llm.model_name", request.response_model.as_ref().or(request.model.as_ref()));
    out.put("llm.invocation_parameters", parameters(request));
    out.put("llm.token_count.prompt", request.input_tokens);
    out.put("llm.token_count.completion", request.output_tokens);
    out.put(
        "llm.token_count.total",
        request.input_tokens.zip(request.output_tokens).map(|(input, output)| input + output),
    );
    out.put("llm.token_count.prompt_details.cache_read", request.cached_tokens);
    out.put("llm.token_count.completion_details.reasoning", request.reasoning_tokens);
    let dollars = finished.used.as_ref().and_then(|used| used.part.dollars).or(finished.token_dollars);
    out.put("llm.cost.total", dollars);
    out.put("gen_ai.usage.cost", dollars);
    out.put("session.id", request.session.as_ref());
    let first = request.first_content.and_then(|at| written(finished.anchor.unix_ns(at)));
    out.put("langfuse.observation.completion_start_time", first);
}

/// The request's settings as one JSON object; those that were not sent are left out.
fn parameters(request: &Request) -> Option<String> {
    let Params { temperature, top_p, top_k, seed, max_tokens, n, presence_penalty, frequency_penalty, .. } =
        request.params;
    let all = [
        ("temperature", json!(temperature)),
        ("top_p", json!(top_p)),
        ("top_k", json!(top_k)),
        ("seed", json!(seed)),
        ("max_tokens", json!(max_tokens)),
        ("n", json!(n)),
        ("presence_penalty", json!(presence_penalty)),
        ("frequency_penalty", json!(frequency_penalty)),
        ("stream", json!(request.stream)),
    ];
    let sent: Map<_, _> =
        all.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect();
    (!sent.is_empty()).then(|| json!(sent).to_string())
}

/// An instant as ISO 8601 has it.
fn written(unix_ns: u64) -> Option<String> {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).ok().map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::Trace;
    use crate::correlate::Update;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::streamed;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn finished(parent: bool) -> Finished {
        let finished = busy().update(Update::Ended(Box::new(streamed(1))), ANCHOR).remove(0);
        let trace = Trace { parent_span_id: parent.then_some([7; 8]), ..finished.trace.clone() };
        Finished { trace, ..Finished::clone(&finished) }
    }

    #[test]
    fn a_call_is_told_once() {
        for (calls, parent, include, counts) in [
            (Calls::Roots, false, true, true),
            (Calls::Roots, true, false, false),
            (Calls::All, true, true, true),
            (Calls::None, false, false, true),
            (Calls::None, true, false, false),
        ] {
            let finished = finished(parent);
            assert_eq!((calls.include(&finished), calls.counts(&finished)), (include, counts), "{calls:?} {parent}");
        }
    }

    #[test]
    fn viewers_find_what_they_look_for() {
        let mut out = Attributes::default();
        attributes(&finished(false), &mut out);
        let text = |key: &str| {
            let found = out.0.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
            Some(match found {
                Value::StringValue(text) => text,
                Value::IntValue(number) => number.to_string(),
                other => format!("{other:?}"),
            })
        };
        for (key, expected) in [
            ("openinference.span.kind", "LLM"),
            ("llm.model_name", "tiny"),
            ("llm.token_count.prompt", "12"),
            ("llm.token_count.total", "17"),
            ("llm.invocation_parameters", r#"{"max_tokens":5,"stream":true,"temperature":0.5}"#),
            ("langfuse.observation.completion_start_time", "2023-11-14T22:13:30.15Z"),
        ] {
            assert_eq!(text(key).as_deref(), Some(expected), "{key}");
        }
    }
}
