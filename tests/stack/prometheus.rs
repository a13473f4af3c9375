//! A real Prometheus scrapes the agent: what it stored is what the agent's JSON says, request by request.

use crate::programs::Programs;
use crate::programs::output;
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
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const START: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(200);
const DURATION: &str = "gen_ai_server_request_duration_seconds";
const TTFT: &str = "gen_ai_server_time_to_first_token_seconds";

/// Values by the values of some labels.
pub(crate) type Table = BTreeMap<Vec<String>, f64>;

/// A Prometheus that scrapes one agent.
pub(crate) struct Prometheus {
    _running: Running,
    port: u16,
}

impl Prometheus {
    fn start(programs: &Programs, scratch: &Scratch, agent: u16) -> Result<Self> {
        let (port, config) = (http::free_port()?, scratch.file("prometheus.yml"));
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs:\n- job_name: tachograph\n  static_configs:\n  - targets: ['127.0.0.1:{agent}']\n"
        );
        std::fs::write(&config, text)?;
        Self::with(programs, scratch, &config, port)
    }

    /// With these settings; what it stores lies in `tsdb`.
    pub(crate) fn with(programs: &Programs, scratch: &Scratch, config: &Path, port: u16) -> Result<Self> {
        let mut command = programs.prometheus();
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", scratch.file("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--enable-feature=exemplar-storage");
        command.arg("--web.enable-remote-write-receiver");
        let mut running = Running::start("Prometheus", &mut command, scratch.file("prometheus.log"))?;
        running.until_ready(START, || http::get(port, "/-/ready").is_ok())?;
        Ok(Self { _running: running, port })
    }

    /// What its API says under `data`.
    pub(crate) fn data(&self, path: &str) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&http::get(self.port, path)?)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }

    /// The exemplars of a histogram between two instants, in Unix seconds.
    pub(crate) fn exemplars(&self, metric: &str, from: u64, to: u64) -> Result<Vec<Value>> {
        let query = encoded(&format!("{metric}_bucket"));
        let data = self.data(&format!("/api/v1/query_exemplars?query={query}&start={from}&end={to}"))?;
        let series = data.as_array().context("no series with exemplars")?;
        Ok(series.iter().filter_map(|one| one["exemplars"].as_array()).flatten().cloned().collect())
    }

    /// Waits until it has stored what is wanted.
    pub(crate) fn until(&self, within: Duration, wanted: impl Fn() -> bool) -> Result<()> {
        let deadline = System.now().plus(within);
        while !wanted() {
            ensure!(System.now() < deadline, "not stored: {}", self.data("/api/v1/targets")?);
            std::thread::sleep(EVERY);
        }
        Ok(())
    }

    /// The sum of a metric by some labels, as of now.
    pub(crate) fn sum(&self, metric: &str, labels: &[&str]) -> Result<Table> {
        let query = format!("sum by ({}) ({metric})", labels.join(","));
        let data = self.data(&format!("/api/v1/query?query={}", encoded(&query)))?;
        let series = data["result"].as_array().with_context(|| query.clone())?;
        let row = |series: &Value| {
            let key = labels.iter().map(|label| series["metric"][*label].as_str().unwrap_or_default().to_owned());
            Some((key.collect(), series["value"][1].as_str()?.parse().ok()?))
        };
        series.iter().map(|series| row(series).with_context(|| series.to_string())).collect()
    }
}

pub(crate) fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    query.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// All finished requests, once Prometheus has counted as many.
fn settled(agent: &Agent, prometheus: &Prometheus) -> Result<Vec<Value>> {
    let deadline = System.now().plus(SETTLE);
    loop {
        let requests = agent.requests()?;
        let counted: f64 = prometheus.sum("tachograph_requests_total", &[])?.values().sum();
        if counted == requests.len() as f64 {
            return Ok(requests);
        }
        ensure!(System.now() < deadline, "Prometheus counts {counted} requests, the agent {}", requests.len());
        std::thread::sleep(EVERY);
    }
}

/// How often each combination of these fields occurs; null is an empty label.
fn counted(requests: &[Value], fields: &[&str]) -> Table {
    let mut table = Table::new();
    for request in requests {
        let text = |field: &&str| match &request[*field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *table.entry(fields.iter().map(text).collect()).or_default() += 1.0;
    }
    table
}

fn known(requests: &[Value], field: &str) -> Vec<f64> {
    requests.iter().filter_map(|request| request[field].as_f64()).collect()
}

/// A histogram holds exactly these values: each bucket, the count and the sum.
fn is_histogram_of(prometheus: &Prometheus, metric: &str, values: &[f64]) -> Result<()> {
    assert!(!values.is_empty(), "{metric}");
    let buckets = prometheus.sum(&format!("{metric}_bucket"), &["le"])?;
    assert!(buckets.len() > 10, "{metric}");
    for (le, count) in &buckets {
        let bound: f64 = le.concat().replace("+Inf", "inf").parse()?;
        assert_eq!(*count, values.iter().filter(|value| **value <= bound).count() as f64, "{metric} up to {bound}");
    }
    let total =
        |suffix: &str| Ok::<f64, anyhow::Error>(prometheus.sum(&format!("{metric}{suffix}"), &[])?.values().sum());
    assert_eq!(total("_count")?, values.len() as f64, "{metric}");
    let sum: f64 = values.iter().sum();
    assert!((total("_sum")? - sum).abs() <= sum * 1e-9, "{metric}: {} instead of {sum}", total("_sum")?);
    Ok(())
}

/// Each exemplar is a finished request: its ids are known and its value is that request's own.
fn is_of_a_request(labels: &Value, value: f64, requests: &[Value], field: &str) -> Result<()> {
    let found = requests.iter().find(|request| request["span_id"] == labels["span_id"]);
    let request = found.with_context(|| format!("an exemplar of no request: {labels}"))?;
    assert_eq!(request["trace_id"], labels["trace_id"]);
    assert_eq!(request[field].as_f64(), Some(value), "{field} of {labels}");
    Ok(())
}

fn stored_exemplars(prometheus: &Prometheus, requests: &[Value], metric: &str, field: &str) -> Result<()> {
    let seconds = |request: &Value| request["end_unix_nano"].as_u64().map(|at| at / 1_000_000_000);
    let ends: Vec<u64> = requests.iter().filter_map(seconds).collect();
    let (first, last) = (ends.iter().min().context("no request")?, ends.iter().max().context("no request")?);
    let exemplars = prometheus.exemplars(metric, first - 60, last + 60)?;
    assert!(!exemplars.is_empty(), "{metric}");
    for exemplar in &exemplars {
        let value = exemplar["value"].as_str().and_then(|value| value.parse().ok()).context("no value")?;
        is_of_a_request(&exemplar["labels"], value, requests, field)?;
    }
    Ok(())
}

/// The page as the reference parser of OpenMetrics reads it.
fn parsed(programs: &Programs, agent: &Agent, requests: &[Value]) -> Result<()> {
    let url = format!("http://127.0.0.1:{}/metrics", agent.port());
    let text = output(programs.script("openmetrics.py").arg(url))?;
    let samples: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |name: &str| samples.iter().filter(|sample| sample["name"] == name).collect::<Vec<_>>();
    let counts = of("tachograph_requests_total");
    let total: f64 = counts.iter().filter_map(|sample| sample["value"].as_f64()).sum();
    assert_eq!(total, requests.len() as f64);
    for (metric, field) in [(DURATION, "duration_seconds"), (TTFT, "ttft_seconds")] {
        let buckets = of(&format!("{metric}_bucket"));
        let exemplars: Vec<&Value> =
            buckets.iter().map(|sample| &sample["exemplar"]).filter(|exemplar| !exemplar.is_null()).collect();
        assert!(!exemplars.is_empty(), "{metric}");
        for exemplar in exemplars {
            is_of_a_request(&exemplar["labels"], exemplar["value"].as_f64().context("no value")?, requests, field)?;
        }
    }
    Ok(())
}

#[test]
fn stores_what_the_requests_say() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("prometheus")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let agent = Agent::start(&programs.tools.agent, &scratch, &[("TACHOGRAPH_REQUESTS_KEPT", "10000")])?;
    let prometheus = Prometheus::start(&programs, &scratch, agent.port())?;
    let seen = standin.load(&scratch, "mixed", 0)?;
    let records = agent.records_when(&[standin.pid()], seen.len(), SETTLE)?;
    assert_eq!(records.len(), seen.len());
    let requests = settled(&agent, &prometheus)?;

    let fields = ["operation", "provider", "status", "error_type"];
    let labels = ["gen_ai_operation_name", "gen_ai_provider_name", "status", "error_type"];
    assert_eq!(prometheus.sum("tachograph_requests_total", &labels)?, counted(&requests, &fields));
    let tokens = prometheus.sum("tachograph_tokens_total", &["type"])?;
    for (kind, field) in [("input", "input_tokens"), ("output", "output_tokens"), ("engine", "engine_tokens")] {
        assert_eq!(tokens.get(&vec![kind.to_owned()]), Some(&known(&requests, field).iter().sum()), "{kind}");
    }
    let well: Vec<Value> = requests.iter().filter(|request| request["error_type"].is_null()).cloned().collect();
    is_histogram_of(&prometheus, DURATION, &known(&requests, "duration_seconds"))?;
    is_histogram_of(&prometheus, TTFT, &known(&well, "ttft_seconds"))?;
    stored_exemplars(&prometheus, &requests, DURATION, "duration_seconds")?;
    stored_exemplars(&prometheus, &requests, TTFT, "ttft_seconds")?;
    parsed(&programs, &agent, &requests)?;
    agent.stop()?;
    Ok(())
}

#[test]
fn its_linter_takes_the_page() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("promtool")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let agent = Agent::start(&programs.tools.agent, &scratch, &[])?;
    let seen = standin.load(&scratch, "gaps", 0)?;
    agent.records_when(&[standin.pid()], seen.len(), SETTLE)?;
    let page = scratch.file("metrics.txt");
    std::fs::write(&page, agent.metrics()?)?;
    let out = programs.promtool().args(["check", "metrics"]).stdin(File::open(&page)?).output()?;
    let words = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&words));
    assert_eq!(String::from_utf8_lossy(&words), "");
    Ok(())
}
