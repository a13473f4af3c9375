//! The list of images in; the file that starts the stack on one machine, and the list itself, out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::images;
use crate::kit::yaml;
use serde_json::Value;
use serde_json::json;

/// All of them.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files() -> Result<Vec<File>, Error> {
    let about = "The whole stack on one machine: `docker compose up -d` (or `podman compose`), beside an agent that runs\n\
                 with tachograph.toml. Each program has the machine's network and listens on 127.0.0.1 only, so nothing\n\
                 is reachable from outside, and the agent needs no other address. Grafana is at http://127.0.0.1:3000\n\
                 (from elsewhere: `ssh -L 3000:127.0.0.1:3000 HOST`).\n\
                 Put the keys for PagerDuty and Slack into secrets/ (alertmanager.yml says which).\n\
                 Written by `tachograph generate all`.";
    let volumes: Value = ["prometheus", "alertmanager", "otel-collector", "loki", "tempo", "grafana"]
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let value = json!({"name": "tachograph", "services": services(), "volumes": volumes});
    Ok(vec![yaml::file("compose.yaml", about, &value)?, File::new("images.txt", images::list())])
}

fn service(name: &str, command: &Value, volumes: &Value) -> Value {
    json!({
        "image": images::image(name),
        "command": command,
        "volumes": volumes,
        "network_mode": "host",
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    })
}

fn services() -> Value {
    let mut collector = service(
        "otel-collector",
        &json!(["--config=/etc/otelcol/collector.yaml"]),
        &json!(["./collector:/etc/otelcol:ro", "otel-collector:/var/lib/otelcol"]),
    );
    // Its image has no folder for the queue, so the volume is root's; root without capabilities may write there.
    if let Some(collector) = collector.as_object_mut() {
        collector.insert("user".to_owned(), json!("0"));
    }
    json!({
        "prometheus": service(
            "prometheus",
            &json!([
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                "--storage.tsdb.retention.time=90d",
                "--web.listen-address=127.0.0.1:9090",
                "--web.enable-lifecycle",
                "--web.enable-otlp-receiver",
                "--web.enable-remote-write-receiver",
                "--enable-feature=exemplar-storage",
            ]),
            &json!([
                "./prometheus.yml:/etc/prometheus/prometheus.yml:ro", "./rules:/etc/prometheus/rules:ro",
                "./targets:/etc/prometheus/targets:ro", "prometheus:/prometheus",
            ]),
        ),
        "alertmanager": service(
            "alertmanager",
            &json!([
                "--config.file=/etc/alertmanager/alertmanager.yml",
                "--storage.path=/alertmanager",
                "--web.listen-address=127.0.0.1:9093",
                "--cluster.listen-address=",
            ]),
            &json!([
                "./alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro", "./secrets:/etc/alertmanager/secrets:ro",
                "alertmanager:/alertmanager",
            ]),
        ),
        "otel-collector": collector,
        "loki": service(
            "loki",
            &json!(["-config.file=/etc/loki/loki.yaml"]),
            &json!(["./loki.yaml:/etc/loki/loki.yaml:ro", "loki:/loki"]),
        ),
        "tempo": service(
            "tempo",
            &json!(["-target=all", "-config.file=/etc/tempo/tempo.yaml"]),
            &json!(["./tempo.yaml:/etc/tempo/tempo.yaml:ro", "tempo:/var/tempo"]),
        ),
        "grafana": service(
            "grafana",
            &json!([]),
            &json!([
                "./grafana/grafana.ini:/etc/grafana/grafana.ini:ro",
                "./grafana/provisioning:/etc/grafana/provisioning:ro", "./dashboards:/etc/grafana/tachograph:ro",
                "grafana:/var/lib/grafana",
            ]),
        ),
    })
}
