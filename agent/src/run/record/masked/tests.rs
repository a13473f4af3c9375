//! A request as the probes see it, and its masked twin, in; the same records out, and no secret.

use super::*;
use crate::correlate::state::Settings;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::ring::tape;
use crate::run::replay;
use crate::run::tape::Entry;
use agent_ebpf::event::Kind;
use serde_json::Value;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/engine_core/0.32.0/", $name)).as_slice()
    };
}

const FRONT: Pid = Pid(10);
const CORE: Pid = Pid(11);
/// Nanoseconds just before the fixtures were recorded.
const START_NS: u64 = 10_767_400_000_000;
const MS: u64 = 1_000_000;

const BODY: &str = r#"{"model":"tiny","stream":true,"temperature":0.7,"max_tokens":4,"user":"me","tools":[{"id":"secret"}],
    "messages":[{"role":"user","content":"a \"secret\", {\"model\":\"secret\"} \u0073ecret"}]}"#;
const CHUNKS: [&str; 3] = [
    r#"{"id":"chatcmpl-recorded-chat","model":"tiny","choices":[{"index":0,"delta":{"content":"secret"}}]}"#,
    r#"{"id":"chatcmpl-recorded-chat","choices":[{"index":0,"delta":{"content":" secret"},"finish_reason":"length"}]}"#,
    "[DONE]",
];

/// What lies on a tape, before it is written.
#[derive(Clone)]
enum Entered {
    Record(Vec<u8>),
    Roster(Attached, MonoNs),
}

/// Makes records, numbering those of each channel.
#[derive(Default)]
struct Tape {
    entries: Vec<Entered>,
    seqs: [u32; 3],
    at_ns: u64,
}

impl Tape {
    fn arrive(mut self, pid: Pid, role: Role) -> Self {
        let [process, engine] = [pid, FRONT].map(|pid| ProcessId { pid, start_ticks: 1 });
        let attached =
            Attached::Follows { process, engine: EngineId(engine), kind: EngineKind::Vllm, role, late: false };
        self.entries.push(Entered::Roster(attached, MonoNs(START_NS)));
        self
    }

    fn leave(mut self, pid: Pid) -> Self {
        self.entries.push(Entered::Roster(Attached::Left(pid), MonoNs(START_NS + self.at_ns)));
        self.seqs = [0; 3];
        self
    }

    /// What one call moved, in pieces of at most 100 bytes.
    fn call(mut self, ms: u64, kind: Kind, bytes: &[u8]) -> Self {
        self.at_ns = ms * MS;
        let channel = match kind {
            Kind::FrameIn => 1,
            Kind::FrameOut => 2,
            _ => 0,
        };
        for (number, piece) in bytes.chunks(100).enumerate() {
            let header = Header {
                at_ns: START_NS + self.at_ns,
                opened_ns: if channel == 0 { START_NS } else { 0 },
                pid: if channel == 0 { FRONT.0 } else { CORE.0 },
                tid: 1,
                fd: if channel == 0 { 5 } else { -1 },
                seq: self.seqs[channel],
                offset: u32::try_from(number * 100).unwrap(),
                len: u32::try_from(piece.len()).unwrap(),
                total: u32::try_from(bytes.len()).unwrap(),
                missing: 0,
                result: 0,
                kind,
                flags: 0,
                pad: [0; 2],
            };
            self.seqs[channel] += 1;
            self.entries.push(Entered::Record([header.as_bytes(), piece, b"secret noise"].concat()));
        }
        self
    }

    /// A streamed chat, with every message of the engine that belongs to it.
    fn chat(self) -> Self {
        let ask = format!(
            "POST /v1/chat/completions?key=secret HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\
             Cookie: secret=1\r\nX-Request-Id: recorded-chat\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let head = "HTTP/1.1 200 OK\r\nset-cookie: secret\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\n\r\n";
        let [first, last, done] = CHUNKS.map(|json| {
            let event = format!("data: {json}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len())
        });
        self.arrive(FRONT, Role::Frontend)
            .arrive(CORE, Role::Core)
            .call(0, Kind::Received, ask.as_bytes())
            .call(50, Kind::FrameIn, &[0])
            .call(50, Kind::FrameIn, fixture!("recorded-add.bin"))
            .call(60, Kind::Sent, head.as_bytes())
            .call(144, Kind::FrameOut, fixture!("recorded-first.bin"))
            .call(150, Kind::Sent, first.as_bytes())
            .call(213, Kind::FrameOut, fixture!("recorded-last.bin"))
            .call(220, Kind::Sent, last.as_bytes())
            .call(220, Kind::Sent, (done + "0\r\n\r\n").as_bytes())
    }

    fn without(mut self, record: usize) -> Self {
        self.entries.remove(record);
        self
    }

    /// The tape's bytes, masked or not.
    fn write(&self, mut masked: Option<Masked>) -> Vec<u8> {
        let mut writer = tape::Writer::new(Vec::new()).unwrap();
        let mut write = |entry: Entry<'_>| {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            writer.write(&bytes).unwrap();
        };
        for entry in &self.entries {
            match (entry, &mut masked) {
                (Entered::Record(record), Some(masked)) => write(Entry::Record(masked.record(record).unwrap())),
                (Entered::Record(record), None) => write(Entry::Record(record)),
                (Entered::Roster(attached, at), masked) => {
                    if let Some(masked) = masked {
                        masked.attached(*attached, *at);
                    }
                    write(Entry::Roster(*attached, *at));
                }
            }
        }
        writer.finish().unwrap()
    }
}

/// The requests that a tape holds, as they are printed.
fn requests(tape: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(1));
    replay::requests(&Settings::default(), &mut tape::Reader::new(tape).unwrap(), random, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_masked_tape_tells_the_same_requests() {
    let tape = Tape::default().chat();
    let clear = requests(&tape.write(None));
    let [request] = clear.as_slice() else { panic!("{clear:#?}") };
    assert_eq!(
        (&request["join"], &request["input_tokens"], &request["engine_tokens"]),
        (&"id".into(), &25.into(), &2.into())
    );
    assert_eq!((&request["user"], &request["incomplete"]), (&"me".into(), &Value::Null));
    assert_eq!(requests(&tape.write(Some(Masked::default()))), clear);
}

#[test]
fn a_masked_tape_tells_the_same_after_any_loss() {
    for record in 2..Tape::default().chat().entries.len() {
        let tape = Tape::default().chat().without(record);
        assert_eq!(requests(&tape.write(Some(Masked::default()))), requests(&tape.write(None)), "without {record}");
    }
}

#[test]
fn who_is_left_and_followed_again_begins_anew() {
    let tape = Tape::default().chat().leave(CORE).leave(FRONT).chat();
    let clear = requests(&tape.write(None));
    assert_eq!(clear.iter().filter(|request| request["incomplete"] == Value::Null).count(), 2, "{clear:#?}");
    assert_eq!(requests(&tape.write(Some(Masked::default()))), clear);
}

#[test]
fn a_masked_tape_holds_no_secret() {
    let tape = Tape::default().chat();
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // The last are token ids: the prompt's first, and the two that were made.
    let parts: [&[u8]; 5] = [b"secret", b"ecret", &[30, 94, 87, 85], &[0x91, 0xcd, 1, 71], &[0x91, 77]];
    for part in parts {
        assert!(holds(&tape.write(None), part), "{part:?}");
        assert!(!holds(&tape.write(Some(Masked::default())), part), "{part:?}");
    }
}

#[test]
fn what_is_no_record_is_not_written() {
    assert_eq!(Masked::default().record(b"no record"), None);
}
