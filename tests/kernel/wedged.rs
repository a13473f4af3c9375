//! An engine that stands still while it has work is called wedged, and no longer once it steps; an idle one is not.

use agent_tests::gate;
use agent_tests::nvml::Gpu;
use agent_tests::process::signal;
use agent_tests::trial::Limits;
use agent_tests::trial::Trial;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const LIMITS: Limits = Limits { ttft: 60.0, tpot: 60.0, duration: 60.0 };
/// It must be called wedged by then, seconds.
const BY: f64 = 15.0;
/// A critical error of a GPU.
const FELL_OFF: u64 = 79;
/// Longer than any engine needs to be called wedged.
const LONG: Duration = Duration::from_secs(14);

/// An engine that would be called wedged if it had work and no reason: seen for long enough.
fn never_wedged(trial: &Trial) -> Result<()> {
    let (_, core) = trial.pids()?;
    let until = System.now().plus(LONG);
    while System.now() < until {
        assert_eq!(wedged(&trial.agent.snapshot()?, core), None);
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn core_of(snapshot: &Value, pid: u32) -> Option<&Value> {
    let cores = snapshot.get("cores")?.as_array()?;
    cores.iter().find(|core| core.get("pid").is_some_and(|own| *own == pid))
}

fn wedged(snapshot: &Value, core: u32) -> Option<&Value> {
    core_of(snapshot, core)?.get("wedged").filter(|wedged| !wedged.is_null())
}

#[test]
fn a_stopped_engine_core_is_wedged_until_it_steps() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut trial = Trial::open(&tools, "plain", LIMITS)?;
    trial.load("calm")?;
    let (_, core) = trial.pids()?;
    // Without callers it may stand still as long as it likes.
    signal(core, "STOP")?;
    never_wedged(&trial)?;
    let load = trial.begin("calm")?;
    trial.gpu.xid(FELL_OFF)?;
    trial.agent.until(|snapshot| wedged(snapshot, core).is_some())?;
    let snapshot = trial.agent.snapshot()?;
    let found_at = snapshot.get("at_ns").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let since = wedged(&snapshot, core).and_then(|wedged| wedged.get("since")).and_then(Value::as_u64).unwrap_or(0);
    assert!(found_at.saturating_sub(since) as f64 / 1e9 < BY, "{snapshot:#}");
    let states = wedged(&snapshot, core).and_then(|wedged| wedged.pointer("/processes/0/state"));
    assert_eq!(states.and_then(Value::as_str), Some("T"));
    let error = |key: &str| wedged(&snapshot, core).and_then(|wedged| wedged.pointer(&format!("/gpu_errors/0/{key}")));
    assert_eq!(error("gpu").and_then(Value::as_str), Some(Gpu::UUID));
    assert_eq!(error("code").and_then(Value::as_u64), Some(FELL_OFF));
    assert!(
        trial
            .agent
            .metrics()?
            .lines()
            .any(|line| line.starts_with("tachograph_engine_wedged{") && line.ends_with(" 1"))
    );
    signal(core, "CONT")?;
    trial.agent.until(|snapshot| wedged(snapshot, core).is_none())?;
    trial.finish(load)?;
    trial.close()?;
    Ok(())
}

#[test]
fn a_sleeping_engine_with_callers_is_not_wedged() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut trial = Trial::open(&tools, "plain", LIMITS)?;
    trial.load("calm")?;
    let (_, core) = trial.pids()?;
    trial.post("/sleep")?;
    let load = trial.begin("calm")?;
    trial.agent.until(|snapshot| {
        let core = core_of(snapshot, core);
        let live = core.and_then(|core| core.get("live")).and_then(Value::as_u64);
        live > Some(0) && core.and_then(|core| core.pointer("/steps/asleep_since")).is_some_and(Value::is_u64)
    })?;
    never_wedged(&trial)?;
    trial.post("/wake_up")?;
    trial.finish(load)?;
    assert_eq!(wedged(&trial.agent.snapshot()?, core), None);
    trial.close()?;
    Ok(())
}

#[test]
fn a_long_prompt_in_one_step_is_not_a_wedge() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut trial = Trial::open(&tools, "long_step", LIMITS)?;
    trial.load("calm")?;
    let load = trial.begin("one_long_prompt")?;
    never_wedged(&trial)?;
    trial.finish(load)?;
    trial.close()?;
    Ok(())
}
