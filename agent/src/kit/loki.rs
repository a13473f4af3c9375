//! The layout in; Loki's settings out: one program, records kept for 90 days, their trace beside them.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Layout;
use crate::kit::yaml;
use serde_json::json;

/// How long records are kept: 90 days.
const KEPT: &str = "2160h";
/// Resource attributes that become labels. What differs from request to request stays beside the record.
const LABELS: [&str; 8] = [
    "job",
    "service.name",
    "service.namespace",
    "deployment.environment.name",
    "host.name",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.node.name",
];

/// The file.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn file(layout: Layout) -> Result<File, Error> {
    let about = format!(
        "Loki as one program. Records are kept for {KEPT}; the labels are few, and trace, user, session and request stand\n\
         beside the record as structured metadata. Nothing is reported to anybody.\n\
         Written by `tachograph generate loki`."
    );
    let value = json!({
        "auth_enabled": false,
        "analytics": {"reporting_enabled": false},
        "server": {
            "http_listen_address": layout.listen(), "http_listen_port": 3100,
            "grpc_listen_address": layout.listen(), "grpc_listen_port": 9096,
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": "/loki",
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {"filesystem": {"chunks_directory": "/loki/chunks", "rules_directory": "/loki/rules"}},
        },
        "schema_config": {"configs": [{
            "from": "2024-04-01", "store": "tsdb", "object_store": "filesystem", "schema": "v13",
            "index": {"prefix": "index_", "period": "24h"},
        }]},
        "limits_config": {
            "retention_period": KEPT,
            "allow_structured_metadata": true,
            "max_line_size": "256KB",
            "max_line_size_truncate": false,
            "otlp_config": {"resource_attributes": {
                "ignore_defaults": true,
                "attributes_config": [{"action": "index_label", "attributes": LABELS}],
            }},
        },
        "compactor": {
            "working_directory": "/loki/compactor", "retention_enabled": true, "delete_request_store": "filesystem",
        },
    });
    yaml::file("loki.yaml", &about, &value)
}
