//! The kit's Collector, Tempo and Loki at work: an exemplar leads to its trace, a record is found by its labels and its trace.
//!
//! They run on the kit's own settings, with other ports and folders.

use crate::evaluated::change;
use crate::evaluated::hastened;
use crate::evaluated::values;
use crate::kit;
use crate::programs::Programs;
use crate::programs::output;
use crate::prometheus::Prometheus;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const START: Duration = Duration::from_mins(1);
const RECORDS: Duration = Duration::from_mins(1);
/// What is sent is batched, and metrics of spans are made every 15 seconds.
const ARRIVES: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(250);
const TTFT: &str = "gen_ai_server_time_to_first_token_seconds";

/// The programs, each with the port at which it answers.
struct Stores {
    collector: Running,
    tempo: Running,
    loki: Running,
    otlp: u16,
    traces: u16,
    logs: u16,
}

impl Stores {
    /// `None` where one of them is not there, which is said.
    fn start(scratch: &Scratch, kit: &Path, collector_settings: &str, prometheus: u16) -> Result<Option<Self>> {
        let programs = ["otelcol", "tempo", "loki"].map(Programs::built);
        let [Some(mut collector), Some(mut tempo), Some(mut loki)] = programs else { return Ok(None) };
        let [otlp, otlp_http, own, health, spans, spans_http, traces, traces_grpc, logs, logs_grpc] =
            http::free_ports()?;
        let mut changes: Vec<(String, String)> = [
            (4317, otlp),
            (4318, otlp_http),
            (13133, health),
            (4327, spans),
            (4328, spans_http),
            (3100, logs),
            (9090, prometheus),
        ]
        .map(|(from, to)| (format!("127.0.0.1:{from}"), format!("127.0.0.1:{to}")))
        .into();
        for (from, to) in [(3200, traces), (9095, traces_grpc), (3100, logs), (9096, logs_grpc), (8888, own)] {
            changes.push((format!("port: {from}"), format!("port: {to}")));
        }
        for folder in ["/var/lib/otelcol", "/var/tempo", "/loki"] {
            // The path begins there: `otlp_http/loki` is a name.
            changes.push((format!(": {folder}"), format!(": {}{folder}", scratch.path().display())));
        }
        changes.push(("decision_wait: 30s".to_owned(), "decision_wait: 1s".to_owned()));
        for file in [collector_settings, "tempo.yaml", "loki.yaml"] {
            change(&kit.join(file), &changes)?;
        }
        let config = |file: &str| kit.join(file).display().to_string();
        tempo.arg("-target=all").arg(format!("-config.file={}", config("tempo.yaml")));
        loki.arg(format!("-config.file={}", config("loki.yaml")));
        collector.arg(format!("--config={}", config(collector_settings)));
        let mut stores = Self {
            tempo: Running::start("Tempo", &mut tempo, scratch.file("tempo.log"))?,
            loki: Running::start("Loki", &mut loki, scratch.file("loki.log"))?,
            collector: Running::start("the Collector", &mut collector, scratch.file("collector.log"))?,
            otlp: otlp_http,
            traces,
            logs,
        };
        stores.collector.until_ready(START, || http::get(health, "/").is_ok())?;
        stores.tempo.until_ready(START, || http::get(traces, "/ready").is_ok())?;
        stores.loki.until_ready(START, || http::get(logs, "/ready").is_ok())?;
        Ok(Some(stores))
    }

    /// Tempo takes most of a minute to end by itself.
    fn kill(mut self) -> Result<String> {
        for running in [&mut self.collector, &mut self.tempo, &mut self.loki] {
            running.kill()?;
        }
        Ok(self.collector.words())
    }
}

/// Asks again until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = System.now().plus(ARRIVES);
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        ensure!(System.now() < deadline, "no {what} within {ARRIVES:?}");
        std::thread::sleep(EVERY);
    }
}

/// The trace of the newest exemplar of the time to first token.
fn exemplar(prometheus: &Prometheus) -> Result<Option<String>> {
    let now = System.anchor().unix_ns / 1_000_000_000;
    let exemplars = prometheus.exemplars(TTFT, now - 600, now + 60)?;
    Ok(exemplars.first().and_then(|exemplar| exemplar["labels"]["trace_id"].as_str().map(str::to_owned)))
}

/// An agent with the kit's settings that sends to this Collector.
fn sends(programs: &Programs, scratch: &Scratch, stores: &Stores) -> Result<Agent> {
    let (settings, url) = (kit::settings(), format!("http://127.0.0.1:{}", stores.otlp));
    let environment = [
        ("TACHOGRAPH_CONFIG", settings.to_str().context("a path that is no text")?),
        ("TACHOGRAPH_OTLP_ENDPOINT", url.as_str()),
        ("TACHOGRAPH_OTLP_PROTOCOL", "http/protobuf"),
        ("TACHOGRAPH_OTLP_INTERVAL_SECONDS", "1"),
        ("TACHOGRAPH_CONTENT_CAPTURE", "true"),
    ];
    Agent::start(&programs.tools.agent, scratch, &environment)
}

/// What the stand-in says.
fn answer(request: &Value) -> Result<String> {
    let tokens = request["output_tokens"].as_u64().context("no tokens")?;
    let words: Vec<String> = (1..=tokens).map(|token| format!(" t{token}")).collect();
    Ok(words.concat())
}

/// Whether it failed by the server, which is what a gateway never drops.
fn failed(request: &Value) -> bool {
    let refused = request["status"].as_u64().is_some_and(|status| (400..500).contains(&status));
    !request["error_type"].is_null() && request["error_type"] != "client_disconnect" && !refused
}

#[test]
fn a_gateway_keeps_what_failed_and_a_share_of_the_rest() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("gateway")?;
    let kit = kit::generated(&programs, &scratch, "box")?;
    let Some(stores) = Stores::start(&scratch, &kit, "collector/gateway.yaml", http::free_port()?)? else {
        return Ok(());
    };
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let agent = sends(&programs, &scratch, &stores)?;
    let seen = standin.load(&scratch, "mixed", 0)?;
    agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;
    let mut requests = agent.requests()?;
    // Of other engines on this machine nobody knows when they end. A trace that the caller began has more to it.
    requests.retain(|request| request["target"]["pid"].as_u64() == Some(standin.pid()));
    requests.retain(|request| request["parent_span_id"].is_null());
    let stored = |request: &Value| {
        let trace = request["trace_id"].as_str().unwrap_or_default();
        http::get(stores.traces, &format!("/api/traces/{trace}")).is_ok()
    };
    let (bad, rest): (Vec<&Value>, Vec<&Value>) = requests.iter().partition(|request| failed(request));
    for request in &bad {
        until("trace of a failure", || Ok(stored(request).then_some(())))?;
    }
    let kept = rest.iter().filter(|request| stored(request)).count();
    println!("kept: {} of {} that failed, {kept} of {} others", bad.len(), bad.len(), rest.len());
    assert!(!bad.is_empty() && kept > 0 && kept < rest.len() / 2);
    agent.stop()?;
    stores.kill()?;
    Ok(())
}

#[test]
fn an_exemplar_leads_to_its_trace_and_a_trace_to_its_record() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("stored")?;
    let kit = kit::generated(&programs, &scratch, "box")?;
    let port = http::free_port()?;
    let Some(stores) = Stores::start(&scratch, &kit, "collector/collector.yaml", port)? else { return Ok(()) };
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let agent = sends(&programs, &scratch, &stores)?;
    hastened(&kit, &[(9478, agent.port())])?;
    let prometheus = Prometheus::with(&programs, &scratch, &kit.join("prometheus.yml"), port)?;
    let seen = standin.load(&scratch, "users", 0)?;
    agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;

    let trace = until("exemplar", || exemplar(&prometheus))?;
    let requests = agent.requests()?;
    let of = |key: &str, id: &Value| {
        requests.iter().find(|request| request[key] == *id).with_context(|| format!("{id} is of no request"))
    };
    let request = of("trace_id", &json!(trace))?;
    let stored = until("trace in Tempo", || Ok(http::get(stores.traces, &format!("/api/traces/{trace}")).ok()))?;
    for phase in ["receive", "queue", "prefill", "decode", "deliver"] {
        assert!(stored.contains(&format!("\"{phase}\"")), "no {phase} in {stored}");
    }
    assert!(stored.contains(&format!(r#""tachograph.serial","value":{{"intValue":"{}"}}"#, request["id"])), "{stored}");
    until("metrics of spans", || {
        let calls = values(&prometheus, "sum(traces_spanmetrics_calls_total)")?;
        Ok(calls.into_iter().find(|calls| *calls > 0.0))
    })?;

    let logcli = |arguments: &[&str]| -> Result<Option<String>> {
        let Some(mut logcli) = Programs::built("logcli") else { return Ok(None) };
        logcli.env("LOKI_ADDR", format!("http://127.0.0.1:{}", stores.logs)).args(["--quiet", "--output=raw"]);
        output(logcli.args(arguments)).map(Some)
    };
    let lines = |words: &str| words.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    let of_trace = format!("{{job=\"llm-requests\"}} | trace_id=\"{trace}\"");
    // The words of the guides.
    let of_user = r#"{job="llm-requests"} |= "user_id=user_abc123""#;
    let sent = |user: &str| requests.iter().filter(|request| request["user"] == user).count();
    for (query, count) in [(of_trace.as_str(), 1), (of_user, sent("user_abc123"))] {
        let found = until(query, || {
            let Some(words) = logcli(&["query", query, "--since=1h", "--limit=1000"])? else { return Ok(Some(None)) };
            let lines = lines(&words)?;
            Ok((lines.len() >= count).then_some(Some(lines)))
        })?;
        let Some(found) = found else { return Ok(()) };
        println!("{query}: {} records", found.len());
        assert_eq!(found.len(), count, "{query}");
        for record in found {
            let request = of("span_id", &record["span_id"])?;
            assert_eq!((&record["user_id"], &record["prompt_tokens"]), (&request["user"], &request["input_tokens"]));
            if query == of_user {
                assert_eq!(record["prompt"], json!([{ "role": "user", "content": "answer [redacted]" }]));
                assert_eq!(record["completion"], json!([{ "index": 0, "content": answer(request)? }]));
            }
        }
    }
    let rate = r#"rate({job="llm-requests"} | json | status="error"[5m])"#;
    let failing = |rates: &Value| {
        rates.as_array().is_some_and(|series| series.len() == requests.iter().filter(|it| failed(it)).count())
    };
    until(rate, || {
        let words = logcli(&["query", rate, "--step=1m"])?.context("it was there")?;
        let rates: Value = serde_json::from_str(&words)?;
        Ok(failing(&rates).then_some(()))
    })?;
    agent.stop()?;
    let words = stores.kill()?;
    // The agent's metrics are scraped. Were what it pushes passed on, this Prometheus, which takes no OTLP, would refuse.
    let refused = |line: &&str| line.contains("otlp_http/prometheus") && line.to_lowercase().contains("fail");
    assert_eq!(words.lines().find(refused), None);
    Ok(())
}
