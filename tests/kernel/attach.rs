//! What is attached: entries and instructions of functions, and never a return.

use agent_tests::gate;
use agent_tests::held::Held;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Result;
use std::collections::BTreeSet;

/// A return probe would be a `uretprobe` here.
#[test]
fn no_attachment_carries_the_return_bit() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let mut player = stage.enter(Birth::New, "plain", Wire::Tls)?;
    let seen = player.load("close")?;
    let held = Held::by(stage.agent.pid())?;
    assert!(held.probes > 0, "nothing is attached");
    assert_eq!(held.kinds, BTreeSet::from(["uprobe".to_owned()]));
    stage.leave(player, seen)?.verify().map(drop)
}
