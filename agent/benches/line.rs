//! Ring records and events as a busy server makes them in; how fast the rooms of the ring thread read them out.
//!
//! `cargo bench -p tachograph --bench line` measures; `cargo test -p tachograph --bench line` runs each once.

use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use std::hint::black_box;
use tachograph::clock::MonoNs;
use tachograph::ident::Conn;
use tachograph::ident::Pid;
use tachograph::ring::Event;
use tachograph::ring::Way;
use tachograph::ring::decode::Decoder;
use tachograph::stream::engine_core;
use tachograph::stream::engine_core::EngineCore;
use tachograph::stream::http;
use tachograph::stream::http::Http;
use tachograph::vitals::Vitals;
use zerocopy::IntoBytes as _;

const TOKENS: u32 = 256;
const CHANNELS: usize = 1_024;
const CONN: Conn = Conn { pid: Pid(7), fd: 9, opened_ns: 1 };
const ASK: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 44\r\n\r\n\
    {\"model\":\"tiny\",\"messages\":[],\"stream\":true}";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const DONE: &[u8] = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
const ADD: &[u8] = include_bytes!("../../tests/fixtures/engine_core/0.32.0/recorded-add.bin");
const STEP: &[u8] = include_bytes!("../../tests/fixtures/engine_core/0.32.0/recorded-first.bin");

/// One token's event in a chunk of its own.
fn token(number: u32) -> Vec<u8> {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-b04707754be6bc68\",\"object\":\"chat.completion.chunk\",\"created\":1,\
         \"model\":\"tiny\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" t{number}\"}},\"logprobs\":null,\
         \"finish_reason\":null,\"token_ids\":null}}]}}\n\n"
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// A whole streamed exchange, a piece for each call of the server.
fn exchange() -> Vec<(Way, Vec<u8>)> {
    let mut talk = vec![(Way::In, ASK.to_vec()), (Way::Out, HEAD.to_vec())];
    talk.extend((0..TOKENS).map(|number| (Way::Out, token(number))));
    talk.push((Way::Out, DONE.to_vec()));
    talk
}

/// The ring record of the nth call.
fn record(seq: u32, way: Way, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let header = Header {
        at_ns: 1,
        opened_ns: CONN.opened_ns,
        pid: CONN.pid.0,
        tid: CONN.pid.0,
        fd: CONN.fd,
        seq,
        offset: 0,
        len,
        total: len,
        missing: 0,
        result: 0,
        kind: if way == Way::In { Kind::Received } else { Kind::Sent },
        flags: 0,
        pad: [0; 2],
    };
    [header.as_bytes(), payload].concat()
}

fn decode(criterion: &mut Criterion) {
    let records: Vec<Vec<u8>> = (0..).zip(exchange()).map(|(seq, (way, payload))| record(seq, way, &payload)).collect();
    let vitals = Vitals::default();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("records of a streamed exchange", |bencher| {
        bencher.iter(|| {
            let mut decoder = Decoder::new(CHANNELS);
            for record in &records {
                decoder.push(record, &vitals, |event| {
                    black_box(event);
                });
            }
        });
    });
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    let talk = exchange();
    let (vitals, mut http, mut out) = (Vitals::default(), Http::new(http::Config::default()), Vec::new());
    let mut group = criterion.benchmark_group("http");
    group.throughput(Throughput::Elements(TOKENS.into()));
    group.bench_function("tokens of a streamed exchange", |bencher| {
        bencher.iter(|| {
            for (way, bytes) in &talk {
                let event = Event::Data { conn: CONN, way: *way, at: MonoNs(1), bytes, missing: 0 };
                http.push(&event, &vitals, &mut out);
            }
            // A room that gave up reading would be fast.
            assert!(out.drain(..).count() >= usize::try_from(TOKENS).unwrap_or(usize::MAX));
        });
    });
    group.finish();
}

fn engine(criterion: &mut Criterion) {
    let vitals = Vitals::default();
    let mut core = EngineCore::new(engine_core::Config::default());
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("engine_core");
    group.throughput(Throughput::Elements(1));
    let mut push = |way, bytes: &[u8]| {
        let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (engine, at) = (CONN.pid, MonoNs(u64::MAX / 2));
        core.push(&Event::Frame { engine, tid: 8, way, at, bytes, offset: 0, total, more: false }, &vitals, &mut out);
        out.drain(..).count()
    };
    group.bench_function("an ADD", |bencher| {
        bencher.iter(|| assert_eq!(push(Way::In, &[0]) + push(Way::In, ADD), 1));
    });
    group.bench_function("a step of one output", |bencher| {
        bencher.iter(|| assert_eq!(push(Way::Out, STEP), 1));
    });
    group.finish();
}

criterion_group!(rooms, decode, wire, engine);
criterion_main!(rooms);
