//! Conversations in, what was said out: each also cut at every byte, damaged, and with gaps.

mod masked;
mod talks;

use super::*;
use crate::clock::MonoNs;
use crate::stream::Chunk;
use crate::stream::http::tests::talks::conversations;
use crate::stream::mask::HIDDEN;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::fmt::Write as _;

const CONN: Conn = Conn { pid: Pid(7), fd: 9, opened_ns: 1 };

/// One event of a conversation; the nth has the instant n.
#[derive(Debug, Clone)]
enum Do {
    Open,
    In(Vec<u8>),
    Out(Vec<u8>),
    InMissing(Vec<u8>, u32),
    OutMissing(Vec<u8>, u32),
    Blocked,
    Lost,
    Close(Close),
    Exit,
}

fn ask(bytes: impl AsRef<[u8]>) -> Do {
    Do::In(bytes.as_ref().to_vec())
}

fn say(bytes: impl AsRef<[u8]>) -> Do {
    Do::Out(bytes.as_ref().to_vec())
}

fn push(http: &mut Http, step: &Do, at: u64, cut: Option<usize>, vitals: &Vitals, out: &mut Vec<Message>) {
    let (conn, at) = (CONN, MonoNs(at));
    let mut data = |way, bytes: &[u8], missing| {
        let (left, right) = bytes.split_at(cut.unwrap_or(0).min(bytes.len()));
        if cut.is_some() {
            http.push(&Event::Data { conn, way, at, bytes: left, missing: 0 }, vitals, out);
        }
        http.push(&Event::Data { conn, way, at, bytes: right, missing }, vitals, out);
    };
    match step {
        Do::In(bytes) => data(Way::In, bytes, 0),
        Do::Out(bytes) => data(Way::Out, bytes, 0),
        Do::InMissing(bytes, missing) => data(Way::In, bytes, *missing),
        Do::OutMissing(bytes, missing) => data(Way::Out, bytes, *missing),
        Do::Open => http.push(&Event::Opened { conn, at }, vitals, out),
        Do::Blocked => http.push(&Event::Blocked { conn, at }, vitals, out),
        Do::Lost => http.push(&Event::Lost { conn, at, records: 1 }, vitals, out),
        Do::Close(how) => http.push(&Event::Closed { conn, at, how: *how }, vitals, out),
        Do::Exit => http.push(&Event::Process { pid: CONN.pid, at, change: ProcessChange::Exited }, vitals, out),
    }
}

fn play(steps: &[Do], cut: Option<(usize, usize)>) -> (Vec<Message>, Vitals) {
    let (mut http, vitals, mut out) = (Http::new(Config::default()), Vitals::default(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        let cut = cut.filter(|(at, _)| *at == index).map(|(_, byte)| byte);
        push(&mut http, step, index as u64, cut, &vitals, &mut out);
    }
    (out, vitals)
}

/// A message in one line: what, of which exchange, at which event.
fn line(message: &Message) -> String {
    match message {
        Message::Begun { exchange, at, head } => format!("begun {} @{} {:?}", exchange.number, at.0, head.operation),
        Message::Received { exchange, at, body } => {
            let model = body.model.as_deref().or(body.unread).unwrap_or("-");
            format!("received {} @{} {model} {}", exchange.number, at.0, body.bytes)
        }
        Message::Responded { exchange, at, head } => {
            format!(
                "responded {} @{} {}{}{}",
                exchange.number,
                at.0,
                head.status,
                if head.stream { " stream" } else { "" },
                if head.after_rubbish { " after rubbish" } else { "" }
            )
        }
        Message::Said { exchange, at, chunk } => format!("said {} @{}{}", exchange.number, at.0, said(chunk)),
        Message::Ended { exchange, at } => format!("ended {} @{}", exchange.number, at.0),
        Message::Broken { exchange, at, why } => format!("broken {} @{} {why:?}", exchange.number, at.0),
        Message::Blocked { exchange, at, ns } => format!("blocked {} @{} {ns}", exchange.number, at.0),
        Message::Lost { exchange, at } => format!("lost {} @{}", exchange.number, at.0),
        other => format!("{other:?}"),
    }
}

fn said(chunk: &Chunk) -> String {
    let mut text = String::new();
    if !chunk.content.is_empty() {
        let choices: Vec<String> = chunk.content.iter().map(u32::to_string).collect();
        write!(text, " content {}", choices.join(",")).unwrap();
    }
    for (choice, reason) in &chunk.finish {
        write!(text, " finish {choice} {reason}").unwrap();
    }
    if let Some(usage) = chunk.usage {
        write!(text, " usage {}/{}", usage.input.unwrap_or(0), usage.output.unwrap_or(0)).unwrap();
    }
    if let Some(error) = &chunk.error {
        write!(text, " error {error}").unwrap();
    }
    text + if chunk.last { " last" } else { "" }
}

fn lines(steps: &[Do]) -> Vec<String> {
    play(steps, None).0.iter().map(line).collect()
}

const BODY: &str = r#"{"messages":[{"role":"user","content":"hi \"model\":\"no\""}],"stream":true,"model":"tiny"}"#;
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: x\r\nserver: uvicorn\r\n\
    content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const ROLE: &str =
    r#"{"id":"chatcmpl-1","model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
const TOKEN: &str =
    r#"{"id":"chatcmpl-1","model":"tiny","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn chat() -> String {
    post("/v1/chat/completions", "", BODY)
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn event(json: &str) -> String {
    chunk(&format!("data: {json}\n\n"))
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

const END: &str = "0\r\n\r\n";
const ANSWER: &str = r#"{"id":"x","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"length"}],"usage":{"prompt_tokens":2,"completion_tokens":4}}"#;

#[test]
fn conversations_say_what_they_say() {
    for (name, steps, expected) in conversations() {
        assert_eq!(lines(&steps), expected, "{name}");
    }
}

#[test]
fn cuts_change_nothing() {
    for (name, steps, _) in conversations() {
        let (whole, _) = play(&steps, None);
        for (index, step) in steps.iter().enumerate() {
            let length = if let Do::In(bytes) | Do::Out(bytes) = step { bytes.len() } else { 0 };
            for byte in 1..length {
                assert_eq!(play(&steps, Some((index, byte))).0, whole, "{name}: event {index} cut at {byte}");
            }
        }
        let crumbs: Vec<Do> = steps.iter().flat_map(crumble).collect();
        let strip = |messages: &[Message]| -> Vec<String> {
            messages
                .iter()
                .map(line)
                .map(|line| line.split(' ').filter(|word| !word.starts_with('@')).collect())
                .collect()
        };
        assert_eq!(strip(&play(&crumbs, None).0), strip(&whole), "{name}: a call for each byte");
    }
}

fn crumble(step: &Do) -> Vec<Do> {
    match step {
        Do::In(bytes) => bytes.chunks(1).map(ask).collect(),
        Do::Out(bytes) => bytes.chunks(1).map(say).collect(),
        other => vec![other.clone()],
    }
}

#[test]
fn ends_before_the_end() {
    let begun = [Do::Open, ask(chat()), say(STREAM_HEAD), say(event(TOKEN))];
    for (last, expected) in [
        (Do::Close(Close::Peer), "broken 0 @4 ClientGone"),
        (Do::Close(Close::Error { errno: 104 }), "broken 0 @4 ClientGone"),
        (Do::Close(Close::Local), "broken 0 @4 ServerClosed"),
        (Do::Close(Close::Replaced), "broken 0 @4 ServerClosed"),
        (Do::Exit, "broken 0 @4 ProcessGone"),
        (say("no chunk at all"), "broken 0 @4 Protocol"),
    ] {
        let steps = [&begun[..], &[last.clone(), say(event(TOKEN)), ask("more")]].concat();
        assert_eq!(lines(&steps)[3..], ["said 0 @3 content 0", expected], "{last:?}");
    }
}

#[test]
fn waiting_requests_break_with_the_one_before_them() {
    let steps = [Do::Open, ask([chat(), chat()].concat()), Do::Close(Close::Peer)];
    assert_eq!(
        lines(&steps),
        [
            "begun 0 @1 Chat",
            "received 0 @1 tiny 91",
            "broken 0 @2 ClientGone",
            "begun 1 @1 Chat",
            "received 1 @1 tiny 91",
            "broken 1 @2 ClientGone"
        ]
    );
}

#[test]
fn a_slow_reader_is_timed() {
    let steps =
        [Do::Open, ask(chat()), say(STREAM_HEAD), Do::Blocked, Do::Blocked, say(event(TOKEN)), say(END), Do::Blocked];
    assert_eq!(lines(&steps)[3..], ["blocked 0 @5 2", "said 0 @5 content 0", "ended 0 @6"]);
    let steps = [Do::Open, ask(chat()), say(STREAM_HEAD), Do::Blocked, Do::Close(Close::Peer)];
    assert_eq!(lines(&steps)[3..], ["blocked 0 @4 1", "broken 0 @4 ClientGone"]);
}

/// Which counters a conversation moved: seen, plain, undecoded, upgraded, encoded.
fn counts(vitals: &Vitals) -> [u64; 5] {
    [&vitals.requests_seen, &vitals.http_plain, &vitals.http_undecoded, &vitals.http_upgraded, &vitals.http_encoded]
        .map(crate::vitals::Count::get)
}

#[test]
fn what_is_not_read_is_counted_once_and_never_misread() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000));
    let encoded = post("/v1/completions", "content-encoding: gzip\r\n", "x");
    for (first, answer, expected) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", [0, 0, 0, 1, 0]),
        ("GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", [0, 1, 0, 1, 0]),
        ("CONNECT h:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", [0, 0, 0, 1, 0]),
        ("\x16\x03\x01", "\x15\x03", [0, 0, 1, 0, 0]),
        ("SSH-2.0-OpenSSH\r\n", "", [0, 0, 1, 0, 0]),
        (&long, "", [0, 0, 1, 0, 0]),
    ] {
        let (messages, vitals) = play(&[Do::Open, ask(first), say(answer), ask(chat()), say(STREAM_HEAD)], None);
        assert_eq!((messages.len(), counts(&vitals)), (0, expected), "{first:.20}");
    }
    let (_, vitals) = play(&[Do::Open, ask(encoded), say(reply("200 OK", "content-encoding: br\r\n", "x"))], None);
    assert_eq!(counts(&vitals), [1, 0, 0, 0, 2]);
    let (_, vitals) = play(&[Do::Open, ask("POST /v1/ch"), Do::Close(Close::Peer)], None);
    assert_eq!(counts(&vitals), [0, 0, 1, 0, 0]);
    let (_, vitals) = play(&[Do::Open, Do::Close(Close::Peer)], None);
    assert_eq!(counts(&vitals), [0; 5]);
}

#[test]
fn requests_that_stop_making_sense_are_answered_all_the_same() {
    let broken = "POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    let good_then_rubbish = chat() + "\0\0";
    let refusal = || say(reply("400 Bad", "", "no"));
    for (asked, answers, expected) in [
        (broken, vec![refusal()], "ended 0 @2"),
        (&good_then_rubbish, vec![say(STREAM_HEAD), say(event(TOKEN)), say(END)], "ended 0 @4"),
        (&good_then_rubbish, vec![say(STREAM_HEAD), say(event(TOKEN)), refusal()], "broken 0 @4 Protocol"),
    ] {
        let after = [ask(chat()), say(STREAM_HEAD), refusal()];
        let (messages, vitals) = play(&[&[Do::Open, ask(asked)], &answers[..], &after].concat(), None);
        assert_eq!(messages.last().map(line).as_deref(), Some(expected), "{asked:?}");
        let answer = messages.iter().map(line).find(|line| line.starts_with("responded"));
        assert!(answer.is_some_and(|line| line.ends_with("after rubbish")), "{asked:?}");
        assert_eq!(counts(&vitals), [1, 0, 1, 0, 0], "{asked:?}");
    }
}

#[test]
fn a_connection_from_before_is_read_from_its_next_request() {
    let steps = [
        say(event(TOKEN)),
        ask("end of a body\"}"),
        say(STREAM_HEAD),
        ask(chat()),
        say(event(TOKEN)),
        say(STREAM_HEAD),
        say(END),
    ];
    let expected = ["begun 0 @3 Chat", "received 0 @3 tiny 91", "responded 0 @5 200 stream", "ended 0 @6"];
    assert_eq!(lines(&steps), expected);
}

#[test]
fn the_model_is_found_after_megabytes_that_look_like_it() {
    let filler =
        r#"{"role":"user","content":"\"model\":\"no\",\"stream\":true}, {\"model\":\"no\"\\"},"#.repeat(60_000);
    let body = format!(r#"{{"messages":[{filler}{{}}],"tools":[{{"model":"no"}}],"model":"yes"}}"#);
    let (mut http, vitals, mut out) = (Http::new(Config::default()), Vitals::default(), Vec::new());
    for piece in post("/v1/chat/completions", "", &body).as_bytes().chunks(65_536) {
        push(&mut http, &ask(piece), 1, None, &vitals, &mut out);
    }
    let said: Vec<String> = out.iter().map(line).collect();
    assert_eq!(said, ["begun 0 @1 Chat".to_owned(), format!("received 0 @1 yes {}", body.len())]);
}

#[test]
fn gaps_mark_what_they_hurt_and_reading_goes_on() {
    let next = [ask(chat()), say(reply("200 OK", "", "{}"))];
    let fine = ["begun 1 @8 Chat", "received 1 @8 tiny 91", "responded 1 @9 200", "said 1 @9", "ended 1 @9"];
    let start = [Do::Open, ask(chat()), say(STREAM_HEAD)];
    for (name, middle, expected) in [
        (
            "between two chunks",
            vec![say(event(ROLE)), Do::Lost, say(event(TOKEN)), say(event("[DONE]")), say(END)],
            vec!["said 0 @3", "lost 0 @4", "said 0 @5 content 0", "said 0 @6 last", "ended 0 @7"],
        ),
        (
            "inside a chunk",
            vec![Do::Lost, say("\"rest\":1}\n\n\r\n"), say(event(TOKEN)), say(END), say("")],
            vec!["lost 0 @3", "said 0 @5 content 0", "ended 0 @6"],
        ),
        (
            "the end mark is lost, the end is not",
            vec![say(event(TOKEN)), Do::Lost, say(format!("x\r\n{END}")), say(""), say("")],
            vec!["said 0 @3 content 0", "lost 0 @4", "ended 0 @5"],
        ),
        (
            "the end is lost after the end mark",
            vec![say(event("[DONE]")), say(""), say(""), say(""), Do::Lost],
            vec!["said 0 @3 last", "lost 0 @7", "ended 0 @6"],
        ),
        (
            "the end is lost; the next request shows it",
            vec![say(event(TOKEN)), Do::Lost, Do::Lost, Do::Lost, Do::Lost],
            vec!["said 0 @3 content 0", "lost 0 @4", "lost 0 @5", "lost 0 @6", "lost 0 @7", "ended 0 @3"],
        ),
        (
            "bytes inside a chunk that were not copied",
            vec![
                Do::OutMissing(b"64\r\ndata: {\"a\":1".to_vec(), 88),
                say("\r\n"),
                say(event(TOKEN)),
                say(END),
                say(""),
            ],
            vec!["lost 0 @3", "said 0 @5 content 0", "ended 0 @6"],
        ),
        (
            "bytes beyond a chunk that were not copied",
            vec![
                Do::OutMissing(b"64\r\ndata: {\"a\":1".to_vec(), 900),
                say("\r\n"),
                say(event(TOKEN)),
                say(END),
                say(""),
            ],
            vec!["lost 0 @3", "said 0 @5 content 0", "ended 0 @6"],
        ),
    ] {
        let steps = [&start[..], &middle, &next].concat();
        assert_eq!(lines(&steps)[3..], [&expected[..], &fine].concat(), "{name}");
    }
}

#[test]
fn known_missing_bytes_keep_the_framing() {
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 1000\r\n\r\n{\"model\":\"m\",";
    let steps = [
        Do::Open,
        Do::InMissing(head.into(), 900),
        ask("x".repeat(87)),
        Do::OutMissing(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_vec(), 499),
        ask(chat()),
    ];
    assert_eq!(
        lines(&steps),
        [
            "begun 0 @1 Chat",
            "lost 0 @1",
            "received 0 @2 truncated 1000",
            "responded 0 @3 200",
            "lost 0 @3",
            "ended 0 @3",
            "begun 1 @4 Chat",
            "received 1 @4 tiny 91"
        ]
    );
}

#[test]
fn a_torn_head_behind_an_open_exchange_leaves_both_marked() {
    let steps = [
        Do::Open,
        ask(chat()),
        say(STREAM_HEAD),
        Do::InMissing(b"POST /v1/chat".to_vec(), 500),
        ask(chat()),
        say(event(TOKEN)),
        say(END),
    ];
    let expected = ["lost 0 @4", "ended 0 @2", "begun 1 @4 Chat", "lost 1 @4", "received 1 @4 tiny 91", "ended 1 @6"];
    assert_eq!(lines(&steps)[3..], expected);
}

#[test]
fn a_lost_head_leaves_a_marked_exchange_without_status() {
    let steps = [Do::Open, ask(chat()), Do::Lost, say(event(TOKEN)), say(END), ask(chat()), say(STREAM_HEAD)];
    assert_eq!(
        lines(&steps),
        [
            "begun 0 @1 Chat",
            "received 0 @1 tiny 91",
            "lost 0 @2",
            "ended 0 @4",
            "begun 1 @5 Chat",
            "received 1 @5 tiny 91",
            "responded 1 @6 200 stream"
        ]
    );
}

#[test]
fn a_full_table_lets_the_idle_go_first() {
    let mut http = Http::new(Config { connections: 2, ..Config::default() });
    let (vitals, mut out) = (Vitals::default(), Vec::new());
    let conn = |fd| Conn { fd, ..CONN };
    let bytes = chat();
    for fd in 1..=4 {
        http.push(&Event::Opened { conn: conn(fd), at: MonoNs(1) }, &vitals, &mut out);
        if fd != 2 {
            let event =
                Event::Data { conn: conn(fd), way: Way::In, at: MonoNs(2), bytes: bytes.as_bytes(), missing: 0 };
            http.push(&event, &vitals, &mut out);
        }
    }
    let broken: Vec<String> = out.iter().map(line).filter(|line| line.starts_with("broken")).collect();
    assert_eq!((broken, vitals.evicted.get()), (vec!["broken 0 @1 Evicted".to_owned()], 2));
}

#[test]
fn a_descriptor_that_is_used_again_ends_its_former_connection() {
    let (mut http, vitals, mut out) = (Http::new(Config::default()), Vitals::default(), Vec::new());
    push(&mut http, &ask(chat()), 1, None, &vitals, &mut out);
    let late = Conn { opened_ns: 5, ..CONN };
    http.push(&Event::Opened { conn: late, at: MonoNs(5) }, &vitals, &mut out);
    push(&mut http, &ask(chat()), 6, None, &vitals, &mut out);
    let said: Vec<String> = out.iter().map(line).collect();
    assert_eq!(said, ["begun 0 @1 Chat", "received 0 @1 tiny 91", "broken 0 @5 ServerClosed"]);
}

/// Whatever happens to the bytes: no panic, and each exchange begins once, ends once, and says nothing outside.
#[test]
fn damage_never_breaks_the_order_of_things() {
    let mut random = SmallRng::seed_from_u64(1);
    for (name, steps, _) in conversations() {
        for round in 0..300 {
            let damaged = damage(&steps, &mut random);
            in_order(&play(&damaged, None).0, &format!("{name}, round {round}: {damaged:?}"));
        }
    }
}

/// The conversation with a few accidents, and the end of its process.
fn damage(steps: &[Do], random: &mut SmallRng) -> Vec<Do> {
    let mut damaged = steps.to_vec();
    for _ in 0..random.random_range(1..4) {
        let index = random.random_range(0..damaged.len());
        match (random.random_range(0..6), &mut damaged[index]) {
            (0, step) => *step = Do::Lost,
            (1, _) => damaged.insert(index, Do::Blocked),
            (2, _) => drop(damaged.remove(index)),
            (3, Do::Out(bytes)) => damaged[index] = Do::OutMissing(bytes.clone(), random.random_range(1..200)),
            (_, Do::In(bytes) | Do::Out(bytes)) if !bytes.is_empty() => {
                let at = random.random_range(0..bytes.len());
                if random.random() {
                    bytes[at] = random.random();
                } else {
                    bytes.remove(at);
                }
            }
            _ => {}
        }
        damaged.extend(damaged.is_empty().then_some(Do::Open));
    }
    damaged.push(Do::Exit);
    damaged
}

/// The messages of each exchange, without its number.
fn exchanges(messages: &[Message]) -> Vec<Vec<String>> {
    let mut exchanges: Vec<Vec<String>> = Vec::new();
    for message in messages {
        if matches!(message, Message::Begun { .. }) {
            exchanges.push(Vec::new());
        }
        let words: Vec<String> =
            line(message).split(' ').enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word.into()).collect();
        exchanges.last_mut().unwrap().push(words.join(" "));
    }
    exchanges
}

/// Whatever pieces of calls are lost or cut short: what is not marked is what it would have been.
#[test]
fn an_exchange_is_right_or_marked() {
    for (name, steps, _) in conversations() {
        let mut pieces: Vec<(u64, Do)> = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let cut = |bytes: &[u8], make: fn(&[u8]) -> Do| bytes.chunks(60).map(make).collect();
            let cuts: Vec<Do> = match step {
                Do::In(bytes) => cut(bytes, |bytes| ask(bytes)),
                Do::Out(bytes) => cut(bytes, |bytes| say(bytes)),
                other => vec![other.clone()],
            };
            pieces.extend(cuts.into_iter().map(|piece| (at as u64, piece)));
        }
        pieces.push((pieces.len() as u64, Do::Close(Close::Local)));
        let clean = exchanges(&perform(&pieces));
        let check = |damaged: &[(u64, Do)], what: &str| {
            for exchange in exchanges(&perform(damaged)) {
                let marked = exchange.iter().any(|line| line.starts_with("lost"));
                assert!(marked || clean.contains(&exchange), "{name}, {what}: {exchange:#?} in {clean:#?}");
            }
        };
        for from in 1..pieces.len() {
            for to in from + 1..pieces.len() {
                let lost = (pieces[to].0, Do::Lost);
                check(&[&pieces[..from], &[lost], &pieces[to..]].concat(), &format!("without {from}..{to}"));
            }
            let mut short = pieces.clone();
            short[from].1 = cut_short(&pieces[from].1);
            check(&short, &format!("{from} cut short"));
        }
    }
}

/// The event without the second half of its bytes.
fn cut_short(step: &Do) -> Do {
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let rest = |bytes: &[u8]| u32::try_from(bytes.len().div_ceil(2)).unwrap();
    match step {
        Do::In(bytes) => Do::InMissing(half(bytes), rest(bytes)),
        Do::Out(bytes) => Do::OutMissing(half(bytes), rest(bytes)),
        other => other.clone(),
    }
}

fn perform(steps: &[(u64, Do)]) -> Vec<Message> {
    let (mut http, vitals, mut out) = (Http::new(Config::default()), Vitals::default(), Vec::new());
    for (at, step) in steps {
        push(&mut http, step, *at, None, &vitals, &mut out);
    }
    out
}

fn in_order(messages: &[Message], name: &str) {
    let (mut current, mut latest) = (None, MonoNs(0));
    for message in messages {
        let words = line(message);
        match message {
            Message::Begun { exchange, at, .. } => {
                assert_eq!(current.replace(*exchange), None, "{words} in {name}");
                latest = *at;
            }
            Message::Ended { exchange, at } | Message::Broken { exchange, at, .. } => {
                assert!(current.take() == Some(*exchange) && *at >= latest, "{words} in {name}");
            }
            Message::Received { exchange, at, .. }
            | Message::Responded { exchange, at, .. }
            | Message::Said { exchange, at, .. }
            | Message::Blocked { exchange, at, .. }
            | Message::Lost { exchange, at } => {
                assert!(current == Some(*exchange) && *at >= latest, "{words} in {name}");
            }
            other => panic!("{other:?} in {name}"),
        }
    }
    assert_eq!(current, None, "{name}");
}
