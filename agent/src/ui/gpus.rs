//! The GPUs of a snapshot in; their JSON out: each with all its tiers, and what no process answers for.

use crate::correlate::Gpu;
use crate::correlate::Gpus;
use crate::correlate::Snapshot;
use serde_json::Value;
use serde_json::json;

/// The state of NVML, and every GPU.
pub fn gpus(snapshot: &Snapshot) -> Value {
    match &snapshot.gpus {
        Gpus::Present { driver, gpus, lost } => {
            let gpus: Vec<Value> = gpus.iter().map(gpu).collect();
            json!({ "state": "present", "driver": driver, "gpus": gpus, "lost": lost })
        }
        Gpus::Absent { why } => json!({ "state": "absent", "why": why }),
    }
}

fn gpu(gpu: &Gpu) -> Value {
    let mut out = json!(gpu);
    if let Value::Object(out) = &mut out {
        out.insert("unattributed_bytes".to_owned(), json!(gpu.unattributed_bytes()));
        out.insert("unattributed_utilization".to_owned(), json!(gpu.unattributed_utilization()));
        if let Value::Object(more) = json!(gpu.more) {
            out.extend(more);
        }
    }
    out
}
