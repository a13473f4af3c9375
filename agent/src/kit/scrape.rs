//! The layout in; Prometheus' scrape settings, what it discovers agents and engines by, and examples that scale out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Kit;
use crate::kit::Layout;
use crate::kit::aliases;
use crate::kit::budget::Budget;
use crate::kit::budget::Load;
use crate::kit::rules;
use crate::kit::rules::INTERVAL_SECONDS;
use crate::kit::yaml;
use serde_json::Value;
use serde_json::json;

/// The largest node that one scrape is meant for.
const LARGE: Load = Load { models: 40, engines: 8, gpus: 16 };

/// All of them.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files(kit: &Kit) -> Result<Vec<File>, Error> {
    let mut files =
        vec![yaml::file("prometheus.yml", about(kit.layout), &settings(kit))?, rules::file()?, aliases::file()?];
    match kit.layout {
        Layout::Box => {
            let about = "More agents, and more vLLM servers, as `host:port`; Prometheus reads this file again by itself.\n\
                         The label `node` names the machine; without it the host of the address does.";
            let more = |file: &str| yaml::file(file, about, &json!([{"targets": []}]));
            files.extend([more("targets/tachograph.yml")?, more("targets/vllm.yml")?]);
        }
        Layout::Cluster => files.extend([pod_monitor()?, keda()?, hpa()?]),
    }
    Ok(files)
}

const fn about(layout: Layout) -> &'static str {
    match layout {
        Layout::Box => {
            "Prometheus for one machine: its own agent and vLLM, and those that targets/*.yml name.\n\
             Start it with --enable-feature=exemplar-storage --web.enable-otlp-receiver\n\
             --web.enable-remote-write-receiver. Written by `tachograph generate prometheus`."
        }
        Layout::Cluster => {
            "Prometheus in a cluster: agents are pods with the label app.kubernetes.io/name=tachograph, vLLM's have\n\
             app=vllm; each has a port named `metrics` (vLLM's may be `http`). With the Prometheus operator use\n\
             podmonitor.yaml instead.\n\
             Start it with --enable-feature=exemplar-storage --web.enable-otlp-receiver\n\
             --web.enable-remote-write-receiver. Written by `tachograph generate prometheus`."
        }
    }
}

/// Where the other programs of the stack tell their own metrics.
fn stack(layout: Layout) -> Vec<Value> {
    [
        ("prometheus", 9090),
        ("alertmanager", 9093),
        ("otel-collector", 8888),
        ("loki", 3100),
        ("tempo", 3200),
        ("grafana", 3000),
    ]
    .map(|(program, port)| {
        let host = if layout == Layout::Box { "127.0.0.1" } else { program };
        json!({"targets": [format!("{host}:{port}")], "labels": {"program": program}})
    })
    .into()
}

/// The machine's name: the label that discovery gave, else the host of the address.
fn node_of_address() -> Value {
    json!([{"source_labels": ["node", "__address__"], "regex": ";(.+):[0-9]+", "target_label": "node", "replacement": "$1"}])
}

fn of_pods(label: &str, value: &str, ports: &str) -> Value {
    json!([
        {"source_labels": [label], "regex": value, "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": ports, "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ])
}

fn settings(kit: &Kit) -> Value {
    let most = Budget::new(&kit.objectives).of(LARGE).next_multiple_of(10_000);
    let job = |name: &str, port: u16, (label, value, ports): (&str, &str, &str), limit: usize| match kit.layout {
        Layout::Box => json!({
            "job_name": name,
            "metrics_path": "/metrics",
            "sample_limit": limit,
            "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
            "file_sd_configs": [{"files": [format!("targets/{name}*.yml")], "refresh_interval": "30s"}],
            "relabel_configs": node_of_address(),
        }),
        Layout::Cluster => json!({
            "job_name": name,
            "metrics_path": "/metrics",
            "sample_limit": limit,
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": of_pods(label, value, ports),
        }),
    };
    let by = "__meta_kubernetes_pod_label_app_kubernetes_io_name";
    let agent = job("tachograph", kit.port, (by, "tachograph", "metrics"), most);
    // 0 is no limit: what an engine tells is not ours to bound.
    let vllm = job("vllm", 8000, ("__meta_kubernetes_pod_label_app", "vllm", "metrics|http"), 0);
    let manager = kit.layout.find("alertmanager", 9093);
    json!({
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": format!("{INTERVAL_SECONDS}s")},
        "storage": {"exemplars": {"max_exemplars": 100_000}, "tsdb": {"out_of_order_time_window": "30m"}},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
        "scrape_configs": [agent, vllm, {"job_name": "stack", "static_configs": stack(kit.layout)}],
    })
}

fn pod_monitor() -> Result<File, Error> {
    let node = json!([{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]);
    let about = "For the Prometheus operator, instead of the scrape settings: the job must stay `tachograph`.\n\
                 Written by `tachograph generate prometheus`.";
    let value = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "tachograph", "labels": {"app.kubernetes.io/name": "tachograph"}},
        "spec": {
            "jobLabel": "app.kubernetes.io/name",
            "selector": {"matchLabels": {"app.kubernetes.io/name": "tachograph"}},
            "podMetricsEndpoints": [{"port": "metrics", "interval": "15s", "relabelings": node}],
        },
    });
    yaml::file("podmonitor.yaml", about, &value)
}

/// Requests that wait for a seat; every engine says so itself, and each new replica takes its share.
const WAITING: &str = "sum(tachograph_engine_requests_waiting)";

fn keda() -> Result<File, Error> {
    let about = "An example: one more replica of a vLLM deployment for every four requests that wait.\n\
                 Written by `tachograph generate prometheus`.";
    let value = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "vllm"},
        "spec": {
            "scaleTargetRef": {"name": "vllm"},
            "minReplicaCount": 1,
            "maxReplicaCount": 8,
            "pollingInterval": 15,
            "cooldownPeriod": 600,
            "triggers": [{
                "type": "prometheus",
                "metadata": {"serverAddress": "http://prometheus:9090", "query": WAITING, "threshold": "4"},
            }],
        },
    });
    yaml::file("examples/keda.yaml", about, &value)
}

fn hpa() -> Result<File, Error> {
    let about = "An example: the same by a HorizontalPodAutoscaler, where the Prometheus adapter serves\n\
                 `fleet:tachograph_engine_requests_waiting:sum` as the external metric `llm_requests_waiting`:\n\
                 \n\
                 \x20 externalRules:\n\
                 \x20 - seriesQuery: '{__name__=\"fleet:tachograph_engine_requests_waiting:sum\"}'\n\
                 \x20   name: {as: llm_requests_waiting}\n\
                 \x20   metricsQuery: max(<<.Series>>)\n\
                 \n\
                 Written by `tachograph generate prometheus`.";
    let value = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "vllm"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm"},
            "minReplicas": 1,
            "maxReplicas": 8,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
            "metrics": [{
                "type": "External",
                "external": {
                    "metric": {"name": "llm_requests_waiting"},
                    "target": {"type": "AverageValue", "averageValue": "4"},
                },
            }],
        },
    });
    yaml::file("examples/hpa.yaml", about, &value)
}
