//! What servers of this field really answer, and what it means.

use super::*;

fn read(text: &str) -> Option<Chunk> {
    let mut scan = ReplyScan::new(None);
    for piece in text.as_bytes().chunks(7) {
        scan.feed(piece);
    }
    let pieces = scan.finish();
    scan.feed(text.as_bytes());
    assert_eq!(scan.finish(), pieces, "a scan starts afresh after each document: {text}");
    pieces
}

fn content(text: &str) -> Vec<u32> {
    read(text).unwrap().content
}

#[test]
fn a_chat_chunk() {
    let chunk = read(
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[
        {"delta":{"content":" a"},"logprobs":null,"finish_reason":null,"index":1},
        {"index":0,"delta":{},"finish_reason":"length"}],"usage":null}"#,
    );
    let expected = Chunk {
        id: Some("chatcmpl-1".into()),
        model: Some("tiny".into()),
        content: vec![1],
        finish: vec![(0, "length".into())],
        ..Chunk::default()
    };
    assert_eq!(chunk, Some(expected));
}

#[test]
fn only_something_said_is_content() {
    for (delta, filled) in [
        (r#"{"role":"assistant","content":""}"#, false),
        (r#"{"content":null,"reasoning":null}"#, false),
        ("{}", false),
        (r#"{"content":"\u00e9"}"#, true),
        (r#"{"content":" "}"#, true),
        // A tokenizer cut through characters: the replacement character is text, torn by our own cap or not.
        ("{\"content\":\"\u{fffd}\u{fffd}\"}", true),
        ("{\"content\":\"a\u{1f600}\"}", true),
        (r#"{"reasoning":"hm"}"#, true),
        (r#"{"reasoning_content":"hm"}"#, true),
        (r#"{"refusal":"no"}"#, true),
        (r#"{"content":[{"type":"text","text":"x"}]}"#, true),
        (
            r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}"#,
            true,
        ),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\""}}]}"#, true),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":""}}]}"#, false),
        (r#"{"tool_calls":[]}"#, false),
    ] {
        let expected = if filled { vec![3] } else { vec![] };
        assert_eq!(content(&format!(r#"{{"choices":[{{"delta":{delta},"index":3}}]}}"#)), expected, "{delta}");
        assert_eq!(content(&format!(r#"{{"choices":[{{"index":3,"message":{delta}}}]}}"#)), expected, "{delta}");
    }
    assert_eq!(content(r#"{"choices":[{"index":0,"text":"a"},{"index":1,"text":""},{"text":"c"}]}"#), [0, 2]);
}

#[test]
fn usage_in_every_dialect() {
    let usage = |input, output, cached, reasoning| Some(Usage { input, output, cached, reasoning });
    for (text, expected) in [
        (
            r#"{"usage":{"prompt_tokens":3,"total_tokens":8,"completion_tokens":5,"prompt_tokens_details":null}}"#,
            usage(Some(3), Some(5), None, None),
        ),
        (
            r#"{"usage":{"prompt_tokens":3,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":2},
            "completion_tokens_details":{"reasoning_tokens":4}}}"#,
            usage(Some(3), Some(0), Some(2), Some(4)),
        ),
        (
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"input_tokens_details":
            {"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":1}}}}"#,
            usage(Some(1), Some(2), Some(0), Some(1)),
        ),
        (
            r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"cache_read_input_tokens":8}}}"#,
            usage(Some(9), None, Some(8), None),
        ),
        (r#"{"usage":{}}"#, usage(None, None, None, None)),
        (r#"{"usage":null}"#, None),
        (r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#, None),
    ] {
        assert_eq!(read(text).unwrap().usage, expected, "{text}");
    }
}

#[test]
fn errors_have_a_kind() {
    for (text, expected) in [
        (
            r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
            Some("BadRequestError"),
        ),
        (r#"{"error":{"message":"m","type":"NotFoundError","param":"model","code":404}}"#, Some("NotFoundError")),
        (r#"{"error":{"message":"m","type":null,"code":429}}"#, Some("429")),
        (r#"{"error":{"message":"m"}}"#, Some("error")),
        (r#"{"error":"overloaded","error_type":"overloaded"}"#, Some("overloaded")),
        (r#"{"detail":"Not Found"}"#, Some("error")),
        (r#"{"detail":[{"type":"missing","loc":["body"]}]}"#, Some("error")),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, Some("overloaded_error")),
        (r#"{"type":"error","code":"server_error","message":"m"}"#, Some("server_error")),
        (r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, Some("server_error")),
        (r#"{"id":"r","object":"response","error":null,"status":"completed"}"#, None),
        (r#"{"choices":[{"delta":{"content":"error","error":{"type":"x"}}}]}"#, None),
    ] {
        assert_eq!(read(text).unwrap().error.as_deref(), expected, "{text}");
    }
}

#[test]
fn responses_events() {
    let created =
        read(r#"{"type":"response.created","response":{"id":"resp_1","model":"tiny","status":"in_progress"}}"#);
    let expected = Chunk { id: Some("resp_1".into()), model: Some("tiny".into()), ..Chunk::default() };
    assert_eq!(created, Some(expected));
    for kind in ["output_text", "reasoning_text", "function_call_arguments"] {
        assert_eq!(content(&format!(r#"{{"delta":"x","type":"response.{kind}.delta"}}"#)), [0]);
        assert_eq!(content(&format!(r#"{{"delta":"","type":"response.{kind}.delta"}}"#)), [0_u32; 0]);
        assert_eq!(content(&format!(r#"{{"text":"all","type":"response.{kind}.done"}}"#)), [0_u32; 0]);
    }
    let ended = read(
        r#"{"type":"response.incomplete","response":{"status":"incomplete","output":[{"content":[{"text":"x"}]}],
        "incomplete_details":{"reason":"max_output_tokens"}}}"#,
    )
    .unwrap();
    assert_eq!((ended.last, ended.content, ended.finish), (true, vec![], vec![(0, "max_output_tokens".into())]));
    let body = read(
        r#"{"id":"resp_2","object":"response","status":"completed","incomplete_details":null,
        "output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]}"#,
    )
    .unwrap();
    assert_eq!((body.last, body.content, body.finish), (false, vec![0], vec![(0, "completed".into())]));
}

#[test]
fn messages_events() {
    let start =
        read(r#"{"type":"message_start","message":{"id":"msg_1","model":"tiny","content":[],"stop_reason":null}}"#);
    assert_eq!(start.and_then(|chunk| chunk.id).as_deref(), Some("msg_1"));
    for (delta, filled) in [
        (r#"{"type":"text_delta","text":"a"}"#, true),
        (r#"{"type":"thinking_delta","thinking":"a"}"#, true),
        (r#"{"type":"input_json_delta","partial_json":"{"}"#, true),
        (r#"{"type":"input_json_delta","partial_json":""}"#, false),
        (r#"{"type":"signature_delta","signature":"abc"}"#, false),
    ] {
        let event = format!(r#"{{"type":"content_block_delta","index":1,"delta":{delta}}}"#);
        assert_eq!(content(&event).len(), usize::from(filled), "{delta}");
    }
    let delta = read(
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}"#,
    );
    let delta = delta.unwrap();
    assert_eq!((delta.finish, delta.usage.and_then(|usage| usage.output)), (vec![(0, "end_turn".into())], Some(7)));
    assert!(read(r#"{"type":"message_stop"}"#).unwrap().last);
    let body =
        read(r#"{"id":"msg_2","type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"max_tokens"}"#)
            .unwrap();
    assert_eq!((body.content, body.finish, body.error), (vec![0], vec![(0, "max_tokens".into())], None));
}

#[test]
fn end_marks_and_rubbish() {
    assert_eq!(read("[DONE]"), Some(Chunk { last: true, ..Chunk::default() }));
    for text in ["[DONE", "[DONE]x", "x[DONE]", "DONE", "", "{", "Internal Server Error", r#"{"id":"x"} {"#] {
        assert_eq!(read(text), None, "{text:?}");
    }
}
