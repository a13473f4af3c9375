//! What a pod says of its owners in, the chain of them out; what is concluded and not told is marked so.
//!
//! Only the pod itself is read: its owner references name the nearest owner, and its labels some of those behind.

use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Owners kept of one pod.
const OWNERS: usize = 8;

/// Something that a pod belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// What it is: `Deployment`, `StatefulSet`, `LeaderWorkerSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How that is known.
    pub by: By,
}

/// How an owner is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The pod's owner reference names it.
    Reference,
    /// A label of the pod names it.
    Label,
    /// Concluded: the ReplicaSet's name without the hash of its pod template, which a label of the pod has.
    PodTemplateHash,
    /// Concluded: the Job's name without the minute for which it was scheduled, within the hour before the pod.
    ScheduledMinute,
}

impl By {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Label => "label",
            Self::PodTemplateHash => "pod_template_hash",
            Self::ScheduledMinute => "scheduled_minute",
        }
    }
}

/// An owner reference.
#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

/// What stands above, by the labels that its controller gives each pod.
const LABELLED: [(&str, &str); 3] = [
    ("leaderworkerset.sigs.k8s.io/name", "LeaderWorkerSet"),
    ("ray.io/cluster", "RayCluster"),
    ("serving.kserve.io/inferenceservice", "InferenceService"),
];

/// The chain of owners, the nearest first. `created` is when the pod was, Unix seconds.
pub fn chain(references: &[Reference], labels: &BTreeMap<String, String>, created: Option<i64>) -> Vec<Owner> {
    let mut owners = Vec::new();
    let controller = references.iter().find(|owner| owner.controller == Some(true)).or_else(|| references.first());
    if let Some(Reference { kind, name, .. }) = controller {
        owners.push(Owner { kind: kind.clone(), name: name.clone(), by: By::Reference });
        owners.extend(match kind.as_str() {
            "ReplicaSet" => deployment(name, labels),
            "Job" => cron_job(name, created),
            _ => None,
        });
    }
    for (label, kind) in LABELLED {
        if let Some(name) = labels.get(label).filter(|_| owners.iter().all(|owner| owner.kind != kind)) {
            owners.push(Owner { kind: kind.to_owned(), name: name.clone(), by: By::Label });
        }
    }
    owners.truncate(OWNERS);
    owners
}

/// A ReplicaSet that no Deployment made gives its pods no such label.
fn deployment(replica_set: &str, labels: &BTreeMap<String, String>) -> Option<Owner> {
    let hash = labels.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
    let name = replica_set.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    let kind = "Deployment".to_owned();
    (!name.is_empty()).then(|| Owner { kind, name: name.to_owned(), by: By::PodTemplateHash })
}

/// A Job of a CronJob is named after it and the minute for which it was scheduled, and makes its pod soon after.
fn cron_job(job: &str, created: Option<i64>) -> Option<Owner> {
    let (name, minute) = job.rsplit_once('-')?;
    let late = created?.checked_sub(minute.parse::<i64>().ok()?.checked_mul(60)?)?;
    let fits = !name.is_empty() && (-60..=3_600).contains(&late);
    fits.then(|| Owner { kind: "CronJob".to_owned(), name: name.to_owned(), by: By::ScheduledMinute })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minute 29,000,000.
    const CREATED: i64 = 1_740_000_000;

    fn told(references: &[(&str, &str)], labels: &[(&str, &str)]) -> String {
        let references: Vec<Reference> = references
            .iter()
            .map(|(kind, name)| Reference { kind: (*kind).to_owned(), name: (*name).to_owned(), controller: None })
            .collect();
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let chain = chain(&references, &labels, Some(CREATED));
        assert!(chain.iter().all(|owner| serde_json::to_value(owner.by).unwrap() == owner.by.name()));
        let owners = chain.iter().map(|owner| format!("{} {} {}", owner.kind, owner.name, owner.by.name()));
        owners.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn chains() {
        const HASH: (&str, &str) = ("pod-template-hash", "6c5f9b");
        const LWS: (&str, &str) = ("leaderworkerset.sigs.k8s.io/name", "big");
        const RAY: (&str, &str) = ("ray.io/cluster", "ray");
        const SERVICE: (&str, &str) = ("serving.kserve.io/inferenceservice", "llama");
        for (references, labels, expected) in [
            (&[][..], &[][..], ""),
            (
                &[("ReplicaSet", "vllm-6c5f9b")],
                &[HASH],
                "ReplicaSet vllm-6c5f9b reference, Deployment vllm pod_template_hash",
            ),
            (&[("ReplicaSet", "vllm-6c5f9b")], &[], "ReplicaSet vllm-6c5f9b reference"),
            (&[("ReplicaSet", "6c5f9b")], &[HASH], "ReplicaSet 6c5f9b reference"),
            (&[("ReplicaSet", "other-abc")], &[HASH], "ReplicaSet other-abc reference"),
            (&[("StatefulSet", "db")], &[HASH], "StatefulSet db reference"),
            (&[("DaemonSet", "agent")], &[], "DaemonSet agent reference"),
            (&[("Job", "eval")], &[], "Job eval reference"),
            (&[("Job", "eval-28999990")], &[], "Job eval-28999990 reference, CronJob eval scheduled_minute"),
            (&[("Job", "eval-28999000")], &[], "Job eval-28999000 reference"),
            (&[("Job", "eval-2")], &[], "Job eval-2 reference"),
            (&[("StatefulSet", "big")], &[LWS], "StatefulSet big reference, LeaderWorkerSet big label"),
            (&[("RayCluster", "ray")], &[RAY], "RayCluster ray reference"),
            (
                &[("ReplicaSet", "p-6c5f9b")],
                &[HASH, SERVICE],
                "ReplicaSet p-6c5f9b reference, Deployment p pod_template_hash, InferenceService llama label",
            ),
            (&[("Node", "n1")], &[], "Node n1 reference"),
        ] {
            assert_eq!(told(references, labels), expected, "{references:?} {labels:?}");
        }
    }

    #[test]
    fn of_several_owners_the_controller_counts() {
        let reference = |kind: &str, controller| Reference { kind: kind.to_owned(), name: "it".to_owned(), controller };
        let both = [reference("ConfigMap", None), reference("StatefulSet", Some(true))];
        assert_eq!(chain(&both, &BTreeMap::new(), None)[0].kind, "StatefulSet");
    }
}
