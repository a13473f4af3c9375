//! The agent, started as root, keeps what recording needs and nothing else, in every thread; the whole suite runs so.

use agent_tests::gate;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use tachograph::attach::object::Way;
use tachograph::run::privileges::READS;
use tachograph::run::privileges::needed;

#[test]
fn no_thread_holds_more_than_recording_needs() -> Result<()> {
    least(Way::offered())
}

#[test]
fn no_thread_holds_more_where_perf_events_need_it() -> Result<()> {
    least(Way::Events)
}

fn least(way: Way) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open_by(&tools, way)?;
    let mut player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let seen = player.load("calm")?;
    let needed = needed(way).map(|(capability, _)| capability).chain([READS]);
    let needed: u64 = needed.map(|capability| capability.bitmask()).sum();
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", stage.agent.pid()))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        for (set, expected) in
            [("CapEff", needed), ("CapPrm", needed), ("CapBnd", needed), ("CapInh", 0), ("CapAmb", 0)]
        {
            let line = status.lines().find_map(|line| line.strip_prefix(set)).context("no such set")?;
            assert_eq!(u64::from_str_radix(line.trim_start_matches([':', '\t']), 16)?, expected, "{set} of\n{status}");
        }
        threads += 1;
    }
    assert!(threads > 3, "{threads} threads");
    stage.leave(player, seen)?.verify().map(drop)
}
