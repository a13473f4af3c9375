//! The lives of engines: after the agent, several at once, one after another, under a process id used before.

use agent_tests::experiment;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

#[test]
fn engines_that_start_after_the_agent_are_traced_from_their_first_request_on() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let lives =
        [(Birth::New, Wire::Plain, "mixed"), (Birth::Shell, Wire::Plain, "mixed"), (Birth::New, Wire::Tls, "close")];
    for (birth, wire, mix) in lives {
        let player = stage.enter(birth, "plain", wire)?;
        plays(&stage, player, mix)?;
    }
    stage.until_empty()
}

/// Both get the same requests at the same time: same temperatures, same X-Request-Ids.
#[test]
fn two_engines_at_once_keep_their_requests_apart() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let mut one = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let mut other = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let loads = [one.begin("mixed")?, other.begin("mixed")?];
    for (player, load) in [one, other].into_iter().zip(loads) {
        let seen = load.finish()?;
        stage.leave(player, seen)?.verify()?;
    }
    stage.until_empty()
}

#[test]
fn a_process_id_that_another_program_takes_is_not_traced() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    if !gate::process_ids() {
        return Ok(());
    }
    let mut stage = Stage::open(&tools)?;
    let player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let pid = u32::try_from(player.pids[0])?;
    plays(&stage, player, "mixed")?;
    let scratch = Scratch::new("other")?;
    let other = Running::start_as(pid, "sleep", Command::new("sleep").arg("100"), &scratch.file("log"))?;
    stage.until_empty()?;
    other.stop(Duration::from_secs(5)).map(drop)
}

/// Under the id of the front end, and then under that of the engine core.
#[test]
fn a_process_id_that_another_engine_takes_is_a_new_process() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    if !gate::process_ids() {
        return Ok(());
    }
    let mut stage = Stage::open(&tools)?;
    let player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let pids = player.pids;
    let mut starts = BTreeSet::from([stage.start_of(&player)?]);
    plays(&stage, player, "mixed")?;
    for pid in pids {
        let player = stage.enter(Birth::As(u32::try_from(pid)?), "plain", Wire::Plain)?;
        assert!(starts.insert(stage.start_of(&player)?), "it began when another did");
        plays(&stage, player, "mixed")?;
    }
    stage.until_empty()
}

#[test]
fn descriptors_that_are_used_again_at_once_are_new_connections() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    for wire in [Wire::Plain, Wire::Tls] {
        let outcome = experiment::run(&tools, Plan { scenario: "plain", mix: "close", wire })?;
        outcome.verify()?;
        let fds = outcome.records.iter().map(|record| Some(record.connection.as_ref()?.fd));
        let fds: BTreeSet<i32> = fds.collect::<Option<_>>().context("a record without a connection")?;
        assert!(fds.len() * 10 < outcome.records.len(), "the descriptors are used again");
    }
    Ok(())
}

/// A stand-in gets one load and leaves, and every record of it is right.
fn plays(stage: &Stage, mut player: Player, mix: &str) -> Result<()> {
    let seen = player.load(mix)?;
    stage.leave(player, seen)?.verify().map(drop)
}
