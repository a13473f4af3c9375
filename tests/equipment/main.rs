//! The equipment itself, without an agent: the truth against what the client saw with the kernel's own stamps. Also what
//! others judge: the unit and the chart.

mod chart;
mod nvml;
mod unit;

use agent_tests::experiment::Plan;
use agent_tests::experiment::rehearse;
use agent_tests::gate;
use agent_tests::standin::Seen;
use agent_tests::standin::Stamp;
use agent_tests::standin::Wire;
use agent_tests::truth::Bracket;
use agent_tests::truth::End;
use agent_tests::truth::Truth;
use anyhow::Context as _;
use anyhow::Result;

/// Wider brackets would hide what they are there to show.
const WIDEST_P99_NS: u64 = 1_000_000;

/// Runs a plan; each request as the client saw it, with its truth.
fn pairs(scenario: &str, mix: &str, wire: Wire) -> Result<Vec<(Seen, Truth)>> {
    let Some(python) = gate::equipment()? else { return Ok(Vec::new()) };
    let (seen, truths) = rehearse(&python, Plan { scenario, mix, wire })?;
    assert_eq!(seen.len(), truths.len());
    let find = |seen: Seen| {
        let truth = truths.iter().find(|truth| truth.temperature == Some(seen.temperature));
        let truth = truth.with_context(|| format!("no truth of {}", seen.temperature))?.clone();
        Ok((seen, truth))
    };
    seen.into_iter().map(find).collect()
}

/// Whether the kernel received within the bracket of the write, as far as its stamp can tell.
fn within(stamp: Stamp, bracket: Bracket) -> bool {
    Bracket(bracket.0.saturating_sub(stamp.error), bracket.1.saturating_add(stamp.error)).holds(stamp.at)
}

fn stamps_lie_in_brackets(pairs: &[(Seen, Truth)]) -> usize {
    let mut count = 0;
    for (seen, truth) in pairs.iter().filter(|(_, truth)| truth.end == End::Complete) {
        let finished = Some(truth.instants.finished);
        for (stamp, bracket) in [(seen.first_content, truth.instants.first_content), (seen.last, finished)] {
            if let (Some(stamp), Some(bracket)) = (stamp.filter(|stamp| !stamp.joined), bracket) {
                assert!(within(stamp, bracket), "{}: {} not in {} to {}", seen.kind, stamp.at, bracket.0, bracket.1);
                count += 1;
            }
        }
    }
    count
}

fn instants_are_in_order(pairs: &[(Seen, Truth)]) {
    for (_, truth) in pairs {
        let order = truth.instants.in_order();
        for (earlier, later) in order.iter().zip(order.iter().skip(1)) {
            assert!(earlier.0 <= later.1, "{}", truth.temperature.unwrap_or_default());
        }
    }
}

#[test]
fn the_client_receives_within_the_brackets() -> Result<()> {
    let pairs = pairs("plain", "mixed", Wire::Plain)?;
    instants_are_in_order(&pairs);
    assert!(pairs.is_empty() || stamps_lie_in_brackets(&pairs) > pairs.len() / 2);
    let complete = pairs.iter().filter(|(_, truth)| truth.end == End::Complete);
    let mut widths: Vec<u64> = complete.flat_map(|(_, truth)| truth.instants.in_order()).map(Bracket::width).collect();
    widths.sort_unstable();
    assert!(widths.get(widths.len() * 99 / 100).is_none_or(|p99| *p99 <= WIDEST_P99_NS));
    Ok(())
}

#[test]
fn tls_changes_nothing_but_the_stamps() -> Result<()> {
    let pairs = pairs("plain", "mixed", Wire::Tls)?;
    instants_are_in_order(&pairs);
    assert_eq!(stamps_lie_in_brackets(&pairs), 0);
    Ok(())
}

#[test]
fn a_unix_socket_changes_nothing_but_the_stamps() -> Result<()> {
    let pairs = pairs("plain", "mixed", Wire::Unix)?;
    instants_are_in_order(&pairs);
    assert!(pairs.iter().all(|(seen, _)| seen.first_content.is_none() && seen.last.is_none()));
    Ok(())
}

#[test]
fn slow_readers_and_pipelines_keep_the_order() -> Result<()> {
    for (scenario, mix) in [("slow", "slow"), ("plain", "pipelined")] {
        let pairs = pairs(scenario, mix, Wire::Plain)?;
        instants_are_in_order(&pairs);
    }
    Ok(())
}

#[test]
fn pressure_makes_preemptions_and_early_leavers() -> Result<()> {
    let pairs = pairs("pressure", "queue", Wire::Plain)?;
    if pairs.is_empty() {
        return Ok(());
    }
    instants_are_in_order(&pairs);
    assert!(pairs.iter().flat_map(|(_, truth)| &truth.engine).any(|one| one.preemptions > 0));
    assert!(pairs.iter().any(|(_, truth)| truth.end == End::ClientGone && truth.status.is_none()));
    Ok(())
}

/// Holds the stand-in's messages against recordings of one version; what it says, and whether they are alike.
fn held_against(version: &str) -> Result<Option<(bool, String)>> {
    let Some(python) = gate::equipment()? else { return Ok(None) };
    let output = python.standin().args(["recorded", &format!("fixtures/engine_core/{version}")]).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(Some((output.status.success(), String::from_utf8_lossy(&said).into_owned())))
}

#[test]
fn messages_have_the_shape_of_those_of_a_real_engine() -> Result<()> {
    let Some((alike, said)) = held_against("0.32.0")? else { return Ok(()) };
    assert!(alike, "{said}");
    // What changed between two versions is named: the comparison sees positions and keys.
    let Some((alike, said)) = held_against("0.24.0")? else { return Ok(()) };
    assert!(!alike);
    for place in ["add[3].watermarking: ours bool, recorded absent", "first[1][0][11]: ", "first[8]: ours str"] {
        assert!(said.contains(place), "{place} is not in\n{said}");
    }
    Ok(())
}
