//! What is attached, in either way: entries and instructions of functions, and never a return.

use agent_tests::agent::PERF_EVENTS;
use agent_tests::gate;
use agent_tests::held::Held;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Result;
use std::collections::BTreeSet;
use tachograph::attach::object::Way;

#[test]
fn no_attachment_carries_the_return_bit() -> Result<()> {
    attached(Way::offered(), &[])
}

#[test]
fn no_perf_event_carries_the_return_bit() -> Result<()> {
    attached(Way::Events, &[PERF_EVENTS])
}

fn attached(way: Way, settings: &[(&str, &str)]) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open_with(&tools, settings)?;
    let mut player = stage.enter(Birth::New, "plain", Wire::Tls)?;
    let seen = player.load("close")?;
    let held = Held::by(stage.agent.pid())?;
    assert!(held.probes > 0, "nothing is attached");
    // A return probe would be a `uretprobe_multi` or a `uretprobe` here.
    let kind = match way {
        Way::Links => "uprobe_multi",
        Way::Events => "uprobe",
    };
    assert_eq!(held.kinds, BTreeSet::from([kind.to_owned()]));
    let outcome = stage.leave(player, seen)?;
    stage.until_empty()?;
    outcome.verify().map(drop)
}
