//! Every expression of every rule, alias, alert and board, on a real Prometheus that scrapes the agent at work: each has data.
//!
//! While all is well, no panel is empty. Then comes a bit of everything, and a GPU with an error. An alert that does not fire has no result, so
//! of an alert each metric is asked for that it looks at, as it selects it. Weeks are filled in by promtool. The aliases
//! of vLLM's names are made from the page of a real one.

use crate::kit;
use crate::programs::Programs;
use crate::programs::output;
use crate::prometheus::Prometheus;
use crate::prometheus::encoded;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::nvml;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const RECORDS: Duration = Duration::from_mins(1);
/// Rules look at what other rules recorded, a second later each.
const SETTLES: Duration = Duration::from_secs(45);
const EVERY: Duration = Duration::from_secs(1);
/// Of the scenario, as its `/v1/models` and its callers name it.
const MODEL: &str = "standin";

/// A GPU with everything that a board shows: load, heat, clocks held down, errors, a process of the engine.
fn gpus(pid: u64, xids: &str) -> String {
    format!(
        "driver = \"580.95.05\"\n[[gpu]]\nuuid = \"GPU-0\"\nname = \"Stub H100\"\nmemory_total_bytes = 85520809984\n\
         memory_used_bytes = 70000000000\nutilization_percent = 87\nmemory_utilization_percent = 41\n\
         power_milliwatts = 600000\nenergy_millijoules = 5000000\ntemperature_celsius = 52\n\
         clocks_megahertz = [1755, 1750, 2619, 1500]\nclock_event_ns = [1500000000, 1, 2000000000, 3250000000, 5]\n\
         xids = [{xids}]\nprocess = [{{ pid = {pid}, memory_bytes = 60000000000 }}]\nload = {{ since_ns = 1 }}\n"
    )
}

/// The kit's own files with the ports of this run, evaluated so often that a test need not wait.
pub(crate) fn hastened(kit: &Path, ports: &[(u16, u16)]) -> Result<()> {
    let own = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let mut changes: Vec<(String, String)> =
        ports.iter().map(|(from, to)| (format!("127.0.0.1:{from}"), format!("127.0.0.1:{to}"))).collect();
    changes.extend(
        [("scrape_interval: 15s", "scrape_interval: 500ms"), ("scrape_timeout: 10s", "scrape_timeout: 500ms")].map(own),
    );
    change(&kit.join("prometheus.yml"), &changes)?;
    let often =
        ["30s", "15s", "5m"].map(|interval| (format!("  interval: {interval}\n"), "  interval: 1s\n".to_owned()));
    for rules in ["recording", "aliases", "slo", "alerts", "trends"] {
        change(&kit.join(format!("rules/{rules}.yml")), &often)?;
    }
    Ok(())
}

/// Each text in a file by another.
pub(crate) fn change(file: &Path, changes: &[(String, String)]) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let changed = changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
    Ok(std::fs::write(file, changed)?)
}

/// Serves what a real vLLM said of itself, for as long as the test runs; on this port. The recorded page has no buckets,
/// so each histogram gets the one that each has.
fn vllm() -> Result<u16> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/engine_metrics/vllm-0.32.0-python.prom");
    let mut page = String::new();
    for line in std::fs::read_to_string(&file)?.lines() {
        if let Some((name, rest)) = line.split_once("_count{").filter(|(name, _)| name.starts_with("vllm:")) {
            let (labels, count) = rest.split_once('}').context("no labels")?;
            for bound in ["1.5", "+Inf"] {
                writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}}{count}")?;
            }
        }
        writeln!(page, "{line}")?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut caller in listener.incoming().flatten() {
            // A caller who has left wants no answer.
            let _left = caller.read(&mut [0; 4096]).and_then(|_| {
                let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n";
                caller.write_all(format!("{head}{page}").as_bytes())
            });
        }
    });
    Ok(port)
}

/// What was recorded a week ago, by promtool: the hourly figures of the trends.
fn fill_in(programs: &Programs, scratch: &Scratch) -> Result<()> {
    let now = System.anchor().unix_ns / 1_000_000_000;
    let mut text = String::new();
    for (series, value) in [
        ("model:tachograph_tpot_seconds:mean1h", 0.001),
        ("model:tachograph_cost_dollars_per_1k_requests:ratio1h", 0.01),
        ("model:tachograph_requests:rate1h", 1.0),
    ] {
        writeln!(text, "# TYPE {series} gauge")?;
        for minutes in (0..3 * 24 * 60).step_by(10) {
            let at = now - 9 * 24 * 3_600 + minutes * 60;
            writeln!(text, "{series}{{gen_ai_request_model=\"{MODEL}\"}} {value} {at}")?;
        }
    }
    text.push_str("# EOF\n");
    let file = scratch.file("weeks.txt");
    std::fs::write(&file, text)?;
    let mut promtool = programs.promtool();
    output(promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(file).arg(scratch.file("tsdb")))?;
    Ok(())
}

/// The selectors of an expression, as Prometheus' own parser finds them.
fn selectors(prometheus: &Prometheus, expr: &str) -> Result<Vec<String>> {
    fn walk(node: &Value, found: &mut Vec<String>) {
        if matches!(node["type"].as_str(), Some("vectorSelector" | "matrixSelector")) {
            let matchers = node["matchers"].as_array().into_iter().flatten();
            let matchers = matchers.filter(|matcher| matcher["name"] != "__name__").map(|matcher| {
                let text = |key: &str| matcher[key].as_str().unwrap_or_default();
                format!("{}{}{}", text("name"), text("type"), matcher["value"])
            });
            let matchers: Vec<String> = matchers.collect();
            found.push(format!("{}{{{}}}", node["name"].as_str().unwrap_or_default(), matchers.join(",")));
        }
        match node {
            Value::Object(fields) => fields.values().for_each(|node| walk(node, found)),
            Value::Array(nodes) => nodes.iter().for_each(|node| walk(node, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&prometheus.data(&format!("/api/v1/parse_query?query={}", encoded(expr)))?, &mut found);
    ensure!(!found.is_empty(), "{expr} selects nothing");
    Ok(found)
}

/// Every expression with where it stands.
fn expressions(prometheus: &Prometheus, kit: &Path) -> Result<Vec<(String, String)>> {
    let mut all = kit::of_boards(kit)?;
    let data = prometheus.data("/api/v1/rules")?;
    for group in data["groups"].as_array().context("no groups")? {
        for rule in group["rules"].as_array().context("no rules")? {
            let (name, expr) = (rule["name"].to_string(), rule["query"].as_str().context("no query")?);
            match rule["type"].as_str() {
                Some("recording") => all.push((name, expr.to_owned())),
                // What compares weeks has data beside the comparison; else each metric that it looks at must be there.
                _ if expr.contains("offset") => {
                    let compared = expr.split(" > ").next().unwrap_or_default();
                    all.push((format!("alert {name}"), compared.to_owned()));
                }
                _ => all.extend(
                    selectors(prometheus, expr)?.into_iter().map(|selector| (format!("alert {name}"), selector)),
                ),
            }
        }
    }
    Ok(all)
}

/// Values as of now; what is not a number is no value.
pub(crate) fn values(prometheus: &Prometheus, expr: &str) -> Result<Vec<f64>> {
    let data = prometheus.data(&format!("/api/v1/query?query={}", encoded(expr)))?;
    let rows = data["result"].as_array().context("no result")?;
    let value = |row: &Value| row["value"][1].as_str()?.parse::<f64>().ok().filter(|value| value.is_finite());
    Ok(rows.iter().filter_map(value).collect())
}

/// Those of these expressions that have no data.
fn silent(prometheus: &Prometheus, all: &[(String, String)]) -> Result<BTreeSet<String>> {
    let mut silent = BTreeSet::new();
    for (place, expr) in all {
        if values(prometheus, expr).with_context(|| format!("{place}: {expr}"))?.is_empty() {
            silent.insert(format!("{place}: {expr}"));
        }
    }
    Ok(silent)
}

/// Panels, what the scenario makes of them, and by which share they may differ: rates are over moments.
const SCENARIO: [(&str, f64, f64); 8] = [
    ("Node and GPU: Memory", 70_000_000_000.0 / 85_520_809_984.0, 0.0),
    // Its load is full.
    ("Node and GPU: Compute", 1.0, 0.0),
    ("Node and GPU: Memory traffic", 0.41, 0.0),
    ("Node and GPU: Power", 600.0, 0.0),
    ("Node and GPU: Temperature", 52.0, 0.0),
    ("Node and GPU: Clocks", 1_750_000_000.0, 0.0),
    ("Node and GPU: Cost by use", 2.5, 0.05),
    ("Node and GPU: Time by use", 1.0, 0.05),
];

/// What must be the same: an alias and what it stands for, a sum and its parts.
const SAME: [(&str, &str); 6] = [
    ("sum(vllm:num_queue_tokens)", "sum(tachograph_engine_queued_tokens)"),
    ("sum(vllm:gpu_cache_usage_ratio)", "sum(vllm:kv_cache_usage_perc)"),
    ("sum(vllm_e2e_request_latency_seconds_count)", "sum(vllm:e2e_request_latency_seconds_count)"),
    ("sum(vllm:num_generation_tokens_total)", "sum(vllm:generation_tokens_total)"),
    ("sum(fleet:tachograph_engines:count)", "count(tachograph_engine_wedged)"),
    ("max(slo:tachograph_objective:ratio{slo=\"ttft\"})", "0.95"),
];

/// Waits until both are: what is recorded is a second older than what it is of, and other engines of this machine come
/// and go.
fn is_same(prometheus: &Prometheus, one: &str, other: &str) -> Result<()> {
    let deadline = System.now().plus(SETTLES);
    loop {
        let both = (values(prometheus, one)?, values(prometheus, &format!("{other} + 0 * {one}"))?);
        if !both.0.is_empty() && both.0 == both.1 {
            return Ok(());
        }
        ensure!(System.now() < deadline, "{one} is {:?}, {other} is {:?}", both.0, both.1);
        std::thread::sleep(EVERY);
    }
}

#[test]
fn every_expression_has_data() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("evaluated")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let library = scratch.file("libnvidia-ml.so.1");
    nvml::install(&library, &gpus(standin.pid(), ""))?;
    let (settings, path) = (kit::settings(), library.to_str().context("a path that is no text")?);
    let environment = [
        ("TACHOGRAPH_CONFIG", settings.to_str().context("a path that is no text")?),
        ("TACHOGRAPH_NVML_LIBRARY", path),
        // There is no collector here.
        ("OTEL_SDK_DISABLED", "true"),
    ];
    let agent = Agent::start(&programs.tools.agent, &scratch, &environment)?;
    let kit = kit::generated(&programs, &scratch, "box")?;
    hastened(&kit, &[(9478, agent.port()), (8000, vllm()?)])?;
    fill_in(&programs, &scratch)?;
    let port = http::free_port()?;
    let prometheus = Prometheus::with(&programs, &scratch, &kit.join("prometheus.yml"), port)?;

    let mut seen = 0_u32;
    let boards = kit::of_boards(&kit)?;
    let mut empty = boards.iter().map(|(place, _)| place.clone()).collect::<BTreeSet<_>>();
    let deadline = System.now().plus(SETTLES);
    while !empty.is_empty() && System.now() < deadline {
        seen += u32::try_from(standin.load(&scratch, "calm", seen)?.len())?;
        std::thread::sleep(EVERY);
        let silent = silent(&prometheus, &boards)?;
        let shows = |place: &String| {
            boards.iter().any(|(own, expr)| own == place && !silent.contains(&format!("{own}: {expr}")))
        };
        empty.retain(|place| !shows(place));
    }
    assert_eq!(empty, BTreeSet::new(), "panels that show nothing while all is well");

    nvml::replace(&library, &gpus(standin.pid(), "31"))?;
    let all = expressions(&prometheus, &kit)?;
    let mut left = all.iter().map(|(place, expr)| format!("{place}: {expr}")).collect::<BTreeSet<_>>();
    let deadline = System.now().plus(SETTLES);
    while !left.is_empty() && System.now() < deadline {
        seen += u32::try_from(standin.load(&scratch, "mixed", seen)?.len())?;
        agent.records_when(&[standin.pid()], seen as usize, RECORDS)?;
        std::thread::sleep(EVERY);
        let now = silent(&prometheus, &all)?;
        left.retain(|place| now.contains(place));
    }
    report(&all, &left);
    assert_eq!(left, BTreeSet::new(), "no data");
    for (panel, expected, share) in SCENARIO {
        shows(&prometheus, &boards, panel, expected, share)?;
    }
    for (one, other) in SAME {
        is_same(&prometheus, one, other)?;
    }
    agent.stop()?;
    Ok(())
}

/// Rates are right once their window is full.
fn shows(prometheus: &Prometheus, boards: &[(String, String)], panel: &str, expected: f64, share: f64) -> Result<()> {
    let expr = boards.iter().find(|(place, _)| place.replace('"', "") == panel).map(|(_, expr)| expr);
    let expr = expr.with_context(|| format!("no panel {panel}"))?;
    let deadline = System.now().plus(SETTLES).plus(SETTLES);
    loop {
        // By use, the parts make the whole.
        let shown: f64 = values(prometheus, expr)?.iter().sum();
        if (shown - expected).abs() <= expected * share {
            return Ok(());
        }
        ensure!(System.now() < deadline, "{panel}: {shown} instead of {expected}");
        std::thread::sleep(EVERY);
    }
}

#[expect(clippy::print_stdout, reason = "what has no data is the result")]
fn report(all: &[(String, String)], silent: &BTreeSet<String>) {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, _) in all {
        *places.entry(place).or_default() += 1;
    }
    println!("{} expressions of {} panels, rules and alerts: {} without data", all.len(), places.len(), silent.len());
    for place in silent {
        println!("  {place}");
    }
}
