//! The list of checks, in order: the same for a person and for CI. The agent that they try is the one that is shipped.

use crate::dist;
use crate::setup;
use crate::stack;
use crate::step::cargo;
use crate::step::is_root;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use crate::vllm;
use anyhow::Context as _;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Everything that needs no vLLM.
pub(crate) fn plain() -> Result<()> {
    setup::build_tools()?;
    let standin = setup::standin()?;
    let nvml = setup::nvml()?;
    setup::systemd()?;
    setup::containers()?;
    let chart = setup::chart()?;
    setup::image()?;
    let stack = stack::environment()?;
    let clean = setup::clean_root()?;
    let made = dist::all()?;
    step("the same sources make the same files", || dist::again(&made))?;

    step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])))?;
    // The programs are linted as host code; the folder of their own keeps the other flags from rebuilding the rest.
    step("clippy of the eBPF programs", || {
        let mut clippy = cargo();
        clippy.args(["clippy", "-p", "agent-ebpf", "--features", "bpf", "--target-dir"]);
        clippy.arg(root().join("target/probes")).args(["--", "-D", "warnings"]);
        run(clippy.env("RUSTFLAGS", "-C panic=abort"))
    })?;
    step("unit, layout and doc tests", || run(cargo().args(["test", "--workspace", "--exclude", "agent-tests"])))?;
    step("micro-benchmarks, once each", || run(cargo().args(["test", "-p", "tachograph", "--bench", "line"])))?;
    step("tests of the harness", || run(cargo().args(["test", "-p", "agent-tests", "--lib"])))?;
    let mut equipment = equipment(made.agent, standin, stack, nvml);
    equipment.extend([("TACHOGRAPH_CHART", chart), ("TACHOGRAPH_DIST", made.folder), ("TACHOGRAPH_ROOT", clean)]);
    for suite in suites()?.iter().filter(|suite| *suite != "vllm") {
        run_suite(suite, &equipment)?;
    }
    step("documentation", || run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")))
}

/// The suite with the programs of a monitoring stack.
pub(crate) fn stack() -> Result<()> {
    setup::build_tools()?;
    let (standin, nvml, stack) = (setup::standin()?, setup::nvml()?, stack::environment()?);
    run_suite("stack", &equipment(dist::agent()?, standin, stack, nvml))
}

/// What suites are given, by the variables that name it.
fn equipment(agent: PathBuf, standin: PathBuf, stack: PathBuf, nvml: PathBuf) -> Vec<(&'static str, PathBuf)> {
    vec![
        ("TACHOGRAPH_BIN", agent),
        ("TACHOGRAPH_STANDIN_PYTHON", standin),
        ("TACHOGRAPH_STACK", stack),
        ("TACHOGRAPH_NVML_PYTHON", nvml),
    ]
}

fn run_suite(suite: &str, equipment: &[(&str, PathBuf)]) -> Result<()> {
    step(&format!("suite {suite}"), || {
        let mut test = cargo();
        // What a test says of its numbers is shown, a test at a time.
        test.args(["test", "-p", "agent-tests", "--test", suite, "--", "--show-output"]);
        test.envs(equipment.iter().map(|(name, path)| (name, path)));
        if !is_root() {
            test.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
            test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
        }
        run(&mut test)
    })
}

/// The suite against a real vLLM.
pub(crate) fn vllm() -> Result<()> {
    let environment = vllm::environment(vllm::VERSION)?;
    let agent = dist::agent()?;
    step("suite vllm", || {
        let mut test = cargo();
        test.args(["test", "-p", "agent-tests", "--test", "vllm", "--", "--nocapture", "--test-threads=1"]);
        test.env("TACHOGRAPH_BIN", agent);
        test.env("TACHOGRAPH_VLLM_ENV", environment.folder).env("TACHOGRAPH_VLLM_MODEL", environment.model);
        if !is_root() {
            test.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
        }
        run(&mut test)
    })
}

/// Rewrites what tests compare with, and what is generated.
pub(crate) fn bless() -> Result<()> {
    step("bless", || run(cargo().args(["test", "-p", "tachograph", "--lib"]).env("TACHOGRAPH_BLESS", "1")))?;
    step("changes", || run(Command::new("git").current_dir(root()).args(["status", "--short"])))
}

/// The suites that the package of the tests declares.
fn suites() -> Result<Vec<String>> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata.get("packages").and_then(|packages| packages.as_array()).context("no packages")?;
    let tests = packages.iter().find(|package| package["name"] == "agent-tests").context("no package agent-tests")?;
    let targets = tests["targets"].as_array().context("no targets")?;
    let suites = targets.iter().filter(|target| target.pointer("/kind/0").is_some_and(|kind| kind == "test"));
    Ok(suites.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}
