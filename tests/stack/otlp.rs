//! A real OTLP receiver takes the agent's spans, metrics and logs: each request is one tree of spans and one log, with
//! the values of its JSON.

use crate::programs::Programs;
use agent_tests::agent;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Seen;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);
const RECORDS: Duration = Duration::from_secs(15);
const ARRIVAL: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const PHASES: [&str; 6] = ["receive", "frontend", "queue", "prefill", "decode", "deliver"];

/// One span as the receiver prints it: what stands before the colons, with what stands behind them.
pub(crate) type Span = BTreeMap<String, String>;

/// The receiver.
pub(crate) struct Rotel {
    pub(crate) running: Running,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
}

impl Rotel {
    pub(crate) fn start(programs: &Programs, scratch: &Scratch) -> Result<Self> {
        let (grpc, http) = (http::free_port()?, http::free_port()?);
        let mut command = programs.rotel()?;
        command.args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"]);
        command.args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"]);
        command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")]);
        command.arg("--pid-file").arg(scratch.file("rotel.pid"));
        let mut running = Running::start("rotel", &mut command, scratch.file("rotel.log"))?;
        running.until_ready(START, || http::listens(grpc) && http::listens(http))?;
        Ok(Self { running, grpc, http })
    }
}

/// The spans in the receiver's words.
pub(crate) fn spans(words: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut inside = false;
    for line in words.lines() {
        if line.contains(" #") {
            inside = line.starts_with("Span #");
            spans.extend(inside.then(Span::new));
        } else if let (true, Some((key, value)), Some(span)) = (inside, line.split_once(':'), spans.last_mut()) {
            span.insert(key.trim().trim_start_matches("-> ").to_owned(), value.trim().to_owned());
        }
    }
    spans
}

/// The bodies of log records by the span that each belongs to.
fn logs(words: &str) -> Result<BTreeMap<String, Value>> {
    let mut bodies = BTreeMap::new();
    for record in words.split("LogRecord #").skip(1) {
        let line = |start: &str| record.lines().find_map(|line| line.trim().strip_prefix(start));
        let body = line("Body: Str(").and_then(|body| body.strip_suffix(')')).context("a record without a text")?;
        let span = line("Span ID").context("a record without a span")?.trim_start_matches([' ', ':']);
        let body = serde_json::from_str(body).with_context(|| body.to_owned())?;
        assert_eq!(bodies.insert(span.to_owned(), body), None, "two records of one span");
    }
    Ok(bodies)
}

/// A log says what the JSON of its request says.
fn is_log_of(request: &Value, log: &Value) {
    for (key, field) in [
        ("trace_id", "trace_id"),
        ("span_id", "span_id"),
        ("prompt_tokens", "input_tokens"),
        ("completion_tokens", "output_tokens"),
        ("error_type", "error_type"),
    ] {
        assert!(log[key] == request[field], "{key} of {log} is not {field} of {request}");
    }
    let latency = log["latency_ms"].as_f64().zip(request["duration_seconds"].as_f64());
    assert!(latency.is_some_and(|(log, request)| (log - request * 1e3).abs() < 1e-6), "{log} of {request}");
}

/// What the data points of a histogram counted, in the last export of it.
fn counted(words: &str, metric: &str) -> Option<u64> {
    let (_, last) = words.rsplit_once(&format!("-> Name: {metric}\n"))?;
    let points = last.split("\nMetric #").next()?.split("\nResourceMetrics #").next()?;
    points.lines().filter_map(|line| line.strip_prefix("Count: ")).map(|count| count.parse::<u64>().ok()).sum()
}

/// Whether it is the span of a request that this process served.
pub(crate) fn is_server_of(span: &Span, pid: u64) -> bool {
    span.get("Kind").is_some_and(|kind| kind == "SPAN_KIND_SERVER")
        && span.get("process.pid") == Some(&format!("Int({pid})"))
}

pub(crate) fn at(span: &Span, key: &str) -> Result<u64> {
    span.get(key).and_then(|value| value.parse().ok()).with_context(|| format!("no {key} in {span:?}"))
}

/// When a phase began, wall clock nanoseconds: the whole request's first instant of that kind.
fn began(request: &Value, phase: &str) -> Option<u64> {
    let own = |name: &str| request["instants"][name].as_u64();
    let earliest = |name: &str| {
        let engine = request["engine_requests"].as_array()?;
        engine.iter().filter_map(|one| one["instants"][name].as_u64()).min()
    };
    let instant = match phase {
        "receive" => own("accepted"),
        "frontend" => own("received"),
        "queue" => earliest("queued"),
        "prefill" => earliest("scheduled"),
        "decode" => own("first_output"),
        _ => own("last_output"),
    };
    Some(request["time_unix_nano"].as_u64()? + instant? - own("accepted")?)
}

/// The span of a request and its phases, as its JSON has them.
fn is_tree_of(request: &Value, server: &Span, children: &[&Span]) -> Result<()> {
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    assert_eq!(server["Trace ID"], text("trace_id"));
    assert_eq!(server["Parent ID"], text("parent_span_id"));
    assert!(server["Name"].starts_with(text("operation")), "{server:?}");
    assert_eq!(at(server, "Start time")?, request["time_unix_nano"].as_u64().context("no start")?);
    assert_eq!(at(server, "End time")?, request["end_unix_nano"].as_u64().context("no end")?);
    let lasted = request["instants"]["finished"].as_u64().zip(request["instants"]["accepted"].as_u64());
    assert_eq!(lasted.map(|(end, start)| end - start), Some(at(server, "End time")? - at(server, "Start time")?));
    // The caller's span may tell the tokens too, and viewers add them up.
    let usage = if text("parent_span_id").is_empty() { "gen_ai.usage" } else { "tachograph.usage" };
    for field in ["input_tokens", "output_tokens"] {
        let tokens = request[field].as_u64().map(|tokens| format!("Int({tokens})"));
        assert_eq!(server.get(&format!("{usage}.{field}")), tokens.as_ref(), "{field}");
    }
    assert_eq!(server.contains_key("openinference.span.kind"), text("parent_span_id").is_empty());
    let mut left: Vec<&&Span> = children.iter().collect();
    for phase in PHASES {
        let Some(nanoseconds) = request["phases_ns"][phase].as_u64() else { continue };
        let index =
            left.iter().position(|span| span["Name"] == phase).with_context(|| format!("no span of {phase}"))?;
        let span = left.swap_remove(index);
        assert_eq!(span["Trace ID"], server["Trace ID"]);
        assert_eq!(span["Kind"], "SPAN_KIND_INTERNAL");
        let began = began(request, phase).with_context(|| format!("{phase} has no beginning in {request}"))?;
        assert_eq!(at(span, "Start time")?, began, "{phase} of {request}");
        assert_eq!(at(span, "End time")?, began + nanoseconds, "{phase} of {request}");
    }
    assert!(left.is_empty(), "spans of no phase: {left:?}");
    Ok(())
}

/// What a caller told about itself is the parent, in its own trace.
fn parents_are_the_callers(requests: &[Value], seen: &[Seen]) -> Result<usize> {
    let mut told = 0;
    for seen in seen {
        let Some(traceparent) = &seen.traceparent else { continue };
        let mut requests =
            requests.iter().filter(|request| request["params"]["temperature"].as_f64() == Some(seen.temperature));
        let request = requests.next().with_context(|| format!("no request of {traceparent}"))?;
        let parts = ["trace_id", "parent_span_id"].map(|field| request[field].as_str().unwrap_or_default());
        assert_eq!(format!("00-{}-01", parts.join("-")), *traceparent);
        told += 1;
    }
    Ok(told)
}

fn arrives(protocol: &str, endpoint: impl Fn(&Rotel) -> u16) -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("otlp")?;
    let mut rotel = Rotel::start(&programs, &scratch)?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let url = format!("http://127.0.0.1:{}", endpoint(&rotel));
    let settings = [
        ("TACHOGRAPH_REQUESTS_KEPT", "10000"),
        ("TACHOGRAPH_OTLP_PROTOCOL", protocol),
        ("TACHOGRAPH_OTLP_ENDPOINT", &url),
        ("TACHOGRAPH_OTLP_COMPRESSION", "gzip"),
        ("TACHOGRAPH_OTLP_INTERVAL_SECONDS", "1"),
    ];
    let agent = Agent::start(&programs.tools.agent, &scratch, &settings)?;
    let seen = standin.load(&scratch, "mixed", 0)?;
    let records = agent.records_when(&[standin.pid()], seen.len(), RECORDS)?;
    assert_eq!(records.len(), seen.len());
    let pid = standin.pid();
    standin.stop(&scratch, 0)?;
    let mut requests = agent.requests()?;
    requests.retain(|request| request["target"]["pid"].as_u64() == Some(pid));
    let count = requests.len();
    rotel.running.words_when(ARRIVAL, |words| {
        let servers = spans(words).iter().filter(|span| is_server_of(span, pid)).count();
        let records = words.matches("LogRecord #").count();
        servers >= count
            && records >= count
            && counted(words, "gen_ai.server.request.duration") >= u64::try_from(count).ok()
    })?;
    for counter in ["spans_dropped", "logs_dropped", "export_failures"] {
        assert_eq!(agent::metric(&agent.metrics()?, &format!("tachograph_agent_{counter}_total"))?, 0.0, "{counter}");
    }
    agent.stop()?;
    let words = rotel.running.stop(STOP)?;

    let logs = logs(&words)?;
    let spans = spans(&words);
    let servers: Vec<&Span> = spans.iter().filter(|span| is_server_of(span, pid)).collect();
    assert_eq!(servers.len(), count, "one span for each request");
    let servers: BTreeMap<&str, &Span> = servers.iter().map(|span| (span["ID"].as_str(), *span)).collect();
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in &spans {
        children.entry(span["Parent ID"].as_str()).or_default().push(span);
    }
    for request in &requests {
        let id = request["span_id"].as_str().context("no span_id")?;
        let server = servers.get(id).with_context(|| format!("no span {id}"))?;
        is_tree_of(request, server, &children.remove(id).unwrap_or_default())?;
        is_log_of(request, logs.get(id).with_context(|| format!("no log of span {id}"))?);
    }
    assert!(parents_are_the_callers(&requests, &seen)? > 0);
    Ok(())
}

#[test]
fn arrives_over_grpc() -> Result<()> {
    arrives("grpc", |rotel| rotel.grpc)
}

#[test]
fn arrives_over_http() -> Result<()> {
    arrives("http/protobuf", |rotel| rotel.http)
}
