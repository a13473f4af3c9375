//! Faster and faster streams in; the highest rate at which every record is whole, out.

use super::Bench;
use super::cpu_seconds;
use super::metric;
use super::streams::Streams;
use crate::http;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;

const FIRST: u32 = 10_000;
/// From one step to the next, as a fraction.
const FASTER: (u32, u32) = (5, 4);
const STREAMS: u32 = 8;
const SECONDS: u32 = 3;
/// Under this share of the rate asked for, the server is what cannot follow.
const KEPT_UP: f64 = 0.95;
/// How long records are waited for.
const RECORDS: Duration = Duration::from_secs(5);

/// One step.
struct Step {
    /// SSE writes a second that the server made.
    rate: f64,
    asked: u32,
    /// Of one core.
    agent_share: f64,
    server_share: f64,
    lost: f64,
    whole: usize,
}

impl Step {
    fn is_whole(&self) -> bool {
        self.lost == 0.0 && self.whole == STREAMS as usize
    }
}

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let (server, serves) = bench.serve()?;
    let (agent, listens) = bench.record(Some(server.pid()))?;
    println!("  SSE writes a second: asked for, made; share of a core: agent, server; records lost, streams whole");
    let mut best: Option<Step> = None;
    let mut asked = FIRST;
    let mut seen = 0;
    let end = loop {
        let streams = Streams { count: STREAMS, rate: asked, seconds: SECONDS };
        let lost = metric(listens, "tachograph_agent_records_lost_total")?;
        let (of_agent, of_server) = (cpu_seconds(agent.pid())?, cpu_seconds(server.pid())?);
        let took = streams.run(serves)?.as_secs_f64();
        let share = |pid, before: f64| anyhow::Ok((cpu_seconds(pid)? - before) / took);
        let (agent_share, server_share) = (share(agent.pid(), of_agent)?, share(server.pid(), of_server)?);
        let records = records(listens, &mut seen)?;
        let step = Step {
            rate: f64::from(streams.tokens() * STREAMS) / took,
            asked,
            agent_share,
            server_share,
            lost: metric(listens, "tachograph_agent_records_lost_total")? - lost,
            whole: records.iter().filter(|record| is_whole(record, streams.tokens())).count(),
        };
        println!(
            "  {:>8} {:>8.0} {:>6.2} {:>6.2} {:>8} {:>4} of {STREAMS}",
            step.asked, step.rate, step.agent_share, step.server_share, step.lost, step.whole
        );
        if !step.is_whole() {
            break "the agent then lost records";
        }
        let kept_up = step.rate >= f64::from(asked) * KEPT_UP;
        if best.as_ref().is_none_or(|best| best.rate < step.rate) {
            best = Some(step);
        }
        if !kept_up {
            break "the server then wrote no faster: the agent's own limit lies higher";
        }
        asked = asked / FASTER.1 * FASTER.0;
    };
    match best {
        Some(Step { rate, agent_share, .. }) => {
            println!("  whole up to {rate:.0} SSE writes a second, at {agent_share:.2} of a core for the agent; {end}");
        }
        None => println!("  not whole at {FIRST} SSE writes a second"),
    }
    Ok(())
}

/// The records that are new since the last look, when all streams have one or time is up.
fn records(port: u16, seen: &mut u64) -> Result<Vec<Value>> {
    let began = std::time::Instant::now();
    loop {
        let answer: Value = serde_json::from_str(&http::get(port, &format!("/api/v1/requests?since={seen}"))?)?;
        let new = answer.get("requests").and_then(Value::as_array).context("no requests in the answer")?;
        let ours: Vec<Value> =
            new.iter().filter(|it| it["x_request_id"].as_str().is_some_and(is_ours)).cloned().collect();
        if ours.len() >= STREAMS as usize || began.elapsed() > RECORDS {
            *seen = new.iter().filter_map(|it| it["id"].as_u64()).max().unwrap_or(*seen);
            return Ok(ours);
        }
        std::thread::sleep(super::EVERY);
    }
}

fn is_ours(id: &str) -> bool {
    id.starts_with("bench-")
}

/// Not marked, and a gap between each two tokens.
fn is_whole(record: &Value, tokens: u32) -> bool {
    record["incomplete"].is_null()
        && record.pointer("/itl/count").and_then(Value::as_u64) == Some(u64::from(tokens) - 1)
}
