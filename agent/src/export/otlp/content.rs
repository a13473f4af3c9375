//! Captured content in, already redacted; what a log record and a span say of it out.

use crate::correlate::content::Content;
use crate::correlate::content::Part;
use crate::correlate::content::Side;
use crate::correlate::content::Turn;
use crate::export::otlp::attribute::Attributes;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The fields of a log record's body, in at most so many bytes: escapes may make texts several times as long.
pub fn fields(content: &Content, room: usize) -> Map<String, Value> {
    let mut most = [&content.prompt, &content.completion].into_iter().flatten().map(length).max().unwrap_or(0);
    let mut fields = written(content);
    while most > 0 && Value::Object(fields.clone()).to_string().len() > room {
        most /= 2;
        fields = written(&content.clone().shortened(most));
    }
    fields
}

/// The attributes of a span, as the conventions for generative AI shape them.
pub fn attributes(content: &Content, finish_reasons: &[String], out: &mut Attributes) {
    if let Some(prompt) = &content.prompt {
        let (apart, turns): (Vec<&Turn>, Vec<&Turn>) = prompt.turns.iter().partition(|turn| turn.apart);
        let messages = turns.into_iter().map(|turn| message(turn, "user"));
        out.put("gen_ai.input.messages", list(messages));
        out.put("gen_ai.system_instructions", list(apart.into_iter().flat_map(parts)));
    }
    if let Some(completion) = &content.completion {
        let mut turns: Vec<&Turn> = completion.turns.iter().collect();
        turns.sort_by_key(|turn| turn.number);
        let told = turns.len() == finish_reasons.len();
        let messages = turns.iter().enumerate().map(|(at, turn)| {
            let mut message = message(turn, "assistant");
            if let (Some(reason), Some(message)) = (finish_reasons.get(at).filter(|_| told), message.as_object_mut()) {
                message.insert("finish_reason".to_owned(), reason.as_str().into());
            }
            message
        });
        out.put("gen_ai.output.messages", list(messages));
    }
}

fn length(side: &Side) -> usize {
    side.turns.iter().flat_map(|turn| &turn.parts).map(|part| part.text().len()).sum()
}

fn written(content: &Content) -> Map<String, Value> {
    let Content { prompt, completion, redacted } = content;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if let Some(Side { turns, bytes, truncated }) = prompt {
        let mut turns: Vec<&Turn> = turns.iter().collect();
        turns.sort_by_key(|turn| !turn.apart);
        put("prompt", turns.into_iter().map(said).collect());
        put("prompt_bytes", json!(bytes));
        put("prompt_truncated", json!(truncated));
    }
    if let Some(Side { turns, bytes, truncated }) = completion {
        let mut turns: Vec<&Turn> = turns.iter().collect();
        turns.sort_by_key(|turn| turn.number);
        put("completion", turns.into_iter().map(choice).collect());
        put("completion_bytes", json!(bytes));
        put("completion_truncated", json!(truncated));
    }
    put("redacted", json!(redacted));
    fields
}

/// A message of a request, as a log has it.
fn said(turn: &Turn) -> Value {
    known([
        ("role", json!(turn.role)),
        ("content", told(turn)),
        ("reasoning", thought(turn)),
        ("tool_calls", calls(turn)),
    ])
}

/// A choice of an answer, as a log has it.
fn choice(turn: &Turn) -> Value {
    let index = json!(turn.number);
    known([("index", index), ("content", told(turn)), ("reasoning", thought(turn)), ("tool_calls", calls(turn))])
}

fn known<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What a turn says, a line for each part; of what was not captured, what it is.
fn told(turn: &Turn) -> Value {
    let texts = turn.parts.iter().filter_map(|part| match part {
        Part::Text(text) | Part::Refusal(text) => Some(text.clone()),
        Part::Left(what) => Some(placeholder(what)),
        Part::Reasoning(_) | Part::Call { .. } => None,
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { Value::Null } else { texts.join("\n").into() }
}

fn thought(turn: &Turn) -> Value {
    let texts =
        turn.parts.iter().filter_map(|part| if let Part::Reasoning(text) = part { Some(text.as_str()) } else { None });
    let texts: Vec<&str> = texts.collect();
    if texts.is_empty() { Value::Null } else { texts.join("\n").into() }
}

fn calls(turn: &Turn) -> Value {
    let calls = turn.parts.iter().filter_map(|part| match part {
        Part::Call { name, arguments } => Some(known([("name", json!(name)), ("arguments", json!(arguments))])),
        Part::Text(_) | Part::Refusal(_) | Part::Reasoning(_) | Part::Left(_) => None,
    });
    let calls: Vec<Value> = calls.collect();
    if calls.is_empty() { Value::Null } else { calls.into() }
}

/// Stands for what was not captured.
fn placeholder(what: &str) -> String {
    format!("[{what}]")
}

fn list(items: impl Iterator<Item = Value>) -> Option<String> {
    let items: Vec<Value> = items.collect();
    (!items.is_empty()).then(|| Value::Array(items).to_string())
}

fn message(turn: &Turn, unsaid: &str) -> Value {
    json!({ "role": turn.role.as_deref().unwrap_or(unsaid), "parts": parts(turn).collect::<Vec<Value>>() })
}

fn parts(turn: &Turn) -> impl Iterator<Item = Value> {
    turn.parts.iter().map(|part| match part {
        Part::Text(text) | Part::Refusal(text) => json!({ "type": "text", "content": text }),
        Part::Left(what) => json!({ "type": "text", "content": placeholder(what) }),
        Part::Reasoning(text) => json!({ "type": "reasoning", "content": text }),
        Part::Call { name, arguments } => {
            known([("type", json!("tool_call")), ("name", json!(name)), ("arguments", json!(arguments))])
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::Finished;
    use crate::correlate::Request;
    use crate::correlate::Update;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::content::conversation;
    use crate::correlate::sample::content::repeated;
    use crate::correlate::sample::streamed;
    use crate::export::otlp::llm::Calls;
    use crate::export::otlp::log;
    use crate::export::otlp::queue;
    use crate::export::otlp::span;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use std::sync::Arc;

    fn finished(content: Content) -> Arc<Finished> {
        let finish_reasons = vec!["tool_calls".to_owned(), "stop".to_owned()];
        let request = Request { finish_reasons, ..streamed(1) };
        let finished = busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0);
        Arc::new(Finished { content: Some(Box::new(content)), ..Finished::clone(&finished) })
    }

    fn line(finished: &Arc<Finished>) -> String {
        let record = log::record(&log::Entry::Request(Arc::clone(finished)));
        let Some(Any::StringValue(line)) = record.body.unwrap().value else { panic!("no text") };
        line
    }

    #[test]
    fn a_log_has_both_sides() {
        let body: Value = serde_json::from_str(&line(&finished(conversation(1_000)))).unwrap();
        assert_eq!(
            body["prompt"],
            json!([
                { "role": "system", "content": "be kind" },
                { "role": "user", "content": "look, [redacted]\n[image_url]" },
                { "content": "a prompt" },
            ])
        );
        assert_eq!(
            body["completion"],
            json!([
                { "index": 0, "content": "first", "reasoning": "hm", "tool_calls": [{ "name": "f", "arguments": "{}" }] },
                { "index": 1, "content": "second" },
            ])
        );
        assert_eq!((&body["prompt_bytes"], &body["completion_bytes"]), (&json!(28), &json!(15)));
        assert_eq!((&body["prompt_truncated"], &body["completion_truncated"]), (&json!(false), &json!(false)));
        assert_eq!((&body["redacted"], body["msg"].as_str().unwrap().contains("look")), (&json!(1), false));
    }

    #[test]
    fn a_span_has_both_sides_as_the_conventions_shape_them() {
        let server = span::spans(&finished(conversation(1_000)), Calls::default()).next().unwrap();
        let attribute = |name: &str| {
            let found = server.attributes.iter().find(|attribute| attribute.key == name).unwrap();
            let Some(Any::StringValue(text)) = found.value.clone().unwrap().value else { panic!("no text") };
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let text = |content: &str| json!({ "type": "text", "content": content });
        assert_eq!(
            attribute("gen_ai.input.messages"),
            json!([
                { "role": "user", "parts": [text("look, [redacted]"), text("[image_url]")] },
                { "role": "user", "parts": [text("a prompt")] },
            ])
        );
        assert_eq!(attribute("gen_ai.system_instructions"), json!([text("be kind")]));
        let (reasoning, call) = (
            json!({ "type": "reasoning", "content": "hm" }),
            json!({ "type": "tool_call", "name": "f", "arguments": "{}" }),
        );
        assert_eq!(
            attribute("gen_ai.output.messages"),
            json!([
                { "role": "assistant", "parts": [reasoning, text("first"), call], "finish_reason": "tool_calls" },
                { "role": "assistant", "parts": [text("second")], "finish_reason": "stop" },
            ])
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let content = conversation(9);
        let body: Value = serde_json::from_str(&line(&finished(content))).unwrap();
        assert_eq!(body["prompt"][1]["content"], "look, [re\n[image_url]");
        assert_eq!((&body["prompt_bytes"], &body["prompt_truncated"]), (&json!(28), &json!(true)));
        assert_eq!((&body["completion_bytes"], &body["completion_truncated"]), (&json!(15), &json!(true)));
        let fields = written(&Content { prompt: None, completion: None, redacted: 0 });
        assert_eq!(Value::Object(fields), json!({ "redacted": 0 }), "what was not read has no key");
    }

    /// Escapes make a text up to six times as long, and a store refuses a line that is too long as a whole.
    #[test]
    fn no_line_is_too_long() {
        for text in ["\u{1}", "\"", "é", "\n", "a"] {
            let line = line(&finished(repeated(text)));
            assert!(line.len() <= 250_000 && line.len() > 100_000, "{text:?}: {}", line.len());
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["prompt_truncated"], true);
        }
    }

    #[test]
    fn a_queue_counts_it() {
        let with = finished(conversation(1_000));
        let without = Finished { content: None, ..Finished::clone(&with) };
        let texts = "look, [redacted]a promptbe kindsecondhmfirst{}".len();
        assert!(queue::weight(&with) >= queue::weight(&without) + texts);
    }
}
