//! A whole exchange with words of its own in; where they come out again, and where they never do.

use super::line::Line;
use super::sample::PID;
use super::sample::record;
use crate::attach::Attached;
use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::Finished;
use crate::correlate::redact::Rules;
use crate::correlate::state::Correlator;
use crate::correlate::state::Settings;
use crate::export::otlp::llm::Calls;
use crate::export::otlp::log;
use crate::export::otlp::span;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::request::Update;
use crate::stream::content::Capture;
use crate::ui;
use agent_ebpf::event::Kind;
use std::fmt::Write as _;
use std::sync::Arc;

const ANCHOR: Anchor = Anchor { mono: MonoNs(1_000), unix_ns: 1_700_000_000_000_000_000 };
/// A word that stands in every text of the exchange, and nowhere else.
const WORD: &str = "xylophone";

/// What the line says of a request and the events that answer it.
fn updates(content: Option<Capture>, ask: &str, events: &[String]) -> Vec<Update> {
    let mut line = Line::new(Arc::default(), content);
    let process = ProcessId { pid: PID, start_ticks: 1 };
    let (engine, kind) = (EngineId(process), EngineKind::Other);
    line.attached(Attached::Follows { process, engine, kind, role: Role::Frontend, late: false }, MonoNs(1));
    let ask = format!("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n{ask}", ask.len());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = events.iter().map(|event| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8));
    let sent = std::iter::once(head.to_owned()).chain(chunks).chain(["0\r\n\r\n".to_owned()]);
    line.record(&record(2, 0, Kind::Received, ask.as_bytes()), |_, _| {});
    for (seq, bytes) in (1..).zip(sent) {
        line.record(&record(2 + u64::from(seq), seq, Kind::Sent, bytes.as_bytes()), |_, _| {});
    }
    line.close(MonoNs(100));
    line.updates().collect()
}

fn ask() -> String {
    format!(
        r#"{{"model":"tiny","stream":true,"messages":[{{"role":"system","content":"{WORD}"}},
        {{"role":"user","content":"{WORD}, I am ada@example.org"}}]}}"#
    )
}

/// An answer with a secret in two pieces of its stream.
fn events() -> Vec<String> {
    let delta = |text: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    let stop = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned();
    vec![delta(&format!("{WORD}: sk-01234567")), delta("89abcdefghij ok"), stop, "[DONE]".to_owned()]
}

fn correlator(settings: &Settings) -> Correlator {
    Correlator::new(settings, Arc::default(), ANCHOR, Box::new(|bytes: &mut [u8]| bytes.fill(1)))
}

fn finished(correlator: &Correlator, updates: Vec<Update>) -> Arc<Finished> {
    let ended = updates.into_iter().flat_map(|update| correlator.update(update, ANCHOR)).collect::<Vec<_>>();
    ended.into_iter().chain(correlator.flush()).next().unwrap()
}

fn redacting() -> Settings {
    Settings { redact: Some(Arc::new(Rules::new(true, &[]).unwrap())), ..Settings::default() }
}

#[expect(clippy::use_debug, reason = "what is printed is looked through")]
fn exported(finished: &Arc<Finished>) -> String {
    let mut all = format!("{:?}", log::record(&log::Entry::Request(Arc::clone(finished))));
    span::spans(finished, Calls::All).for_each(|span| write!(all, "{span:?}").unwrap());
    all
}

fn shown(correlator: &Correlator, finished: &Finished) -> String {
    let snapshot = correlator.snapshot(ANCHOR);
    format!("{finished:?} {snapshot:?} {} {}", ui::record::record(finished), ui::api::snapshot(&snapshot))
}

#[test]
fn without_capture_no_word_comes_out_anywhere() {
    let (correlator, updates) = (correlator(&redacting()), updates(None, &ask(), &events()));
    assert!(!format!("{updates:?}").contains(WORD));
    let finished = finished(&correlator, updates);
    assert!(finished.content.is_none());
    assert!(!exported(&finished).contains(WORD) && !shown(&correlator, &finished).contains(WORD));
}

#[test]
fn with_capture_words_come_out_in_exports_alone_and_without_secrets() {
    let correlator = correlator(&redacting());
    let updates = updates(Some(Capture::new(1_000)), &ask(), &events());
    assert!(!format!("{updates:?}").contains(WORD), "what is printed shows none");
    let finished = finished(&correlator, updates);
    let kept = Arc::clone(&correlator.snapshot(ANCHOR).requests[0]);
    assert!(kept.content.is_none() && kept.request == finished.request && kept.trace == finished.trace);
    assert!(!shown(&correlator, &kept).contains(WORD) && !ui::record::record(&finished).to_string().contains(WORD));
    let exported = exported(&finished);
    assert!(exported.contains(WORD));
    for secret in ["ada@", "sk-0", "89abc"] {
        assert!(!exported.contains(secret), "{secret} in {exported}");
    }
}

#[test]
fn wherever_the_end_lies_no_part_of_a_secret_comes_out() {
    for max_bytes in 1..=80 {
        let correlator = correlator(&redacting());
        let finished = finished(&correlator, updates(Some(Capture::new(max_bytes)), &ask(), &events()));
        let exported = exported(&finished);
        assert!(!exported.contains("ada") && !exported.contains("sk-"), "{max_bytes}: {exported}");
    }
}

#[test]
fn without_rules_none_comes_out() {
    let correlator = correlator(&Settings::default());
    let finished = finished(&correlator, updates(Some(Capture::new(1_000)), &ask(), &events()));
    assert!(finished.content.is_none() && !exported(&finished).contains(WORD));
}
