//! A version of vLLM in; messages of its engine core, recorded by the agent, as fixtures out.

use crate::agent;
use crate::agent::Profile;
use crate::http;
use crate::process::Running;
use crate::step::as_root;
use crate::step::cache;
use crate::step::cargo;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use crate::vllm;
use crate::vllm::Environment;
use anyhow::Context as _;
use anyhow::Result;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

mod page;

pub(crate) use page::record as record_page;

/// How long an engine has to come up.
const START: Duration = Duration::from_mins(10);
/// How long the agent has to find it.
const FIND: Duration = Duration::from_mins(1);
/// From the last request to the last of its messages.
const SETTLE: Duration = Duration::from_secs(2);
/// Its caller leaves.
const LEFT: &str = "recorded-left";
/// More than the head and the first token of the stream that is left.
const FIRST_BYTES: u64 = 400;

/// Starts that vLLM and an agent, sends a few requests, and keeps what the engine core said.
pub(crate) fn record(version: &str) -> Result<()> {
    let environment = vllm::environment(version)?;
    let agent = agent::build(Profile::Debug)?;
    let work = cache()?.join(format!("record-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let tape = work.join("tape");
    let recorded = on_tape(&environment, &agent, &work, &tape).and_then(|()| keep(version, &tape));
    std::fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    recorded.and_then(|()| record_page(version))
}

fn on_tape(environment: &Environment, agent: &Path, work: &Path, tape: &Path) -> Result<()> {
    let port = http::free_port()?;
    let _engine = step("engine", || {
        let mut engine =
            Running::start("engine", &mut vllm::serve(&environment.folder, &environment.model, port), work)?;
        engine.until(START, || http::get(port, "/health").is_ok())?;
        Ok(engine)
    })?;
    step("tape", || {
        let mut command = as_root(agent.to_str().context("a path that is no text")?);
        command.args(["record", "--with-content", "--out"]).arg(tape);
        let mut recorder = Running::start("agent", &mut command, work)?;
        let log = work.join("agent.log");
        recorder.until(FIND, || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("role=Core") && log.contains("role=Frontend"))
        })?;
        for (id, request) in &requests()? {
            let path = request["path"].as_str().context("a request without a path")?;
            let answer = http::post(port, path, id, &request["body"].to_string())?;
            let most = if id == LEFT { FIRST_BYTES } else { u64::MAX };
            answer.take(most).read_to_end(&mut Vec::new())?;
        }
        std::thread::sleep(SETTLE);
        recorder.check()
    })
}

fn keep(version: &str, tape: &Path) -> Result<()> {
    step("fixtures", || {
        let folder = folder().join(version);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        run(cargo().args(["run", "-q", "-p", "agent-tests", "--bin", "frames", "--"]).arg(tape).arg(&folder))?;
        let mut sums = Command::new("sh");
        let sums = output(sums.current_dir(&folder).args(["-c", "sha256sum recorded-*.bin"]))?;
        std::fs::write(folder.join("SHA256SUMS"), sums + "\n")?;
        let (readme, row) = (self::folder().join("README.md"), format!("| `{version}` | recorded: "));
        let text = std::fs::read_to_string(&readme)?;
        if !text.contains(&row) {
            let made = format!("{row}`cargo xtask record-fixtures {version}`, a real vLLM on the CPU |\n");
            std::fs::write(&readme, text + &made)?;
        }
        Ok(())
    })
}

/// By their X-Request-Id, which is then looked for in the frames.
fn requests() -> Result<serde_json::Map<String, serde_json::Value>> {
    let file = folder().join("requests.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

fn folder() -> PathBuf {
    root().join("tests/fixtures/engine_core")
}

#[test]
fn recordings_are_what_they_were() {
    let mut versions = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("SHA256SUMS").exists() {
            versions += 1;
            output(Command::new("sha256sum").current_dir(&folder).args(["--strict", "-c", "SHA256SUMS"])).unwrap();
        }
    }
    assert!(versions > 0);
}
