//! The layout in; Grafana's own settings, its data sources with the links between them, and where its boards are, out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Layout;
use crate::kit::yaml;
use serde_json::Value;
use serde_json::json;

/// All of them.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files(layout: Layout) -> Result<Vec<File>, Error> {
    let written = "Written by `tachograph generate grafana`.";
    let sources = format!(
        "Data sources and the ways between them: an exemplar and a record lead to their trace, a trace to its records\n\
         and to its metrics. {written}"
    );
    Ok(vec![
        File::new("grafana/grafana.ini", settings(layout)),
        yaml::file("grafana/provisioning/datasources/tachograph.yaml", &sources, &data_sources(layout))?,
        yaml::file("grafana/provisioning/dashboards/tachograph.yaml", written, &boards())?,
    ])
}

/// There is no account, so there is no password: whoever reaches this machine's loopback may look, and change nothing.
fn settings(layout: Layout) -> String {
    format!(
        "; Whoever can reach it may look and change nothing. There is no account: for one, set\n\
         ; disable_initial_admin_creation to false and give GF_SECURITY_ADMIN_PASSWORD__FILE.\n\
         ; Written by `tachograph generate grafana`.\n\
         [server]\nhttp_addr = {}\nhttp_port = 3000\n\n\
         [security]\ndisable_initial_admin_creation = true\n\n\
         [auth.anonymous]\nenabled = true\norg_role = Viewer\n\n\
         [users]\nallow_sign_up = false\n\n\
         [analytics]\nreporting_enabled = false\ncheck_for_updates = false\ncheck_for_plugin_updates = false\n\
         feedback_links_enabled = false\n\n\
         [news]\nnews_feed_enabled = false\n\n\
         [plugins]\npreinstall_disabled = true\n\n\
         [dashboards]\ndefault_home_dashboard_path = /etc/grafana/tachograph/overview.json\n",
        layout.listen()
    )
}

fn boards() -> Value {
    json!({"apiVersion": 1, "providers": [{
        "name": "tachograph", "folder": "Tachograph", "type": "file", "allowUiUpdates": false,
        "updateIntervalSeconds": 30, "options": {"path": "/etc/grafana/tachograph"},
    }]})
}

fn data_sources(layout: Layout) -> Value {
    let url = |service: &str, port: u16| format!("http://{}", layout.find(service, port));
    let source = |name: &str, kind: &str, port: u16, more: &Value| {
        json!({
            "name": name, "uid": kind, "type": kind, "access": "proxy", "url": url(kind, port), "editable": false,
            "isDefault": kind == "prometheus", "jsonData": more,
        })
    };
    // `$$` is a `$` that Grafana does not take for a variable of its environment.
    let derived = json!([
        {"name": "trace", "matcherType": "label", "matcherRegex": "trace_id", "datasourceUid": "tempo", "url": "$${__value.raw}"},
    ]);
    let to_metrics = |name: &str, metric: &str| json!({"name": name, "query": format!("histogram_quantile(0.95, sum by (le) (rate({metric}_bucket[5m])))")});
    json!({"apiVersion": 1, "prune": true, "datasources": [
        source("Prometheus", "prometheus", 9090, &json!({
            "httpMethod": "POST", "timeInterval": "15s", "prometheusType": "Prometheus",
            "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": "tempo"}],
        })),
        source("Loki", "loki", 3100, &json!({"derivedFields": derived})),
        source("Tempo", "tempo", 3200, &json!({
            "tracesToLogsV2": {
                "datasourceUid": "loki", "spanStartTimeShift": "-5m", "spanEndTimeShift": "5m",
                "customQuery": true, "query": "{job=\"llm-requests\"} | trace_id=\"$${__trace.traceId}\"",
            },
            "tracesToMetrics": {
                "datasourceUid": "prometheus", "spanStartTimeShift": "-10m", "spanEndTimeShift": "10m",
                "queries": [
                    to_metrics("time to first token, p95", "gen_ai_server_time_to_first_token_seconds"),
                    to_metrics("duration, p95", "gen_ai_server_request_duration_seconds"),
                    {"name": "waiting requests", "query": "sum(tachograph_engine_requests_waiting)"},
                ],
            },
            "serviceMap": {"datasourceUid": "prometheus"},
            "nodeGraph": {"enabled": true},
        })),
        source("Alertmanager", "alertmanager", 9093, &json!({
            "implementation": "prometheus", "handleGrafanaManagedAlerts": false,
        })),
    ]})
}
