//! Real probes on the stand-in engine: every request recorded once, every instant inside its bracket.

mod attach;
mod cause;
mod churn;
mod containers;
mod content;
mod disaggregated;
mod ends;
mod energy;
mod engine;
mod hostile;
mod image;
mod kills;
mod kubernetes;
mod late;
mod networks;
mod overload;
mod privileges;
mod processes;
mod reload;
mod wedged;
mod wire;

use agent_tests::experiment;
use agent_tests::experiment::Outcome;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::standin::Wire;
use anyhow::Result;

/// Runs a plan and verifies all of it; `None` where the suite cannot run.
fn verified(scenario: &str, mix: &str, wire: Wire) -> Result<Option<Outcome>> {
    let Some(tools) = gate::kernel()? else { return Ok(None) };
    let outcome = experiment::run(&tools, Plan { scenario, mix, wire })?;
    outcome.verify()?;
    Ok(Some(outcome))
}
