//! The layout in; settings of the OpenTelemetry Collector, by itself, on nodes, as their gateway, and what else it may
//! send to, out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Kit;
use crate::kit::Layout;
use crate::kit::yaml;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The share of traces that a gateway keeps of those that are neither wrong nor slow, in per cent.
const KEPT: u32 = 10;
/// The attribute that only spans of requests have that missed an objective.
const MISSED: &str = "tachograph.cause";
/// What the agent calls itself in everything that it sends.
const SERVICE: &str = "tachograph";
const QUEUE: &str = "/var/lib/otelcol/queue";

/// Settings with their path and what is said of them.
#[derive(Debug)]
pub struct Document {
    /// Below the folder that they are written to.
    pub path: &'static str,
    /// What stands at their top.
    pub about: String,
    /// The settings.
    pub value: Value,
    /// Whether they stand alone, or are added to others.
    pub alone: bool,
}

/// The files.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files(kit: &Kit) -> Result<Vec<File>, Error> {
    documents(kit).iter().map(|document| yaml::file(document.path, &document.about, &document.value)).collect()
}

/// What is in them.
pub fn documents(kit: &Kit) -> Vec<Document> {
    let written = "Written by `tachograph generate collector`.";
    let queue = format!("What cannot be delivered waits in {QUEUE}, also over a restart.");
    let layout = kit.layout;
    let alone =
        |path, about: &str, value| Document { path, about: format!("{about}\n{queue}\n{written}"), value, alone: true };
    let gateway = format!(
        "The gateway of a fleet: it keeps every trace with an error and every one that missed an objective, and {KEPT} %\n\
         of the rest. An exemplar may point to one that was not kept."
    );
    let mut all = vec![
        alone(
            "collector/collector.yaml",
            "OTLP in; traces to Tempo, logs to Loki, metrics to Prometheus out.",
            settings(layout, Traces::All),
        ),
        alone(
            "collector/node.yaml",
            "On a node: OTLP in, and on to the gateway; all spans of a trace to the same one.",
            forwarding(layout),
        ),
        alone("collector/gateway.yaml", &gateway, settings(layout, Traces::Sampled)),
    ];
    all.extend(optional(kit));
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traces {
    All,
    Sampled,
}

/// What every exporter has: it tries for as long as it takes, and what waits outlives a restart.
fn kept(mut exporter: Map<String, Value>) -> Value {
    exporter.insert(
        "retry_on_failure".to_owned(),
        json!({"enabled": true, "initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": "0s"}),
    );
    exporter.insert(
        "sending_queue".to_owned(),
        json!({"enabled": true, "storage": "file_storage", "num_consumers": 4, "queue_size": 10_000}),
    );
    Value::Object(exporter)
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn receivers(layout: Layout) -> Value {
    let at = |port: u16| json!({"endpoint": format!("{}:{port}", layout.listen())});
    json!({"otlp": {"protocols": {"grpc": at(4317), "http": at(4318)}}})
}

fn extensions(layout: Layout) -> Value {
    json!({
        "health_check": {"endpoint": format!("{}:13133", layout.listen())},
        "file_storage": {"directory": QUEUE, "create_directory": true},
    })
}

fn telemetry(layout: Layout) -> Value {
    let page = json!({"host": layout.listen(), "port": 8888});
    json!({"metrics": {"readers": [{"pull": {"exporter": {"prometheus": page}}}]}})
}

fn limiter() -> Value {
    json!({"check_interval": "1s", "limit_percentage": 75, "spike_limit_percentage": 20})
}

fn batch() -> Value {
    json!({"send_batch_size": 2048, "send_batch_max_size": 4096, "timeout": "1s"})
}

fn service(layout: Layout, pipelines: &Value) -> Value {
    json!({"extensions": ["health_check", "file_storage"], "telemetry": telemetry(layout), "pipelines": pipelines})
}

fn settings(layout: Layout, traces: Traces) -> Value {
    let mut processors = fields([
        ("memory_limiter", limiter()),
        ("batch", batch()),
        // Prometheus scrapes the agents itself, with exemplars: what they push would be there twice.
        (
            "filter/scraped",
            json!({
                "error_mode": "ignore",
                "metrics": {"metric": [format!("resource.attributes[\"service.name\"] == \"{SERVICE}\"")]},
            }),
        ),
        // The label by which records of requests are asked for.
        (
            "transform/job",
            json!({
                "error_mode": "ignore",
                "log_statements": [format!(
                    "set(resource.attributes[\"job\"], \"llm-requests\") where resource.attributes[\"job\"] == nil and \
                     resource.attributes[\"service.name\"] == \"{SERVICE}\""
                )],
            }),
        ),
    ]);
    let mut of_traces = vec!["memory_limiter"];
    if traces == Traces::Sampled {
        of_traces.push("tail_sampling");
        processors.insert("tail_sampling".to_owned(), sampling());
    }
    of_traces.push("batch");
    let http = |service: &str, port: u16, path: &str| {
        kept(fields([("endpoint", json!(format!("http://{}{path}", layout.find(service, port))))]))
    };
    let tempo = kept(fields([
        ("endpoint", json!(layout.find("tempo", layout.tempo_port()))),
        ("tls", json!({"insecure": true})),
    ]));
    json!({
        "receivers": receivers(layout),
        "processors": processors,
        "exporters": {
            "otlp_grpc/tempo": tempo,
            "otlp_http/loki": http("loki", 3100, "/otlp"),
            "otlp_http/prometheus": http("prometheus", 9090, "/api/v1/otlp"),
        },
        "extensions": extensions(layout),
        "service": service(layout, &json!({
            "traces": {"receivers": ["otlp"], "processors": of_traces, "exporters": ["otlp_grpc/tempo"]},
            "logs": {
                "receivers": ["otlp"], "processors": ["memory_limiter", "transform/job", "batch"],
                "exporters": ["otlp_http/loki"],
            },
            "metrics": {
                "receivers": ["otlp"], "processors": ["memory_limiter", "filter/scraped", "batch"],
                "exporters": ["otlp_http/prometheus"],
            },
        })),
    })
}

fn sampling() -> Value {
    json!({
        "decision_wait": "30s",
        "num_traces": 50_000,
        "policies": [
            {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
            {
                "name": "missed-an-objective", "type": "string_attribute",
                "string_attribute": {"key": MISSED, "values": [".+"], "enabled_regex_matching": true},
            },
            {"name": "share-of-the-rest", "type": "probabilistic", "probabilistic": {"sampling_percentage": KEPT}},
        ],
    })
}

fn forwarding(layout: Layout) -> Value {
    const GATEWAY: &str = "otel-gateway";
    let resolver = match layout {
        Layout::Box => json!({"static": {"hostnames": [format!("{GATEWAY}:4317")]}}),
        Layout::Cluster => json!({"dns": {"hostname": format!("{GATEWAY}-headless"), "port": "4317"}}),
    };
    let by_trace = kept(fields([
        ("routing_key", json!("traceID")),
        ("protocol", json!({"otlp": {"tls": {"insecure": true}}})),
        ("resolver", resolver),
    ]));
    let rest = kept(fields([("endpoint", json!(format!("{GATEWAY}:4317"))), ("tls", json!({"insecure": true}))]));
    let on = |exporter: &str| json!({"receivers": ["otlp"], "processors": ["memory_limiter", "batch"], "exporters": [exporter]});
    json!({
        "receivers": receivers(layout),
        "processors": {"memory_limiter": limiter(), "batch": batch()},
        "exporters": {"loadbalancing": by_trace, "otlp_grpc/gateway": rest},
        "extensions": extensions(layout),
        "service": service(layout, &json!({
            "traces": on("loadbalancing"), "logs": on("otlp_grpc/gateway"), "metrics": on("otlp_grpc/gateway"),
        })),
    })
}

/// Pipelines of their own, so that each can be added to any of the settings by one more `--config`.
fn optional(kit: &Kit) -> [Document; 3] {
    let about = |to: &str, variables: &str| {
        format!(
            "Off unless given as one more `--config` beside collector.yaml or gateway.yaml: a copy to {to}.\n\
             Credentials come from the environment: {variables}.\nWritten by `tachograph generate collector`."
        )
    };
    let headers =
        |endpoint: &str, headers: &Value| kept(fields([("endpoint", json!(endpoint)), ("headers", headers.clone())]));
    let on = |receivers: Value, exporter: &str| json!({"receivers": receivers, "processors": ["memory_limiter", "batch"], "exporters": [exporter]});
    let otlp = || json!(["otlp"]);
    let cloud = json!({"Authorization": "Basic ${env:GRAFANA_CLOUD_OTLP_AUTH}"});
    let agents = json!({"config": {"scrape_configs": [{
        "job_name": "tachograph",
        "scrape_interval": "15s",
        "static_configs": [{"targets": [format!("127.0.0.1:{}", kit.port)]}],
        "relabel_configs": [{"source_labels": ["__address__"], "regex": "(.+):[0-9]+", "target_label": "node", "replacement": "$$1"}],
    }]}});
    let grafana = json!({
        "receivers": {"prometheus/agents": agents},
        "exporters": {
            "otlp_http/grafana_cloud": headers("${env:GRAFANA_CLOUD_OTLP_ENDPOINT}", &cloud),
            "prometheusremotewrite/grafana_cloud": {
                "endpoint": "${env:GRAFANA_CLOUD_PROMETHEUS_URL}",
                "headers": {"Authorization": "Basic ${env:GRAFANA_CLOUD_PROMETHEUS_AUTH}"},
            },
        },
        "service": {"pipelines": {
            "traces/grafana_cloud": on(otlp(), "otlp_http/grafana_cloud"),
            "logs/grafana_cloud": on(otlp(), "otlp_http/grafana_cloud"),
            "metrics/grafana_cloud": on(json!(["prometheus/agents"]), "prometheusremotewrite/grafana_cloud"),
        }},
    });
    let traces = |name: &str, endpoint: &str, with: &Value| {
        let exporter = format!("otlp_http/{name}");
        let pipeline = on(otlp(), &exporter);
        let exporters = Value::Object(fields([(exporter.as_str(), headers(endpoint, with))]));
        let pipelines = Value::Object(fields([(format!("traces/{name}").as_str(), pipeline)]));
        json!({"exporters": exporters, "service": {"pipelines": pipelines}})
    };
    let langsmith = json!({"x-api-key": "${env:LANGSMITH_API_KEY}", "Langsmith-Project": "${env:LANGSMITH_PROJECT}"});
    let langfuse = json!({"Authorization": "Basic ${env:LANGFUSE_AUTH}"});
    let more = |path, about, value| Document { path, about, value, alone: false };
    [
        more(
            "collector/optional/grafana-cloud.yaml",
            about(
                "Grafana Cloud, traces and logs by OTLP, the agent's metrics by remote write",
                "GRAFANA_CLOUD_OTLP_ENDPOINT, GRAFANA_CLOUD_PROMETHEUS_URL,\n\
                 GRAFANA_CLOUD_OTLP_AUTH and GRAFANA_CLOUD_PROMETHEUS_AUTH (each `id:key` in base64)",
            ),
            grafana,
        ),
        more(
            "collector/optional/langsmith.yaml",
            about("LangSmith, traces", "LANGSMITH_API_KEY, LANGSMITH_PROJECT"),
            traces("langsmith", "https://api.smith.langchain.com/otel", &langsmith),
        ),
        more(
            "collector/optional/langfuse.yaml",
            about(
                "Langfuse, traces",
                "LANGFUSE_URL (https://cloud.langfuse.com), LANGFUSE_AUTH (`public:secret` in base64)",
            ),
            traces("langfuse", "${env:LANGFUSE_URL}/api/public/otel", &langfuse),
        ),
    ]
}
