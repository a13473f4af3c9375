//! The GPUs of a snapshot in; their JSON out: each with all its tiers, and what no process answers for.

use crate::correlate::Gpu;
use crate::correlate::Gpus;
use crate::correlate::Snapshot;
use crate::ident::Pid;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// The state of NVML, and every GPU.
pub fn gpus(snapshot: &Snapshot) -> Value {
    match &snapshot.gpus {
        Gpus::Present { driver, gpus, lost } => {
            let gpus: Vec<Value> = gpus.iter().map(|it| gpu(it, snapshot)).collect();
            json!({ "state": "present", "driver": driver, "gpus": gpus, "lost": lost })
        }
        Gpus::Absent { why } => json!({ "state": "absent", "why": why }),
    }
}

fn gpu(gpu: &Gpu, snapshot: &Snapshot) -> Value {
    let mut out = json!(gpu);
    for process in out.get_mut("processes").and_then(Value::as_array_mut).into_iter().flatten() {
        let pid = process.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
        let place = pid.and_then(|pid| snapshot.places.get(&Pid(pid)));
        if let Value::Object(process) = process {
            process.insert("place".to_owned(), json!(place.map(Arc::as_ref)));
        }
    }
    if let Value::Object(out) = &mut out {
        out.insert("unattributed_bytes".to_owned(), json!(gpu.unattributed_bytes()));
        out.insert("unattributed_utilization".to_owned(), json!(gpu.unattributed_utilization()));
        if let Value::Object(more) = json!(gpu.more) {
            out.extend(more);
        }
    }
    out
}
