//! The stand-in engine under load in; probe hits for each streamed token, on the wire and in the engine, out.

use super::Bench;
use super::START;
use super::metric;
use crate::http;
use crate::process::Running;
use crate::setup;
use crate::step::root;
use crate::step::run;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const CONCURRENCIES: [u32; 2] = [1, 8];
const REQUESTS_EACH: u32 = 6;
const TOKENS: u32 = 100;
/// For the agent's counts, which it reads ten times a second.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let python = setup::standin()?;
    let serves = http::free_port()?;
    let standin = |verb: &str, port: u16| {
        let mut command = Command::new(&python);
        command.current_dir(root().join("tests")).args(["-m", "standin", verb, "--port", &port.to_string()]);
        command
    };
    let mut engine = Running::start("engine", &mut standin("serve", serves), &bench.logs)?;
    engine.until(START, || http::get(serves, "/health").is_ok())?;
    let (_agent, port) = bench.record(None)?;
    let counts = || -> Result<[f64; 3]> {
        std::thread::sleep(SETTLE);
        Ok([
            metric(port, "tachograph_agent_probe_hits_wire_total")?,
            metric(port, "tachograph_agent_probe_hits_engine_total")?,
            metric(port, "tachograph_agent_requests_recorded_total")?,
        ])
    };
    println!("  probe hits a token: concurrency, on the wire, in the engine");
    for concurrency in CONCURRENCIES {
        let requests = REQUESTS_EACH * concurrency;
        let mix = bench.logs.join(format!("mix-{concurrency}.json"));
        write_mix(&mix, concurrency, requests)?;
        let before = counts()?;
        run(standin("load", serves).arg("--mix").arg(&mix))?;
        let after = counts()?;
        let [wire, core, recorded] = std::array::from_fn(|at| {
            after.get(at).zip(before.get(at)).map_or(f64::NAN, |(after, before)| after - before)
        });
        if (recorded - f64::from(requests)).abs() > 0.5 {
            bail!("{recorded} requests recorded and {requests} sent: is another engine at work on this machine?");
        }
        let tokens = f64::from(requests * TOKENS);
        println!("  {concurrency:>8} {:>8.2} {:>8.2}", wire / tokens, core / tokens);
    }
    Ok(())
}

fn write_mix(file: &Path, concurrency: u32, count: u32) -> Result<()> {
    let body = serde_json::json!({ "max_tokens": TOKENS });
    let kinds = serde_json::json!([{ "kind": "hits", "count": count, "body": body }]);
    Ok(std::fs::write(file, serde_json::json!({ "concurrency": concurrency, "kinds": kinds }).to_string())?)
}
