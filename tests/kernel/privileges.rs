//! The agent, started as root, keeps what recording needs and nothing else, in every thread; the whole suite runs so.

use agent_tests::agent::PERF_EVENTS;
use agent_tests::gate;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use caps::Capability;
use tachograph::attach::object::Way;
use tachograph::run::privileges::Networks;
use tachograph::run::privileges::kept;

#[test]
fn no_thread_holds_more_than_recording_needs() -> Result<()> {
    least(Way::offered(), Networks::Own, &[])
}

#[test]
fn no_thread_holds_more_than_perf_events_need() -> Result<()> {
    least(Way::Events, Networks::Own, &[PERF_EVENTS])
}

#[test]
fn no_thread_holds_more_than_entering_networks_needs() -> Result<()> {
    least(Way::offered(), Networks::Theirs, &[("TACHOGRAPH_SCRAPE_NETWORK_NAMESPACES", "true")])
}

fn least(way: Way, networks: Networks, settings: &[(&str, &str)]) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open_with(&tools, settings)?;
    let mut player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let seen = player.load("calm")?;
    let kept: u64 = kept(way, networks).iter().map(Capability::bitmask).sum();
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", stage.agent.pid()))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        for (set, expected) in [("CapEff", kept), ("CapPrm", kept), ("CapBnd", kept), ("CapInh", 0), ("CapAmb", 0)] {
            let line = status.lines().find_map(|line| line.strip_prefix(set)).context("no such set")?;
            assert_eq!(u64::from_str_radix(line.trim_start_matches([':', '\t']), 16)?, expected, "{set} of\n{status}");
        }
        threads += 1;
    }
    assert!(threads > 3, "{threads} threads");
    stage.leave(player, seen)?.verify().map(drop)
}
