//! The same stream without a probe, under an empty uprobe and under the agent, in; what a token costs, out.

use super::Bench;
use super::START;
use super::cpu_seconds;
use super::median;
use super::streams::Streams;
use crate::process::Running;
use anyhow::Result;
use std::process::Command;
use std::process::Stdio;

const ROUNDS: u32 = 3;
/// Enough writes for a clock of 10 ms, few enough that the ring holds them.
const STREAMS: Streams = Streams { count: 4, rate: 20_000, seconds: 4 };
const MICROSECONDS: f64 = 1e6;

/// Microseconds of processor time for each token, of the traced process and of the agent.
struct Cost {
    bare: f64,
    empty: f64,
    recorded: f64,
    agent: f64,
}

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let mut costs = Vec::new();
    println!("  µs of CPU a token: bare, under an empty uprobe, under the agent, and of the agent itself");
    for _ in 0..ROUNDS {
        let cost = round(bench)?;
        println!("  {:>8.2} {:>8.2} {:>8.2} {:>8.2}", cost.bare, cost.empty, cost.recorded, cost.agent);
        costs.push(cost);
    }
    let of = |pick: fn(&Cost) -> f64| median(costs.iter().map(pick).collect());
    let hit = of(|cost| cost.empty - cost.bare);
    let (probes, agent) = (of(|cost| cost.recorded - cost.bare), of(|cost| cost.agent));
    println!("  an empty uprobe costs {hit:.2} µs a hit here, the unit of what follows (medians of {ROUNDS} rounds)");
    println!(
        "  the traced process {:.2}, the agent {:.2}, both {:.2} for each token",
        probes / hit,
        agent / hit,
        (probes + agent) / hit
    );
    Ok(())
}

fn round(bench: &Bench) -> Result<Cost> {
    let (server, port) = bench.serve()?;
    let tokens = f64::from(STREAMS.tokens() * STREAMS.count);
    let spent = |running: &Running| -> Result<f64> {
        let before = cpu_seconds(running.pid())?;
        STREAMS.run(port)?;
        Ok((cpu_seconds(running.pid())? - before) / tokens * MICROSECONDS)
    };
    let bare = spent(&server)?;
    let empty = {
        let mut command = Command::new(&bench.empty_probe);
        let log = bench.logs.join("empty-probe.log");
        command.arg(server.pid().to_string());
        let mut probe = Running::start_with("empty-probe", &mut command, &bench.logs, Stdio::piped())?;
        probe.until(START, || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("attached")))?;
        spent(&server)?
    };
    let (agent, _) = bench.record(Some(server.pid()))?;
    let before = cpu_seconds(agent.pid())?;
    let recorded = spent(&server)?;
    let agent = (cpu_seconds(agent.pid())? - before) / tokens * MICROSECONDS;
    Ok(Cost { bare, empty, recorded, agent })
}
