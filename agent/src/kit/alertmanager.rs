//! Severities in; who is told of an alert, with whom together, and what it makes silent, out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::yaml;
use serde_json::Value;
use serde_json::json;

/// Where the secrets lie; neither is in any file that is made.
const SECRETS: &str = "/etc/alertmanager/secrets";

/// What is said, what follows from it, and the labels that must be the same.
type Quiet = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const BURN: &str = "alertname=~\"LLM(Latency|Availability)SLOBurn\"";
const FULL: &str = "alertname=\"LLMKVCacheFull\"";

const QUIET: [Quiet; 6] = [
    (&[BURN, "severity=\"critical\""], &[BURN, "severity=\"warning\""], &["slo", "gen_ai_request_model"]),
    (&[FULL], &["alertname=~\"LLMKVCache(Pressure|High)\""], &["node", "engine"]),
    (&["alertname=\"LLMKVCachePressure\""], &["alertname=\"LLMKVCacheHigh\""], &["node", "engine"]),
    (&["alertname=\"LLMEngineWedged\""], &["alertname=\"LLMQueueGrowing\""], &["node", "engine"]),
    (&["alertname=\"GPULost\""], &["alertname=~\"GPU(Xid|Degraded|Throttled)\""], &["node", "hw_id"]),
    (&["alertname=\"TachographAgentsAbsent\""], &["alertname=\"TachographAgentDown\""], &[]),
];

/// The file.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files() -> Result<Vec<File>, Error> {
    let about = format!(
        "Who is told: `critical` pages by PagerDuty and is said in Slack, `warning` is said in Slack, `info` is seen on\n\
         boards only. The secrets are files:\n\
         - {SECRETS}/pagerduty_routing_key: the key of an integration of type Events API v2\n\
         - {SECRETS}/slack_url: the address of an incoming webhook\n\
         Written by `tachograph generate alertmanager`."
    );
    // What is told already makes what follows from it silent.
    let quiet = |(source, target, equal): &(&[&str], &[&str], &[&str])| json!({"source_matchers": source, "target_matchers": target, "equal": equal});
    let quiet: Vec<Value> = QUIET.iter().map(quiet).collect();
    let value = json!({
        "route": {
            "receiver": "slack",
            "group_by": ["alertname", "slo", "gen_ai_request_model", "node"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [
                {"matchers": ["severity=\"info\""], "receiver": "boards-only"},
                {
                    "matchers": ["severity=\"critical\""],
                    "receiver": "pagerduty",
                    "group_wait": "10s",
                    "repeat_interval": "1h",
                    "continue": true,
                },
                {"matchers": ["severity=~\"critical|warning\""], "receiver": "slack"},
            ],
        },
        "inhibit_rules": quiet,
        "receivers": [
            {"name": "boards-only"},
            {
                "name": "pagerduty",
                "pagerduty_configs": [{
                    "routing_key_file": format!("{SECRETS}/pagerduty_routing_key"),
                    "severity": "{{ .CommonLabels.severity }}",
                    "description": "{{ (index .Alerts 0).Annotations.summary }}",
                    "send_resolved": true,
                }],
            },
            {
                "name": "slack",
                "slack_configs": [{
                    "api_url_file": format!("{SECRETS}/slack_url"),
                    "send_resolved": true,
                    "title": "{{ .Status | toUpper }} {{ .CommonLabels.alertname }}",
                    "text": "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n\
                             {{ .Annotations.runbook_url }}\n{{ end }}",
                }],
            },
        ],
    });
    Ok(vec![yaml::file("alertmanager.yml", &about, &value)?])
}
