//! Recording rules by model, by node and for the fleet out: what boards and alerts ask again and again.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::yaml;
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds between two evaluations of a group, unless it says otherwise.
pub const INTERVAL_SECONDS: u32 = 30;

/// A file of rules.
#[derive(Debug, Serialize)]
pub struct Rules {
    /// Its groups.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated one after another.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How often.
    pub interval: String,
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Group {
    /// A group at the usual interval.
    pub fn new(name: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), interval: format!("{INTERVAL_SECONDS}s"), rules }
    }
}

/// One rule: it records, or it alerts.
#[derive(Debug, Default, Serialize)]
pub struct Rule {
    /// The name of the series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The name of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// What is evaluated.
    pub expr: String,
    /// How long it must hold before the alert fires.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Labels that are added.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What people are told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A rule that records.
pub fn record(name: &str, expr: impl Into<String>) -> Rule {
    Rule { record: Some(name.to_owned()), expr: expr.into(), ..Rule::default() }
}

/// What is a failure of the server, as the agent judges it: neither refused (4xx) nor left by the caller.
pub const FAILED: &str = r#"error_type!~"|client_disconnect",status!~"4..""#;
/// What the server was answerable for.
pub const ANSWERABLE: &str = r#"error_type!="client_disconnect",status!~"4..""#;

/// Of these the first is recorded where it is, else none of the second: a measured zero, for whom the second is known.
pub fn or_none_of(counted: &str, known: &str) -> String {
    format!("{counted} or 0 * {known}")
}

/// The file of recording rules.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn file() -> Result<File, Error> {
    let about = "Recording rules of Tachograph: by model, by node, for the fleet.\n\
                 Written by `tachograph generate prometheus`.";
    yaml::file("rules/recording.yml", about, &recording())
}

/// The recording rules.
pub fn recording() -> Rules {
    Rules {
        groups: vec![
            Group::new("tachograph-model", by_model()),
            Group::new("tachograph-node", by_node()),
            Group::new("tachograph-fleet", fleet()),
        ],
    }
}

const MODEL: &str = "sum by (gen_ai_request_model)";

fn by_model() -> Vec<Rule> {
    let requests = format!("{MODEL} (rate(tachograph_requests_total[5m]))");
    let mut rules = vec![
        record("model:tachograph_requests:rate5m", requests.clone()),
        record(
            "model:tachograph_failures:rate5m",
            or_none_of(&format!("{MODEL} (rate(tachograph_requests_total{{{FAILED}}}[5m]))"), &requests),
        ),
        record(
            "model:tachograph_rejections:rate5m",
            or_none_of(&format!("{MODEL} (rate(tachograph_requests_total{{status=\"429\"}}[5m]))"), &requests),
        ),
        record(
            "model:tachograph_tokens:rate5m",
            "sum by (gen_ai_request_model, type) (rate(tachograph_tokens_total[5m]))",
        ),
    ];
    for (name, histogram) in [
        ("ttft", "gen_ai_server_time_to_first_token_seconds_bucket"),
        ("tpot", "gen_ai_server_time_per_output_token_seconds_bucket"),
        ("duration", "gen_ai_server_request_duration_seconds_bucket"),
    ] {
        for (word, quantile) in [("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99")] {
            rules.push(record(
                &format!("model:tachograph_{name}_seconds:{word}_5m"),
                format!("histogram_quantile({quantile}, sum by (gen_ai_request_model, le) (rate({histogram}[5m])))"),
            ));
        }
    }
    rules.extend([
        record(
            "model:tachograph_cost_dollars:rate5m",
            format!("{MODEL} (rate(tachograph_request_cost_dollars_total[5m]))"),
        ),
        record(
            "model:tachograph_token_dollars:rate5m",
            format!("{MODEL} (rate(tachograph_request_token_dollars_total[5m]))"),
        ),
    ]);
    rules
}

fn by_node() -> Vec<Rule> {
    [
        ("node:tachograph_requests:rate5m", "sum by (node) (rate(tachograph_requests_total[5m]))"),
        ("node:tachograph_output_tokens:rate5m", "sum by (node) (rate(tachograph_tokens_total{type=\"output\"}[5m]))"),
        (
            "node:tachograph_engines:count",
            "count by (node) (tachograph_engine_wedged) or 0 * (max by (node) (up{job=\"tachograph\"}) == 1)",
        ),
        ("node:tachograph_engine_requests_running:sum", "sum by (node) (tachograph_engine_requests_running)"),
        ("node:tachograph_engine_requests_waiting:sum", "sum by (node) (tachograph_engine_requests_waiting)"),
        ("node:tachograph_engine_queued_tokens:sum", "sum by (node) (tachograph_engine_queued_tokens)"),
        ("node:tachograph_engine_kv_usage:max", "max by (node) (tachograph_engine_kv_usage_ratio)"),
        ("node:hw_power_watts:sum", "sum by (node) (hw_power_watts)"),
        ("node:hw_gpu_utilization:avg", "avg by (node) (hw_gpu_utilization_ratio)"),
        (
            "node:hw_gpu_memory:ratio",
            "sum by (node) (hw_gpu_memory_usage_bytes) / sum by (node) (hw_gpu_memory_limit_bytes)",
        ),
    ]
    .map(|(name, expr)| record(name, expr))
    .into()
}

fn fleet() -> Vec<Rule> {
    [
        ("fleet:tachograph_nodes:count", "count(up{job=\"tachograph\"} == 1)"),
        ("fleet:tachograph_engines:count", "sum(node:tachograph_engines:count)"),
        ("fleet:tachograph_requests:rate5m", "sum(model:tachograph_requests:rate5m)"),
        ("fleet:tachograph_failures:rate5m", "sum(model:tachograph_failures:rate5m)"),
        ("fleet:tachograph_output_tokens:rate5m", "sum(node:tachograph_output_tokens:rate5m)"),
        ("fleet:tachograph_engine_requests_waiting:sum", "sum(node:tachograph_engine_requests_waiting:sum)"),
        ("fleet:hw_power_watts:sum", "sum(node:hw_power_watts:sum)"),
    ]
    .map(|(name, expr)| record(name, expr))
    .into()
}
