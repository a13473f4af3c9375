//! Engines that come and go without end.

use agent_tests::agent::Agent;
use agent_tests::churn;
use agent_tests::churn::Burden;
use agent_tests::experiment;
use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Result;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

/// Enough to fill what is kept anyway.
const FIRST: usize = 20;
const ENGINES: usize = 100;
const AT_ONCE: usize = 10;
/// What each of them may leave in memory on the average: allocators do not give everything back.
const BYTES_EACH: u64 = 100_000;

#[test]
fn a_hundred_engines_leave_nothing_behind() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let _turn = experiment::turn();
    let scratch = Scratch::new("churn")?;
    let agent = Agent::start(&tools.agent, &scratch, &[("TACHOGRAPH_REQUESTS_KEPT", "20")])?;
    let first = churn::engines(&agent, &tools.python, FIRST, AT_ONCE)?;
    let burden = Burden::of(&agent)?;
    burden.until_again(&agent, &first)?;
    let (before, began) = (churn::resident_bytes(&agent)?, System.now());
    let gone = churn::engines(&agent, &tools.python, ENGINES, AT_ONCE)?;
    let took = System.now().since(began).unwrap_or_default() / 1_000_000_000;
    burden.until_again(&agent, &gone)?;
    let after = churn::resident_bytes(&agent)?;
    println!("{ENGINES} engines in {took} s; the agent had {before} bytes in memory, then {after}");
    assert!(after < before + BYTES_EACH * ENGINES as u64, "{before} bytes, then {after}");
    Ok(())
}
