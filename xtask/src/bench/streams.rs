//! A rate in; so many SSE writes a second asked of the fast API process and read to their end, out.

use crate::http;
use anyhow::Result;
use anyhow::bail;
use std::io::Read as _;
use std::time::Duration;
use std::time::Instant;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    /// Streams at a time.
    pub(super) count: u32,
    /// SSE writes a second over all streams.
    pub(super) rate: u32,
    /// How long each stream lasts.
    pub(super) seconds: u32,
}

impl Streams {
    /// Tokens of each stream, a write each.
    pub(super) fn tokens(self) -> u32 {
        self.rate / self.count * self.seconds
    }

    /// Runs them to their end; how long that took.
    pub(super) fn run(self, port: u16) -> Result<Duration> {
        let body = format!(
            r#"{{"model":"fast","stream":true,"max_tokens":{},"vllm_xargs":{{"writes_per_second":{}}},"messages":[]}}"#,
            self.tokens(),
            self.rate / self.count
        );
        let began = Instant::now();
        let clients: Vec<_> = (0..self.count)
            .map(|number| {
                let body = body.clone();
                std::thread::spawn(move || {
                    let mut stream = http::post(port, "/v1/chat/completions", &format!("bench-{number}"), &body)?;
                    let mut buffer = vec![0; 1 << 18];
                    while stream.read(&mut buffer)? > 0 {}
                    anyhow::Ok(())
                })
            })
            .collect();
        for client in clients {
            let Ok(read) = client.join() else { bail!("a client panicked") };
            read?;
        }
        Ok(began.elapsed())
    }
}
