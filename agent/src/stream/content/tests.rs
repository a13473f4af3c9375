//! Whole exchanges in; what is asked and answered in words, however the bytes were cut.

use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::Pid;
use crate::ring::Event;
use crate::ring::Way;
use crate::stream::Message;
use crate::stream::content::Capture;
use crate::stream::content::Kind;
use crate::stream::content::LONGEST;
use crate::stream::content::PARTS;
use crate::stream::content::ROOM;
use crate::stream::content::Said;
use crate::stream::http::Config;
use crate::stream::http::Http;
use crate::vitals::Vitals;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

const CONN: Conn = Conn { pid: Pid(7), fd: 9, opened_ns: 1 };

/// What an exchange says, as the bytes come in these pieces.
fn heard(content: Option<&Capture>, pieces: &[(Way, &[u8])]) -> Vec<Message> {
    let mut http = Http::new(Config { content: content.cloned(), ..Config::default() });
    let (vitals, mut out) = (Vitals::default(), Vec::new());
    http.push(&Event::Opened { conn: CONN, at: MonoNs(1) }, &vitals, &mut out);
    for (at, (way, bytes)) in (2..).zip(pieces) {
        http.push(&Event::Data { conn: CONN, way: *way, at: MonoNs(at), bytes, missing: 0 }, &vitals, &mut out);
    }
    out
}

/// Both sides, the pieces of the answer put together.
fn sides(content: &Capture, pieces: &[(Way, &[u8])]) -> [Said; 2] {
    let [mut asked, mut answered] = [content.side(), content.side()];
    for message in heard(Some(content), pieces) {
        let (side, said) = match message {
            Message::Received { body, .. } => (&mut asked, body.said),
            Message::Said { chunk, .. } => (&mut answered, chunk.said),
            _ => continue,
        };
        if let Some(said) = said {
            side.merge(&said, |turn, part| (turn.number, part.kind, part.number));
        }
    }
    [asked, answered]
}

/// `role 0: text; thinks "…"`, a line for each turn.
fn words(said: &Said) -> Vec<String> {
    let turns = said.turns().iter().map(|turn| {
        let parts = turn.parts.iter().map(|part| {
            let text = part.text.kept.get(..part.text.shown).unwrap();
            match part.kind {
                Kind::Text => text.to_owned(),
                Kind::Reasoning => format!("<thinks {text}>"),
                Kind::Refusal => format!("<refuses {text}>"),
                Kind::Call => format!("<calls {}({text})>", part.name.as_deref().unwrap_or("?")),
                Kind::Left => format!("<{text}>"),
            }
        });
        let who = turn.role.clone().unwrap_or_else(|| "-".to_owned());
        format!("{who}{}: {}", if turn.apart { " apart" } else { "" }, parts.collect::<Vec<_>>().join("|"))
    });
    turns.collect()
}

fn ask(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn whole(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

fn stream(events: &[&str]) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for event in events {
        let event = format!("data: {}\n\n", event.lines().map(str::trim).collect::<String>());
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// What is asked, however the request is cut.
fn asked(path: &str, body: &str) -> Vec<String> {
    let (bytes, capture) = (ask(path, body), Capture::new(1_000));
    let at_once = sides(&capture, &[(Way::In, &bytes)])[0].clone();
    for cut in 1..bytes.len() {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(sides(&capture, &[(Way::In, left), (Way::In, right)])[0], at_once, "{body} cut at {cut}");
    }
    words(&at_once)
}

/// What is answered, however the response is cut.
fn answered(path: &str, reply: &[u8]) -> Vec<String> {
    let (ask, capture) = (ask(path, "{}"), Capture::new(1_000));
    let at_once = sides(&capture, &[(Way::In, &ask), (Way::Out, reply)])[1].clone();
    for cut in 1..reply.len() {
        let (left, right) = reply.split_at(cut);
        let cut_up = sides(&capture, &[(Way::In, &ask), (Way::Out, left), (Way::Out, right)]);
        assert_eq!(cut_up[1], at_once, "{} cut at {cut}", String::from_utf8_lossy(reply));
    }
    words(&at_once)
}

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

#[test]
fn what_is_asked() {
    for (path, body, expected) in [
        (
            CHAT,
            r#"{"messages":[{"role":"system","content":"be \"kind\"\n"},{"content":"h\u00e9 \ud83d\ude00","role":"user"}]}"#,
            vec!["system: be \"kind\"\n", "user: hé 😀"],
        ),
        (
            CHAT,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
            {"input_audio":{"data":"BBBB"},"type":"input_audio"},{"type":"text","text":""}]}]}"#,
            vec!["user: what is it?|<image_url>|<input_audio>|"],
        ),
        (
            CHAT,
            r#"{"messages":[{"role":"assistant","content":null,"reasoning":"hm","tool_calls":[
            {"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
            {"function":{"arguments":"{}","name":"g"}}]},{"role":"tool","tool_call_id":"1","content":"7"}]}"#,
            vec!["assistant: <thinks hm>|<calls f({\"a\":1})>|<calls g({})>", "tool: 7"],
        ),
        (TEXT, r#"{"prompt":"once"}"#, vec!["-: once"]),
        (TEXT, r#"{"prompt":["one","two"],"suffix":"no"}"#, vec!["-: one", "-: two"]),
        (TEXT, r#"{"prompt":[5,6,7]}"#, vec!["-: <3 token ids>"]),
        (TEXT, r#"{"prompt":[[5,6],[7]]}"#, vec!["-: <2 token ids>", "-: <1 token ids>"]),
        ("/v1/embeddings", r#"{"input":["a","b"]}"#, vec!["-: a", "-: b"]),
        (RESPONSES, r#"{"instructions":"short","input":"hi"}"#, vec!["system apart: short", "-: hi"]),
        (
            RESPONSES,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"look"},
            {"type":"input_image","image_url":"data:x"}]},{"type":"function_call","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":"9"},{"type":"item_reference","id":"i"}]}"#,
            vec!["user: look|<input_image>", "-: <calls f({})>", "-: 9", "-: <item_reference>"],
        ),
        (
            MESSAGES,
            r#"{"system":[{"type":"text","text":"be"},{"type":"text","text":"good"}],"messages":[
            {"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"t"},
            {"type":"tool_use","name":"f","input":{"city":"Rome"}}]},
            {"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"sun"}]},
            {"type":"tool_result","content":"rain"},{"type":"image","source":{"data":"CCCC"}}]}]}"#,
            vec!["system apart: be|good", "user: a", "assistant: <thinks t>|<calls f()>", "user: sun|rain|<image>"],
        ),
        (CHAT, r#"{"model":"m","n":2}"#, vec![]),
        (CHAT, "no json", vec![]),
    ] {
        assert_eq!(asked(path, body), expected, "{body}");
    }
}

#[test]
fn what_is_answered_in_one_piece() {
    for (path, body, expected) in [
        (
            CHAT,
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"yes","reasoning_content":"so"}},
            {"message":{"content":"no"},"index":1}]}"#,
            vec!["-: yes|<thinks so>", "-: no"],
        ),
        (
            CHAT,
            r#"{"choices":[{"index":0,"message":{"content":null,"refusal":"never","audio":{"data":"AAAA"},"tool_calls":[
            {"function":{"name":"f","arguments":"{1}"}},{"function":{"name":"g","arguments":"{2}"}}]}}]}"#,
            vec!["-: <refuses never>|<audio>|<calls f({1})>|<calls g({2})>"],
        ),
        (TEXT, r#"{"choices":[{"index":0,"text":" a"},{"index":1,"text":" b"}]}"#, vec!["-:  a", "-:  b"]),
        (
            RESPONSES,
            r#"{"object":"response","output":[{"id":"r","summary":[],"type":"reasoning","content":[{"text":"hm"}]},
            {"content":[{"type":"output_text","text":"hello"}],"type":"message"},
            {"type":"function_call","name":"f","arguments":"{}"}],"status":"completed"}"#,
            vec!["-: <thinks hm>|hello|<calls f({})>"],
        ),
        (
            MESSAGES,
            r#"{"type":"message","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hello"},
            {"type":"tool_use","name":"f","input":{"a":"b"}}]}"#,
            vec!["-: <thinks hm>|hello|<calls f()>"],
        ),
        (CHAT, r#"{"error":{"message":"bad","type":"x"}}"#, vec![]),
    ] {
        assert_eq!(answered(path, &whole(body)), expected, "{body}");
    }
}

#[test]
fn what_is_answered_in_a_stream() {
    let chat: &[&str] = &[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"B\n"}}]}"#,
        r#"{"choices":[{"delta":{"content":"A\u00e9"},"index":0},{"index":1,"delta":{"content":"b\""}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning":"so","reasoning_content":"so"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"😀a"}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"function":{"name":"g","arguments":""},"index":1}]}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{"}},
            {"index":1,"function":{"arguments":"[2"}}]}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"]"}}]}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        "[DONE]",
    ];
    let responses: &[&str] = &[
        r#"{"response":{"id":"r","instructions":"no"},"type":"response.created"}"#,
        r#"{"delta":"hm","output_index":0,"type":"response.reasoning_text.delta"}"#,
        r#"{"content_index":0,"delta":"hel","output_index":1,"type":"response.output_text.delta"}"#,
        r#"{"content_index":0,"delta":"lo","output_index":1,"type":"response.output_text.delta"}"#,
        r#"{"text":"hello","output_index":1,"type":"response.output_text.done"}"#,
        r#"{"item":{"type":"function_call","name":"f","arguments":""},"output_index":2,"type":"response.output_item.added"}"#,
        r#"{"delta":"{","output_index":2,"type":"response.function_call_arguments.delta"}"#,
        r#"{"delta":"}","output_index":2,"type":"response.function_call_arguments.delta"}"#,
        r#"{"item":{"name":"f","arguments":"{}"},"output_index":2,"type":"response.output_item.done"}"#,
        r#"{"delta":"AAAA","output_index":3,"type":"response.audio.delta"}"#,
        r#"{"response":{"output":[{"content":[{"text":"hello"}]}]},"type":"response.completed"}"#,
    ];
    let messages: &[&str] = &[
        r#"{"type":"message_start","message":{"id":"m","content":[]}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"hel"}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"lo"},"index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    for (path, events, expected) in [
        (CHAT, chat, vec!["-: Aé😀a|<thinks so>", "-: B\nb\"|<calls g([2])>|<calls f({})>"]),
        (RESPONSES, responses, vec!["-: <thinks hm>|hello|<calls f({})>"]),
        (MESSAGES, messages, vec!["-: <thinks hm>|hello|<calls f({\"a\":1})>"]),
        (TEXT, &[r#"{"choices":[{"index":0,"text":"a"}]}"#, r#"{"choices":[{"index":0,"text":"b"}]}"#], vec!["-: ab"]),
    ] {
        let mut found = answered(path, &stream(events));
        found.sort();
        assert_eq!(found, expected, "{path}");
    }
}

/// Capture changes nothing of what is said beside, and without it there is no word.
#[test]
fn all_else_is_as_without() {
    let bodies = [
        (
            ask(CHAT, r#"{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true}"#),
            stream(&[
                r#"{"id":"i","choices":[{"index":2,"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
                r#"{"id":"i","choices":[{"index":2,"delta":{"content":"","reasoning":"x"}}]}"#,
                r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}"#,
                r#"{"type":"response.output_text.delta","delta":"a"}"#,
                r#"{"type":"response.output_text.done","delta":"a"}"#,
                "[DONE]",
            ]),
        ),
        (ask(TEXT, r#"{"prompt":["a","b"],"n":2}"#), whole(r#"{"choices":[{"text":"a"},{"text":""}]}"#)),
        (ask(TEXT, r#"{"prompt":[1,2]}"#), whole(r#"{"content":[{"thinking":"a"}],"stop_reason":"x"}"#)),
        (
            ask(RESPONSES, r#"{"input":["a"]}"#),
            whole(r#"{"object":"response","output":[{"name":"f"}],"status":"completed"}"#),
        ),
    ];
    for (ask, reply) in &bodies {
        let pieces: [(Way, &[u8]); 2] = [(Way::In, ask), (Way::Out, reply)];
        let (with, said) = without_words(heard(Some(&Capture::new(100)), &pieces));
        assert!(said > 0);
        assert_eq!(with, heard(None, &pieces), "{}", String::from_utf8_lossy(ask));
    }
}

/// The same messages without what is captured, and of how many something was.
fn without_words(mut messages: Vec<Message>) -> (Vec<Message>, usize) {
    let said = messages.iter_mut().filter_map(|message| match message {
        Message::Received { body, .. } => body.said.take(),
        Message::Said { chunk, .. } => chunk.said.take(),
        _ => None,
    });
    let said = said.count();
    (messages, said)
}

/// Damaged bytes are read as without capture, whatever the damage.
#[test]
fn damage_is_read_as_without() {
    let asks = [
        ask(
            CHAT,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image"}],"tool_calls":[{}]}]}"#,
        ),
        ask(TEXT, r#"{"prompt":[[1,2],[3]],"input":["a",{"content":"b","type":"c"}],"system":["d"]}"#),
    ];
    let reply = stream(&[
        r#"{"choices":[{"index":0,"delta":{"content":"a","tool_calls":[{"index":1,"function":{"name":"f"}}]}}]}"#,
        r#"{"type":"response.output_text.delta","delta":"a","output_index":1,"output":[{"type":"reasoning"}]}"#,
    ]);
    let (mut random, mut said) = (SmallRng::seed_from_u64(3), 0);
    for turn in 0..4_000 {
        let mut pieces = [asks[turn % 2].clone(), reply.clone()];
        for piece in &mut pieces {
            let (from, to) = (random.random_range(100..piece.len()), random.random_range(90..piece.len()));
            piece[to] = piece[from];
        }
        let pieces: [(Way, &[u8]); 2] = [(Way::In, &pieces[0]), (Way::Out, &pieces[1])];
        let (with, some) = without_words(heard(Some(&Capture::new(100)), &pieces));
        assert_eq!(with, heard(None, &pieces), "{pieces:?}");
        said += some;
    }
    assert!(said > 4_000, "{said}");
}

#[test]
fn a_side_shows_as_much_as_it_may_and_counts_the_rest() {
    let said = |max_bytes: usize, texts: &[&str]| {
        let mut side = Capture::new(max_bytes).side();
        for (turn, text) in texts.iter().enumerate() {
            side.add(u32::try_from(turn % 2).unwrap(), Kind::Text, 0, text, 0);
        }
        (words(&side).join(" "), side.bytes())
    };
    for (max_bytes, texts, shown, bytes) in [
        (4, vec!["abcd"], "-: abcd", 4),
        (4, vec!["abcde"], "-: abcd", 5),
        (3, vec!["aé"], "-: aé", 3),
        (2, vec!["aé"], "-: a", 3),
        (2, vec!["aé", "b"], "-: a -: ", 4),
        (4, vec!["ab", "c", "def", "g"], "-: abd -: c", 7),
        (5, vec!["ab", "c", "de", "f"], "-: abde -: c", 6),
        (4, vec!["ab", "c", "d", "", "e"], "-: abd -: c", 5),
        (1, vec!["", ""], "-:  -: ", 0),
    ] {
        assert_eq!(said(max_bytes, &texts), (shown.to_owned(), bytes), "{texts:?}");
    }
}

/// A secret across the end can be recognised, in one piece or several.
#[test]
fn a_little_more_is_kept_than_may_be_shown() {
    let long = "x".repeat(100_000);
    for piece in [1, 3, 1_000, 100_000] {
        let mut side = Capture::new(10).side();
        long.as_bytes().chunks(piece).for_each(|run| side.add(0, Kind::Text, 0, str::from_utf8(run).unwrap(), 0));
        side.add(1, Kind::Text, 0, "behind the end", 0);
        let [first, second] = side.turns() else { panic!("{side:?}") };
        let (first, second) = (&first.parts[0].text, &second.parts[0].text);
        assert_eq!((first.shown, first.kept.len(), first.bytes), (10, 10 + super::SLACK, 100_000), "{piece}");
        assert_eq!((second.shown, second.kept.as_str(), second.bytes), (0, "", 14));
    }
}

#[test]
fn a_string_of_any_length_is_counted_whole() {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{}é"}}]}}"#, "a".repeat(300_000));
    let bytes = ask(CHAT, &body);
    let pieces: Vec<(Way, &[u8])> = bytes.chunks(4_096).map(|piece| (Way::In, piece)).collect();
    for most in [5, LONGEST, LONGEST + 1] {
        let [asked, _] = sides(&Capture::new(most), &pieces);
        let text = &asked.turns()[0].parts[0].text;
        assert_eq!((text.shown, text.bytes), (most.min(LONGEST), 300_002));
    }
}

#[test]
fn nothing_grows_without_bound() {
    let capture = Capture::new(LONGEST);
    let mut many = capture.side();
    for turn in 0..100_000 {
        many.add(turn, Kind::Text, 0, "a", 0);
    }
    assert!(many.turns().len() <= PARTS && many.bytes() == 100_000);
    drop(many);
    let sides: Vec<Said> = (0..2 * ROOM / LONGEST)
        .map(|_| {
            let mut side = capture.side();
            side.add(0, Kind::Text, 0, &"a".repeat(LONGEST), 0);
            side
        })
        .collect();
    let kept: usize =
        sides.iter().flat_map(Said::turns).flat_map(|turn| &turn.parts).map(|part| part.text.kept.len()).sum();
    assert!(kept <= ROOM && kept > ROOM / 2, "{kept}");
    assert!(sides.iter().any(|side| side.share.refused), "and it is said");
    let copies = sides.clone();
    drop((sides, copies));
    assert_eq!(capture.held.load(std::sync::atomic::Ordering::Relaxed), 0, "all is given back");
}

/// Where the room ends, nothing is shown behind which a secret may have gone on.
#[test]
fn what_found_no_room_shows_no_torn_end() {
    let capture = Capture::new(LONGEST);
    let mut side = capture.side();
    side.add(0, Kind::Text, 0, &"a".repeat(10_000), 0);
    capture.held.fetch_add(ROOM, std::sync::atomic::Ordering::Relaxed);
    side.add(0, Kind::Text, 0, "b", 0);
    let text = &side.turns()[0].parts[0].text;
    assert_eq!((text.shown, text.kept.len(), text.bytes), (10_000 - super::SLACK, 10_000, 10_001));
}

#[test]
fn what_is_printed_shows_no_text() {
    let mut side = Capture::new(100).side();
    side.add(0, Kind::Text, 0, "secret", 0);
    assert_eq!(format!("{side:?}"), "Said { bytes: 6, .. }");
}
