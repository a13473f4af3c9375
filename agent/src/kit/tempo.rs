//! The layout in; Tempo's settings out: one program that keeps traces and makes metrics of them.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Layout;
use crate::kit::yaml;
use serde_json::json;

/// How long traces are kept: 30 days.
const KEPT: &str = "720h";

/// The file.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn file(layout: Layout) -> Result<File, Error> {
    let about = format!(
        "Tempo 3 as one program. Traces are kept for {KEPT}; metrics of spans and of who calls whom go to Prometheus.\n\
         Nothing is reported to anybody. Written by `tachograph generate tempo`."
    );
    let ring = json!({"instance_addr": "127.0.0.1", "kvstore": {"store": "inmemory"}});
    let at = |port: u16| json!({"endpoint": format!("{}:{port}", layout.listen())});
    let value = json!({
        "stream_over_http_enabled": true,
        "usage_report": {"reporting_enabled": false},
        "server": {
            "http_listen_address": layout.listen(), "http_listen_port": 3200,
            "grpc_listen_address": layout.listen(), "grpc_listen_port": 9095,
        },
        "memberlist": {"bind_addr": ["127.0.0.1"], "bind_port": 0, "join_members": []},
        "distributor": {
            "ring": ring,
            // Captured texts are attributes, of 64 KiB and their escapes each at most.
            "max_attribute_bytes": 262_144,
            "receivers": {"otlp": {"protocols": {"grpc": at(layout.tempo_port()), "http": at(layout.tempo_port() + 1)}}},
        },
        "live_store": {
            "ring": ring,
            "partition_ring": {"kvstore": {"store": "inmemory"}},
            "wal": {"path": "/var/tempo/live-store"},
            "shutdown_marker_dir": "/var/tempo/shutdown-marker",
        },
        "block_builder": {"wal": {"path": "/var/tempo/block-builder"}},
        "backend_scheduler": {"local_work_path": "/var/tempo/scheduler"},
        // Otherwise the newest half minute is hidden from a search.
        "query_frontend": {"query_end_cutoff": "0s"},
        "storage": {"trace": {
            "backend": "local", "wal": {"path": "/var/tempo/wal"}, "local": {"path": "/var/tempo/blocks"},
        }},
        "metrics_generator": {
            "ring": ring,
            "registry": {"external_labels": {"source": "tempo"}},
            "storage": {
                "path": "/var/tempo/generator",
                "remote_write": [{
                    "url": format!("http://{}/api/v1/write", layout.find("prometheus", 9090)), "send_exemplars": true,
                }],
            },
        },
        "overrides": {"defaults": {
            "compaction": {"block_retention": KEPT},
            "metrics_generator": {"processors": ["service-graphs", "span-metrics"]},
        }},
    });
    yaml::file("tempo.yaml", &about, &value)
}
