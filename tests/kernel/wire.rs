//! What HTTP does: gaps, TLS, pipelining, crowds, long prompts, slow readers.

use crate::verified;
use agent_tests::experiment;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::standin::Wire;
use agent_tests::truth::Bracket;
use anyhow::Context as _;
use anyhow::Result;

const GAP_NS: u64 = 50_000_000;

#[test]
fn a_mix_of_everything() -> Result<()> {
    verified("plain", "mixed", Wire::Plain).map(drop)
}

#[test]
fn a_mix_of_everything_under_tls() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let outcome = experiment::run(&tools, Plan { scenario: "plain", mix: "mixed", wire: Wire::Tls })?;
    // An end has two instants here, the farewell inside the session and the socket's own some writes later;
    // the agent takes the farewell, the truth knows the other.
    outcome.verify_but(&["client_leaves", "client_resets", "server_breaks"], &["finished", "output_tokens"]).map(drop)
}

#[test]
fn a_mix_of_everything_over_a_unix_socket() -> Result<()> {
    let Some(outcome) = verified("plain", "mixed", Wire::Unix)? else { return Ok(()) };
    // The kernel stamps nothing there, and the client makes nothing up.
    assert!(outcome.seen.iter().all(|seen| seen.first_content.is_none() && seen.last.is_none()));
    Ok(())
}

#[test]
fn head_comment_role_empty_and_content_are_different_instants() -> Result<()> {
    let Some(outcome) = verified("plain", "gaps", Wire::Plain)? else { return Ok(()) };
    let mut count = 0;
    for (record, truth) in outcome.of("gaps") {
        let wire = &truth.instants;
        let order: Option<Vec<Bracket>> =
            [wire.first_byte, wire.comment, wire.role, wire.empty, wire.first_content].into_iter().collect();
        for pair in order.context("an instant is missing from the truth")?.windows(2) {
            assert!(pair[1].0 - pair[0].1 >= GAP_NS, "the scenario keeps them apart");
        }
        let first_byte = record.instants.first_byte.context("no first byte")?;
        let first_content = record.instants.first_content.context("no first content")?;
        assert!(first_content - first_byte >= 4 * GAP_NS);
        count += 1;
    }
    assert_eq!(count, 40);
    Ok(())
}

#[test]
fn pipelined_requests_and_requests_in_pieces() -> Result<()> {
    verified("plain", "pipelined", Wire::Plain).map(drop)
}

#[test]
fn two_hundred_streams_at_once() -> Result<()> {
    verified("plain", "crowd", Wire::Plain).map(drop)
}

#[test]
fn two_hundred_streams_at_once_under_tls() -> Result<()> {
    verified("plain", "crowd", Wire::Tls).map(drop)
}

#[test]
fn a_prompt_of_5_mb_with_the_model_behind_it() -> Result<()> {
    verified("long", "long", Wire::Plain).map(drop)
}

#[test]
fn a_slow_reader_blocks_the_server_and_no_other_reader_does() -> Result<()> {
    let Some(outcome) = verified("slow", "slow", Wire::Plain)? else { return Ok(()) };
    for (record, _) in outcome.of("slow") {
        assert!(record.blocked_seconds.context("no blocked_seconds")? > 0.5);
    }
    for (record, _) in outcome.of("brisk") {
        assert_eq!(record.blocked_seconds, Some(0.0));
    }
    Ok(())
}
