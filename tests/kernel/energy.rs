//! Energy and cost of real load on stub GPUs: parts sum to the whole, and each part is what the truth says.

use agent_tests::energy;
use agent_tests::experiment;
use agent_tests::experiment::Outcome;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::nvml;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;

/// Watts of each GPU: constant, so that energy is power times time whatever instants are compared.
const WATTS: [f64; 2] = [300.0, 120.0];
/// Dollars for an hour of a GPU.
const PRICE: f64 = 36.0;
/// How far sums may be apart, as a share.
const RESIDUE: f64 = 1e-3;
/// How far one request's time of the engine may be from the truth, seconds.
const APART: f64 = 1e-3;

#[test]
fn requests_and_idle_sum_to_the_gpus() -> Result<()> {
    held("calm")?;
    held("crowd")
}

#[expect(clippy::print_stdout, reason = "the residues are the result")]
fn held(mix: &str) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let scratch = Scratch::new("gpus")?;
    let (library, price) = (scratch.file("libnvidia-ml.so.1"), PRICE.to_string());
    let path = library.to_str().context("a path that is no text")?;
    let settings = [("TACHOGRAPH_NVML_LIBRARY", path), ("TACHOGRAPH_PRICES_GPU_HOUR", price.as_str())];
    let plan = Plan { scenario: "plain", mix, wire: Wire::Plain };
    let outcome =
        experiment::run_after(&tools, plan, |standin| nvml::install(&library, &scenario(standin.pid())), &settings)?;
    outcome.verify()?;

    let used =
        |name: &str| outcome.records.iter().filter_map(|record| record.used.as_ref()?.get(name)?.as_f64()).sum::<f64>();
    for (what, rate) in [("joules", WATTS.iter().sum::<f64>()), ("dollars", PRICE / 3_600.0 * WATTS.len() as f64)] {
        let (requests, rest, seconds) = (used(what), rest(&outcome, what)?, device_seconds(&outcome)?);
        let whole = rate * seconds;
        let residue = (requests + rest - whole).abs() / whole;
        println!(
            "{mix}: {what}: requests {requests:.4} + idle and under way {rest:.4} = {whole:.4}, residue {residue:.2e}"
        );
        ensure!(residue <= RESIDUE, "{what} do not sum up");
    }

    let truth = energy::engine_seconds(&outcome.truths);
    let (own, all) = (used("core_seconds"), truth.iter().sum::<f64>());
    println!("{mix}: seconds of the engine: {own:.6}, by the truth {all:.6}");
    ensure!((own - all).abs() <= all * RESIDUE, "the engine was busy for another time");
    let by_temperature: BTreeMap<u64, f64> = outcome
        .truths
        .iter()
        .zip(truth)
        .filter_map(|(truth, seconds)| Some((truth.temperature?.to_bits(), seconds)))
        .collect();
    let mut furthest = 0.0_f64;
    for record in &outcome.records {
        let expected =
            record.params.temperature.and_then(|it| by_temperature.get(&it.to_bits())).context("no truth")?;
        let part = |name: &str| record.used.as_ref().and_then(|used| used.get(name)?.as_f64()).context("not used");
        furthest = furthest.max((part("core_seconds")? - expected).abs());
        let joules = WATTS.iter().sum::<f64>() * part("core_seconds")?;
        let uncertain = part("uncertain_joules")? + joules * RESIDUE;
        ensure!((part("joules")? - joules).abs() <= uncertain, "{record:?}");
        ensure!(record.gpus.len() == WATTS.len(), "{record:?}");
    }
    println!("{mix}: one request's seconds of the engine at most {:.3} ms from the truth", furthest * 1e3);
    ensure!(furthest <= APART, "a request has another's time");
    Ok(())
}

/// Two GPUs on which a process of the engine computes.
fn scenario(pid: u64) -> String {
    let gpus = WATTS.iter().enumerate().map(|(at, watts)| {
        let milliwatts = watts * 1e3;
        format!(
            "[[gpu]]\nuuid = \"GPU-{at}\"\nname = \"Stub\"\npower_milliwatts = {milliwatts:.0}\n\
             energy_millijoules = 5000000\nprocess = [{{ pid = {pid}, memory_bytes = 1000 }}]\nload = {{ since_ns = 1 }}\n"
        )
    });
    std::iter::once("driver = \"580.95.05\"\n".to_owned()).chain(gpus).collect()
}

/// A number in JSON; none where there is none.
fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

/// What no record holds: idle, and what was used and is not claimed.
fn rest(outcome: &Outcome, what: &str) -> Result<f64> {
    let idle: f64 = devices(outcome)?.iter().map(|device| number(device, &format!("/idle/{what}"))).sum();
    Ok(idle + number(&outcome.snapshot, &format!("/unclaimed/{what}")))
}

/// How long each device was accounted, on the average.
fn device_seconds(outcome: &Outcome) -> Result<f64> {
    let devices = devices(outcome)?;
    let parts = ["/attributed/device_seconds", "/idle/device_seconds"];
    let all: f64 = devices.iter().flat_map(|device| parts.map(|part| number(device, part))).sum();
    Ok(all / devices.len() as f64)
}

fn devices(outcome: &Outcome) -> Result<&Vec<Value>> {
    outcome.snapshot.get("devices").and_then(Value::as_array).context("no devices")
}
