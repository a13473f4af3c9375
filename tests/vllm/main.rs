//! A real vLLM under load in; the agent's records held against the clients' and vLLM's own word out.
//!
//! Run by `cargo xtask test --vllm`, which makes the environment; anything else skips it and says so.

#![expect(clippy::print_stdout, reason = "the suite's result is a table")]

mod door;
mod gpus;
mod neighbours;
mod process;
mod run;
mod server;
mod table;
mod trouble;
mod truth;
mod unequal;

use crate::run::Case;
use crate::run::First;
use crate::run::Place;
use crate::run::Start;
use agent_tests::standin::Wire;

/// Requests of each kind, and in all, that the full load must have.
const OF_EACH: usize = 20;
const IN_ALL: usize = 300;
/// Streams without usage among them.
const WITHOUT_USAGE: usize = 100;

/// Where vLLM and the agent are; nothing, with the reason printed, where the suite cannot run.
fn place() -> anyhow::Result<Option<Place>> {
    let found = Place::find();
    if found.is_none() {
        let why = "TACHOGRAPH_VLLM_ENV names no vLLM; `cargo xtask test --vllm` makes one";
        let strict = std::env::var("TACHOGRAPH_TESTS").is_ok_and(|tests| tests == "strict");
        anyhow::ensure!(!strict, "{why}");
        println!("skipped: {why}");
    }
    Ok(found)
}

fn try_out(case: &Case) -> anyhow::Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let ground = place.run(case)?;
    let wrong = table::judge(case, &ground);
    anyhow::ensure!(wrong.is_empty(), "{}:\n{}", case.name, wrong.join("\n"));
    if case.share == "1" {
        let saw = &ground.saw;
        let least = saw.iter().map(|it| saw.iter().filter(|other| other.kind == it.kind).count()).min();
        let without = saw.iter().filter(|it| it.stream && it.usage.is_none() && it.is_whole()).count();
        anyhow::ensure!(saw.len() >= IN_ALL && least >= Some(OF_EACH) && without >= WITHOUT_USAGE, "too few requests");
    }
    Ok(())
}

/// A vLLM with nothing but what every case has.
const PLAIN: Case = Case {
    name: "python",
    flags: &[],
    environment: &[],
    first: First::Engine,
    has_spans: true,
    counts_aborted: false,
    share: "1",
    wire: Wire::Plain,
    start: Start::Command,
    through: &[],
};

#[test]
fn the_python_front_end() -> anyhow::Result<()> {
    try_out(&PLAIN)
}

#[test]
fn the_rust_front_end() -> anyhow::Result<()> {
    let environment = &[("VLLM_USE_RUST_FRONTEND", "1")];
    try_out(&Case { name: "rust", environment, first: First::Agent, has_spans: false, counts_aborted: true, ..PLAIN })
}

#[test]
fn two_api_servers() -> anyhow::Result<()> {
    try_out(&Case { name: "two-servers", flags: &["--api-server-count", "2"], share: "0.3", ..PLAIN })
}

#[test]
fn statistics_off() -> anyhow::Result<()> {
    try_out(&Case { name: "no-stats", flags: &["--disable-log-stats"], has_spans: false, share: "0.3", ..PLAIN })
}

#[test]
fn tls_of_the_rust_front_end() -> anyhow::Result<()> {
    let environment = &[("VLLM_USE_RUST_FRONTEND", "1")];
    let case = Case { name: "rust-tls", environment, has_spans: false, counts_aborted: true, ..PLAIN };
    try_out(&Case { wire: Wire::Tls, share: "0.3", ..case })
}

#[test]
fn data_parallel() -> anyhow::Result<()> {
    try_out(&Case { name: "data-parallel", flags: &["--data-parallel-size", "2"], share: "0.1", ..PLAIN })
}
