//! Agents that are not there all the time: what they did not see is missing, what they saw in part is marked.

use agent_tests::absence;
use agent_tests::gate;
use anyhow::Result;

const STREAMS: usize = 50;

#[test]
fn fifty_streams_under_way_when_the_agent_comes() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let outcome = absence::late(&tools, "late", 50.0)?;
    let [right, marked, missing] = outcome.verify()?;
    assert_eq!((marked, missing), (STREAMS, 0), "and {right} right");
    let records: Vec<_> = outcome.records()?.into_iter().flatten().collect();
    let late: Vec<_> = records.iter().filter(|record| record.incomplete.is_some()).collect();
    assert_eq!(late.len(), STREAMS, "one record each");
    for record in late {
        assert_eq!(record.incomplete.as_deref(), Some(&["attached_late".to_owned()][..]));
        assert_eq!((record.join.as_str(), record.status.as_str()), ("engine_only", Some("unobserved")));
    }
    Ok(())
}

#[test]
fn an_agent_that_ends_under_load_and_comes_again() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let outcome = absence::restarted(&tools, "steady", 250)?;
    let [right, marked, missing] = outcome.verify()?;
    let records = outcome.records()?;
    let why = |watch: usize, reason: &str| {
        let marks = records.get(watch).into_iter().flatten().filter_map(|record| record.incomplete.as_ref());
        marks.filter(|marks| marks.iter().any(|mark| mark == reason)).count()
    };
    assert!(
        why(0, "unfinished") > 0 && why(1, "attached_late") > 0,
        "{right} right, {marked} marked, {missing} missing"
    );
    Ok(())
}
