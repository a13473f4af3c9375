//! What the engine does: pressure, big batches, aux frames, no statistics.

use crate::verified;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;

#[test]
fn queues_chunked_prefill_preemption_and_who_left_the_queue() -> Result<()> {
    let Some(outcome) = verified("pressure", "queue", Wire::Plain)? else { return Ok(()) };
    let preemptions: u32 = outcome.truths.iter().flat_map(|truth| &truth.engine).map(|one| one.preemptions).sum();
    assert!(preemptions > 0, "the scenario preempts");
    for (record, truth) in outcome.of("queued") {
        let true_count: u32 = truth.engine.iter().map(|one| one.preemptions).sum();
        assert_eq!(record.preemptions, Some(u64::from(true_count)));
    }
    Ok(())
}

#[test]
fn more_than_a_thousand_outputs_in_one_message() -> Result<()> {
    let Some(outcome) = verified("batch", "batch", Wire::Plain)? else { return Ok(()) };
    let mut batches = std::collections::BTreeMap::new();
    for (at, _) in outcome.truths.iter().flat_map(|truth| &truth.engine).flat_map(|one| &one.steps) {
        *batches.entry(*at).or_insert(0_usize) += 1;
    }
    assert!(batches.values().max().context("no steps")? >= &1_024, "the scenario makes big batches");
    Ok(())
}

#[test]
fn log_probabilities_inline_and_in_frames_of_their_own() -> Result<()> {
    verified("plain", "frames", Wire::Plain).map(drop)
}

#[test]
fn an_engine_without_statistics_leaves_its_phases_unknown() -> Result<()> {
    let Some(outcome) = verified("nostats", "mixed", Wire::Plain)? else { return Ok(()) };
    for (record, _) in outcome.of("chat_stream") {
        assert_eq!((record.phases.queue, record.phases.prefill), (None, None));
        assert!(record.instants.first_output.is_some());
    }
    Ok(())
}
