//! An example of what a cluster says of this node.

use crate::cluster::Asked;
use crate::cluster::State;
use crate::cluster::labels::List;
use crate::cluster::object::Object;
use crate::cluster::pods::Store;
use crate::correlate::sample::ms;
use crate::correlate::sample::place;
use serde_json::json;

/// One pod of a Deployment, at the example's place.
pub(crate) fn cluster() -> State {
    let place = place();
    let id = place.container.unwrap().id;
    let pod = json!({
        "metadata": {
            "uid": place.pod_uid, "name": "vllm-6c5f9b-x7k2p", "namespace": "serving", "resourceVersion": "7",
            "labels": { "app.kubernetes.io/name": "vllm", "pod-template-hash": "6c5f9b", "team": "search" },
            "ownerReferences": [{ "kind": "ReplicaSet", "name": "vllm-6c5f9b", "controller": true }],
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [{ "name": "server", "image": "vllm/vllm-openai:v0.32.0" }],
        },
        "status": { "containerStatuses": [{
            "name": "server", "containerID": format!("containerd://{id}"),
            "imageID": "docker.io/vllm/vllm-openai@sha256:abcd",
        }] },
    });
    let pod: Object = serde_json::from_value(pod).unwrap();
    let mut store = Store::default();
    store.put(pod.pod(&List::default()));
    State::Asked(Asked { node: "gpu-1".to_owned(), pods: store.view(), current: Some(ms(0)), trouble: None })
}
