//! A ring that is much too small: each loss is a mark on what it damaged, and each mark is a loss.

use agent_tests::account::Standing;
use agent_tests::account::account;
use agent_tests::experiment;
use agent_tests::experiment::Outcome;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::record::Record;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

/// So long an agent takes an engine request without an exchange for one that had begun before it came.
const FIRST_SECOND: u64 = 1_000_000_000;
const SMALL_RING: [(&str, &str); 2] = [("TACHOGRAPH_RING_BYTES", "65536"), ("TACHOGRAPH_KEEP_LOSSES", "true")];

#[test]
fn in_a_crowd() -> Result<()> {
    overloaded("plain", "crowd")
}

#[test]
fn under_big_batches() -> Result<()> {
    overloaded("batch", "batch")
}

fn overloaded(scenario: &str, mix: &str) -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let outcome = experiment::run_with(&tools, Plan { scenario, mix, wire: Wire::Plain }, &SMALL_RING)?;
    ensure!(!outcome.losses.is_empty(), "the ring was too big: nothing was lost");
    let entries = account(&outcome.records, &outcome.truths)?;
    for entry in entries.iter().filter(|entry| entry.standing == Standing::Missing) {
        let (pid, fd) = (u32::try_from(entry.truth.pid)?, entry.truth.fd);
        ensure!(outcome.losses.on(pid, fd, None), "missing, and nothing of it was lost: {:?}", entry.truth);
    }
    for record in &outcome.records {
        for mark in record.incomplete.iter().flatten() {
            ensure!(justified(&outcome, record, mark)?, "{mark}, and nothing was lost: {record:?}");
        }
    }
    ensure!(entries.iter().any(|entry| entry.standing == Standing::Marked), "no request was damaged in part");
    Ok(())
}

/// Whether what the kernel side lost explains a mark.
fn justified(outcome: &Outcome, record: &Record, mark: &str) -> Result<bool> {
    let truth = outcome.truths.first().context("no truth")?;
    let (server, core) = (u32::try_from(truth.pid)?, u32::try_from(truth.core_pid)?);
    Ok(match (mark, record.connection) {
        ("records_lost", Some(connection)) => outcome.losses.on(server, connection.fd, Some(connection.opened)),
        ("records_lost", None) => outcome.losses.on_any(server),
        ("engine_messages_lost", _) => outcome.losses.in_engine(core),
        ("attached_late", None) => began(outcome, record) < FIRST_SECOND,
        _ => false,
    })
}

/// How long after the first request of all the engine got a record's own, nanoseconds.
fn began(outcome: &Outcome, record: &Record) -> u64 {
    let first = outcome.truths.iter().map(|truth| truth.instants.accepted.0).min();
    let own = record.engine_requests.iter().filter_map(|one| one.instants.added.or(one.instants.queued)).min();
    own.zip(first).map_or(u64::MAX, |(own, first)| own.saturating_sub(first))
}
