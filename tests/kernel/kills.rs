//! Processes that are killed while requests are under way: each request is recorded once, with what it had got.

use agent_tests::gate;
use agent_tests::process::signal;
use agent_tests::record::Record;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Load;
use agent_tests::standin::Wire;
use agent_tests::truth::Truth;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeSet;

/// Of the mix `under_way`, and the seats of the scenarios: the others wait.
const REQUESTS: usize = 12;
const SEATS: u64 = 9;
/// What an engine sent last its front end may not have read, and what that read not have written.
const CROSSING: u64 = 20;

#[test]
fn a_killed_engine_core() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let (player, load) = under_way(&mut stage, "few_seats")?;
    let pids = player.pids;
    signal(u32::try_from(pids[1])?, "KILL")?;
    let seen = load.finish()?;
    stage.until_forgotten(&BTreeSet::from([pids[1]]))?;
    let outcome = stage.leave(player, seen)?;
    stage.until_empty()?;
    assert_eq!(stage.agent.records(&pids)?.len(), REQUESTS);
    let mut tokens = 0;
    for truth in &outcome.truths {
        let record = of(&outcome.records, truth.temperature)?;
        assert!(record.error_type.is_some());
        assert_eq!(record.incomplete, None);
        tokens += holds(record, truth)?;
    }
    assert!(tokens > SEATS, "the engine was at work");
    Ok(())
}

#[test]
fn a_killed_front_end_and_the_engine_core_that_ends_with_it() -> Result<()> {
    killed_front_end("few_seats")
}

/// It goes on with the requests for a while; nobody waits for them, but it is traced until it ends.
#[test]
fn a_killed_front_end_and_the_engine_core_that_outlives_it() -> Result<()> {
    killed_front_end("orphan")
}

fn killed_front_end(scenario: &str) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let (mut player, load) = under_way(&mut stage, scenario)?;
    player.standin.kill()?;
    let seen = load.finish()?;
    stage.until_recorded(&player, REQUESTS)?;
    stage.until_empty()?;
    let records = stage.agent.records(&player.pids)?;
    assert_eq!(records.len(), REQUESTS);
    for seen in &seen {
        assert_eq!(seen.end.as_deref(), Some("closed"), "{:?}", seen.failed);
        let record = of(&records, Some(seen.temperature))?;
        assert_eq!(record.error_type.as_deref(), Some("process_gone"));
        assert_eq!(record.incomplete.as_deref(), Some(&["unfinished".to_owned()][..]));
        assert_eq!(record.status.as_u64(), seen.status.map(u64::from));
        if let Some(tokens) = record.output_tokens {
            // Every piece of the stream has a token, or several where the front end was late. The write that it was
            // killed in never returned to it.
            let pieces = seen.content_chunks.saturating_sub(1)..=seen.content_chunks + CROSSING;
            assert!(pieces.contains(&tokens), "{pieces:?}: {record:?}");
        } else {
            assert_eq!(record.join, "ambiguous");
        }
    }
    Ok(())
}

/// An engine with requests under way.
fn under_way(stage: &mut Stage, scenario: &str) -> Result<(Player, Load)> {
    let mut player = stage.enter(Birth::New, scenario, Wire::Plain)?;
    let load = player.begin("under_way")?;
    stage.until_under_way(&player, u64::try_from(REQUESTS)?, SEATS)?;
    Ok((player, load))
}

fn of(records: &[Record], temperature: Option<f64>) -> Result<&Record> {
    let mut found = records.iter().filter(|record| record.params.temperature == temperature);
    let record = found.next().with_context(|| format!("no record of {temperature:?}"))?;
    anyhow::ensure!(found.next().is_none(), "several records of {temperature:?}");
    Ok(record)
}

/// Holds the tokens of a record against what the front end had got from the engine and passed on; gives their number.
fn holds(record: &Record, truth: &Truth) -> Result<u64> {
    if record.join == "ambiguous" {
        assert_eq!(truth.x_request_id.as_deref(), Some("same-same_id"));
        return Ok(0);
    }
    let ids = |record: &Record| record.engine_requests.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(record), truth.engine.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
    let taken = truth.engine.iter().flat_map(|one| &one.taken).map(|(_, tokens)| tokens).sum::<u64>();
    let made = record.engine_tokens.context("no engine_tokens")?;
    assert!((taken..=taken + CROSSING).contains(&made), "{record:?}");
    let delivered = truth.output_tokens.context("no output_tokens")?;
    let told = record.output_tokens.context("no output_tokens")?;
    assert!((delivered..=made).contains(&told), "{record:?}");
    Ok(made)
}
