//! Collector, Loki and Tempo with the kit's settings, where they can be had: what the agent saw is found again in each.

use crate::chain::Kit;
use crate::programs::Programs;
use crate::programs::output;
use crate::prometheus::exemplars;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const RECORDS: Duration = Duration::from_secs(15);
const ARRIVAL: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(500);
const TTFT: &str = "gen_ai_server_time_to_first_token_seconds";
/// As the mix has them.
const OF_THE_USER: usize = 30;

/// Asks until there is an answer.
fn when<T>(what: &str, ask: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = System.now().plus(ARRIVAL);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(System.now() < deadline, "{what}: not there after {ARRIVAL:?}");
        std::thread::sleep(EVERY);
    }
}

#[test]
fn what_the_agent_saw_is_found_again() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("whole")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let collector = http::free_port()?;
    let url = format!("http://127.0.0.1:{collector}");
    let settings = [("TACHOGRAPH_OTLP_ENDPOINT", url.as_str()), ("TACHOGRAPH_OTLP_PROTOCOL", "grpc")];
    let agent = Agent::start(&programs.tools.agent, &scratch, &settings)?;
    let kit = Kit::render(&programs, &scratch, &[(9478, agent.port()), (4317, collector)])?;
    let (Some(_loki), Some(_tempo), Some(_collector), Some(_)) = (
        kit.built("loki", &scratch)?,
        kit.built("tempo", &scratch)?,
        kit.built("otelcol", &scratch)?,
        Programs::built("logcli"),
    ) else {
        return Ok(());
    };
    let prometheus = kit.prometheus(&programs, &scratch)?;
    let seen = standin.load(&scratch, "users", 0)?;
    agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;
    let mut requests = agent.requests()?;
    requests.retain(|request| request["target"]["pid"].as_u64() == Some(standin.pid()));

    let labels = when("exemplars", || {
        let found = exemplars(&prometheus, &requests, TTFT)?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    for labels in &labels {
        let request =
            requests.iter().find(|request| request["span_id"] == labels["span_id"]).context("of no request")?;
        let trace = labels["trace_id"].as_str().context("no trace")?;
        let path = format!("/api/v2/traces/{trace}");
        let serial = format!(r#"{{"key":"tachograph.serial","value":{{"intValue":"{}"}}}}"#, request["id"]);
        when(&path, || Ok(http::get(kit.port(3200), &path).ok().filter(|trace| trace.contains(&serial))))?;
    }
    println!("{} exemplars of {TTFT}: each led to the trace of its request", labels.len());

    // As the guide has them.
    let loki = format!("http://127.0.0.1:{}", kit.port(3100));
    let logcli = |arguments: &[&str]| -> Result<String> {
        let mut command = Programs::built("logcli").context("it was there")?;
        output(command.env("LOKI_ADDR", &loki).args(["--quiet", "--output=raw"]).args(arguments))
    };
    let of_the_user = when("logs of a user", || {
        let words =
            logcli(&["query", r#"{job="llm-requests"} |= "user_id=user_abc123""#, "--since=1h", "--limit=1000"])?;
        let lines: Vec<Value> = words.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok((lines.len() >= OF_THE_USER).then_some(lines))
    })?;
    assert_eq!(of_the_user.len(), OF_THE_USER);
    for line in &of_the_user {
        let request = requests.iter().find(|request| request["span_id"] == line["span_id"]).context("of no request")?;
        assert_eq!((&request["user"], &request["input_tokens"]), (&line["user_id"], &line["prompt_tokens"]));
    }
    let rate = r#"rate({job="llm-requests"} | json | status="error"[5m])"#;
    let rates: Value = when("rate of errors", || {
        let rates: Value = serde_json::from_str(&logcli(&["query", rate, "--step=1m"])?)?;
        Ok(rates.as_array().is_some_and(|series| !series.is_empty()).then_some(rates))
    })?;
    println!("logs of user_abc123: {}; {rate}: {} series", of_the_user.len(), rates.as_array().map_or(0, Vec::len));
    let failed = requests.iter().filter(|request| request["status"] == 500).count();
    ensure!(failed > 0 && rates.to_string().contains("500"), "{failed} failed; {rates}");
    agent.stop()?;
    Ok(())
}
