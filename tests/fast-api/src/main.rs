//! A port in; an API process that streams as fast as it is told, in vLLM's shape, out.
//!
//! `POST /v1/chat/completions` with `max_tokens` N and `vllm_xargs: {"writes_per_second": R}` answers with N
//! chunks of one token, each in a write of its own; without a rate, one after the other.

#![expect(clippy::disallowed_methods, reason = "it keeps its own time; nothing here is replayed")]

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Shorter waits are not worth a sleep: the writes that they part follow each other at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nserver: fast-api\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    transfer-encoding: chunked\r\n\r\n";
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\nserver: fast-api\r\ncontent-length: 0\r\n\r\n";

/// Requests so far, for ids of their own.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).context("usage: fast-api PORT")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that leaves is no failure of the server.
            drop(converse(&stream));
        });
    }
    Ok(())
}

/// Answers requests until the client leaves, or asks for the end.
fn converse(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut length, mut last) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            last |= line == "connection: close";
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut out = stream;
        if first.starts_with("GET ") {
            out.write_all(HEALTHY)?;
        } else {
            answer(out, REQUESTS.fetch_add(1, Ordering::Relaxed), &serde_json::from_slice(&body)?)?;
        }
        if last || first.trim_end().ends_with("HTTP/1.0") {
            return Ok(());
        }
    }
}

fn answer(mut out: &TcpStream, number: u64, body: &Value) -> Result<()> {
    let tokens = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(16);
    let rate = body.pointer("/vllm_xargs/writes_per_second").and_then(Value::as_f64).filter(|rate| *rate > 0.0);
    let began = Instant::now();
    let id = format!("chatcmpl-{number:016x}");
    let mut chunk = Vec::new();
    out.write_all(HEAD)?;
    write_event(out, &mut chunk, &id, r#""role":"assistant","content":"""#, "null")?;
    for token in 0..tokens {
        if let Some(rate) = rate {
            let wait = Duration::from_secs_f64(token as f64 / rate).saturating_sub(began.elapsed());
            if wait >= SHORTEST_WAIT {
                std::thread::sleep(wait);
            }
        }
        let finish = if token + 1 == tokens { r#""length""# } else { "null" };
        write_event(out, &mut chunk, &id, &format!(r#""content":" t{token}""#), finish)?;
    }
    out.write_all(b"e\r\ndata: [DONE]\n\n\r\n")?;
    out.write_all(b"0\r\n\r\n")?;
    Ok(())
}

fn write_event(mut out: &TcpStream, chunk: &mut Vec<u8>, id: &str, delta: &str, finish: &str) -> Result<()> {
    let event = format!(
        "data: {{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"fast\",\
         \"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\"finish_reason\":{finish},\
         \"token_ids\":null}}]}}\n\n"
    );
    chunk.clear();
    write!(chunk, "{:x}\r\n{event}\r\n", event.len())?;
    out.write_all(chunk)?;
    Ok(())
}
