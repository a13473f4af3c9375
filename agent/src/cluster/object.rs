//! A pod as the API server writes it in, the [`Pod`] that is kept of it out.

use crate::cluster::Container;
use crate::cluster::Image;
use crate::cluster::Member;
use crate::cluster::Pod;
use crate::cluster::labels::List;
use crate::cluster::owner;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Containers kept of one pod.
const CONTAINERS: usize = 64;
/// The kubelet's own id of a static pod, on the mirror of it that the API server has.
const MIRROR: &str = "kubernetes.io/config.hash";

/// A pod of `v1`, with only what is read.
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    metadata: Meta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    uid: String,
    name: String,
    namespace: String,
    resource_version: Option<String>,
    creation_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<owner::Reference>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    containers: Option<Vec<Asked>>,
    init_containers: Option<Vec<Asked>>,
    ephemeral_containers: Option<Vec<Asked>>,
}

/// A container as the pod asks for it.
#[derive(Debug, Clone, Deserialize)]
struct Asked {
    name: String,
    image: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    #[serde(rename = "containerStatuses")]
    main: Option<Vec<Run>>,
    #[serde(rename = "initContainerStatuses")]
    init: Option<Vec<Run>>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Option<Vec<Run>>,
}

/// A container as the kubelet runs it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    name: String,
    image: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    last_state: Option<LastState>,
}

#[derive(Debug, Clone, Deserialize)]
struct LastState {
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Deserialize)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl Object {
    /// Its id for good.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// Which state of the cluster it is of.
    pub fn version(&self) -> Option<&String> {
        self.metadata.resource_version.as_ref()
    }

    /// What is kept of it.
    pub fn pod(self, list: &List) -> Pod {
        let Self { metadata, spec, status } = self;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let labels = metadata.labels.unwrap_or_default();
        let created = metadata.creation_timestamp.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let references = metadata.owner_references.unwrap_or_default();
        let owners = owner::chain(&references, &labels, created.map(jiff::Timestamp::as_second));
        let number = |label: &str| labels.get(label)?.parse().ok();
        let member = number("leaderworkerset.sigs.k8s.io/group-index")
            .zip(number("leaderworkerset.sigs.k8s.io/worker-index"))
            .map(|(group, worker)| Member { group, worker });
        let containers = containers(&spec, status);
        Pod {
            uid: metadata.uid,
            name: metadata.name,
            namespace: metadata.namespace,
            node: spec.node_name,
            owners,
            member,
            containers,
            labels: list.keep(labels),
            mirror: metadata.annotations.and_then(|mut all| all.remove(MIRROR)),
        }
    }
}

fn containers(spec: &Spec, status: Status) -> Vec<Container> {
    let asked = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    let asked: BTreeMap<&str, &str> =
        asked.into_iter().flatten().flatten().filter_map(|it| Some((it.name.as_str(), it.image.as_deref()?))).collect();
    let one = |run: Run| {
        let image = asked.get(run.name.as_str()).copied().or(run.image.as_deref()).unwrap_or_default();
        let image = Image::of(image, run.image_id.as_deref().unwrap_or_default());
        let before = run.last_state.and_then(|state| state.terminated).and_then(|ended| ended.container_id);
        let ids = [run.container_id, before].into_iter().flatten().filter_map(|id| bare(&id)).collect();
        Container { name: run.name, ids, image }
    };
    [status.main, status.init, status.ephemeral].into_iter().flatten().flatten().take(CONTAINERS).map(one).collect()
}

/// `containerd://9f…` without the runtime.
fn bare(id: &str) -> Option<String> {
    let (_runtime, id) = id.split_once("://")?;
    (!id.is_empty()).then(|| id.to_owned())
}
