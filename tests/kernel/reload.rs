//! Settings read anew on SIGHUP: what they change, what a bad file does not, and that no request notices.

use agent_tests::agent::metric;
use agent_tests::agent::traced;
use agent_tests::collector::Collector;
use agent_tests::gate;
use agent_tests::gate::Tools;
use agent_tests::process::Running;
use agent_tests::process::signal;
use agent_tests::scratch::Scratch;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const READ: Duration = Duration::from_secs(10);
const SENT: Duration = Duration::from_secs(15);
const TIME: &str = "tachograph_config_last_reload_success_timestamp_seconds";
const SUCCESSFUL: &str = "tachograph_config_last_reload_successful";
const FAILURES: &str = "tachograph_agent_config_reload_failures_total";

/// An agent with a settings file, empty at first, and that file.
fn staged(tools: &Tools, scratch: &Scratch, more: &[(&str, &str)]) -> Result<(Stage, PathBuf)> {
    let file = scratch.file("tachograph.toml");
    std::fs::write(&file, "")?;
    let named = ("TACHOGRAPH_CONFIG", file.to_str().context("no path")?);
    let settings: Vec<(&str, &str)> = more.iter().copied().chain([named]).collect();
    Ok((Stage::open_with(tools, &settings)?, file))
}

/// Has the agent read this file; whether it could use it.
fn reads(stage: &Stage, file: &Path, text: &str) -> Result<bool> {
    let said = |page: &str| Ok::<_, anyhow::Error>((metric(page, TIME)?, metric(page, FAILURES)?));
    let before = said(&stage.agent.metrics()?)?;
    std::fs::write(file, text)?;
    signal(stage.agent.pid(), "HUP")?;
    let page = stage.agent.metrics_when(READ, |page| said(page).is_ok_and(|now| now != before))?;
    ensure!(said(&page)? != before, "nothing was read");
    Ok(metric(&page, SUCCESSFUL)? > 0.0)
}

#[test]
fn no_request_is_lost_while_settings_change() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (scratch, collector) = (Scratch::new("reload-load")?, Collector::start()?);
    let url = collector.logs_url();
    let (mut stage, file) = staged(&tools, &scratch, &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &url)])?;
    let mut player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let load = player.begin("mixed")?;
    for round in 1..=20 {
        // Another threshold for the histograms, another exporter, other work for ring and keeper.
        let text = format!(
            "[slo]\nttft_seconds = 0.{round}\n[otlp]\ninterval_seconds = {round}\n[content]\ncapture = {}\n\
             [discover]\ninterval_seconds = {round}\n[scrape]\ninterval_seconds = {round}\n",
            round % 2 == 0
        );
        ensure!(reads(&stage, &file, &text)?, "{text}");
    }
    let seen = load.finish()?;
    let (count, pid) = (seen.len(), player.pids[0]);
    stage.leave(player, seen)?.verify()?;
    let requests = stage.agent.requests()?.into_iter();
    let ours = requests.filter(|request| request.pointer("/target/pid").and_then(Value::as_u64) == Some(pid));
    let spans: BTreeSet<String> = ours.map(|request| request["span_id"].to_string()).collect();
    let logs = collector.when(spans.len(), SENT, |log| spans.contains(&log["span_id"].to_string()))?;
    assert!(spans.len() >= count && logs.len() == spans.len(), "{} logs of {} requests", logs.len(), spans.len());
    Ok(())
}

#[test]
fn a_good_file_changes_what_it_says_and_a_bad_one_nothing() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let scratch = Scratch::new("reload")?;
    let (stage, file) = staged(&tools, &scratch, &[])?;
    let mut sleeper = Running::start("sleep", Command::new("sleep").arg("60"), scratch.file("sleep.log"))?;
    let target = format!("[discover]\ninterval_seconds = 0.1\n[[targets]]\npid = {}\n", sleeper.pid());
    let pid = u64::from(sleeper.pid());
    let is_traced = || stage.agent.until(|snapshot| traced(snapshot).contains(&pid));
    assert!(reads(&stage, &file, &target)?);
    is_traced()?;
    for (text, says) in [
        ("\n[slo]\nttft = 1\n", &["line 3", "`ttft`", "`ttft_seconds`"][..]),
        ("ring_bytes = 'x'\n", &["line 1", "ring_bytes"]),
        ("[serve]\nbasic_auth_file = '/none'\n", &["serve.basic_auth_file: /none: "]),
        ("[otlp]\nendpoint = 'http://c'\nprotocol = 'ftp'\n", &["otlp.protocol", "line 3", "neither grpc nor"]),
    ] {
        assert!(!reads(&stage, &file, text)?, "{text}");
        is_traced()?;
        let words = stage.agent.words();
        let said = words.lines().rfind(|line| line.contains("cannot be used")).unwrap_or_default();
        assert!(says.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
    assert!(reads(&stage, &file, &format!("ring_bytes = 65536\nlevel = 'head'\n{target}"))?);
    assert!(stage.agent.words().contains("need a restart settings=\"ring_bytes, level\""), "{}", stage.agent.words());
    assert!(reads(&stage, &file, "")?);
    stage.agent.until(|snapshot| !traced(snapshot).contains(&pid))?;
    sleeper.kill()
}
