//! Rust values in, OTLP attributes out; what is unknown makes none.

use crate::correlate::Identity;
use crate::correlate::Place;
use crate::correlate::Runtime;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// What can stand in an attribute.
pub trait Attribute {
    /// As OTLP writes it; `None` is no attribute.
    fn value(self) -> Option<Value>;
}

impl Attribute for &str {
    fn value(self) -> Option<Value> {
        Some(Value::StringValue(self.to_owned()))
    }
}

impl Attribute for &String {
    fn value(self) -> Option<Value> {
        self.as_str().value()
    }
}

impl Attribute for String {
    fn value(self) -> Option<Value> {
        Some(Value::StringValue(self))
    }
}

impl Attribute for bool {
    fn value(self) -> Option<Value> {
        Some(Value::BoolValue(self))
    }
}

impl Attribute for f64 {
    fn value(self) -> Option<Value> {
        Some(Value::DoubleValue(self))
    }
}

impl Attribute for i64 {
    fn value(self) -> Option<Value> {
        Some(Value::IntValue(self))
    }
}

impl Attribute for u64 {
    fn value(self) -> Option<Value> {
        Some(Value::IntValue(i64::try_from(self).unwrap_or(i64::MAX)))
    }
}

impl Attribute for u32 {
    fn value(self) -> Option<Value> {
        Some(Value::IntValue(self.into()))
    }
}

impl Attribute for u16 {
    fn value(self) -> Option<Value> {
        Some(Value::IntValue(self.into()))
    }
}

impl<T: Attribute> Attribute for Vec<T> {
    fn value(self) -> Option<Value> {
        let values = self.into_iter().map(|item| AnyValue { value: item.value() }).collect();
        Some(Value::ArrayValue(ArrayValue { values }))
    }
}

impl<T: Attribute> Attribute for Option<T> {
    fn value(self) -> Option<Value> {
        self?.value()
    }
}

/// One attribute.
pub fn pair(key: &str, value: impl Attribute) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: value.value() }), ..KeyValue::default() }
}

/// Attributes in the making.
#[derive(Debug, Default)]
pub struct Attributes(pub Vec<KeyValue>);

impl Attributes {
    /// Adds one where there is a value.
    pub fn put(&mut self, key: &str, value: impl Attribute) {
        if let Some(value) = value.value() {
            let value = Some(AnyValue { value: Some(value) });
            self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
    }

    /// Adds a list, unless it is empty.
    pub fn list<T: Attribute>(&mut self, key: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<T> = items.into_iter().collect();
        if !items.is_empty() {
            self.put(key, items);
        }
    }

    /// Adds where a process runs. No convention has a name for its unit.
    pub fn place(&mut self, place: &Place, who: Option<&Identity>) {
        let Place { container, pod_uid, unit } = place;
        // The cgroups of a static pod carry another id than the API server has for it.
        let pod_uid = who.map(|who| &who.pod.uid).or(pod_uid.as_ref());
        self.put("container.id", container.as_ref().map(|it| &it.id));
        self.put("container.runtime.name", container.as_ref().and_then(|it| it.runtime).map(Runtime::name));
        self.put("k8s.pod.uid", pod_uid);
        self.put("tachograph.systemd.unit", unit.as_ref());
        if let Some(who) = who {
            self.who(who);
        }
    }

    /// Adds the pod with its container and owners. What no convention has a name for is ours.
    fn who(&mut self, who: &Identity) {
        let Identity { pod, container } = who;
        self.put("k8s.namespace.name", &pod.namespace);
        self.put("k8s.pod.name", &pod.name);
        self.put("k8s.node.name", pod.node.as_ref());
        for (label, value) in &pod.labels {
            self.put(&format!("k8s.pod.label.{label}"), value);
        }
        for owner in &pod.owners {
            let key = match owner.kind.as_str() {
                "CronJob" => "k8s.cronjob.name",
                "DaemonSet" => "k8s.daemonset.name",
                "Deployment" => "k8s.deployment.name",
                "Job" => "k8s.job.name",
                "ReplicaSet" => "k8s.replicaset.name",
                "ReplicationController" => "k8s.replicationcontroller.name",
                "StatefulSet" => "k8s.statefulset.name",
                _ => continue,
            };
            self.put(key, &owner.name);
        }
        if let Some(owner) = pod.owners.last() {
            self.put("tachograph.k8s.owner.kind", &owner.kind);
            self.put("tachograph.k8s.owner.name", &owner.name);
            self.put("tachograph.k8s.owner.by", owner.by.name());
        }
        if let Some(member) = pod.member {
            self.put("tachograph.k8s.leaderworkerset.group_index", member.group);
            self.put("tachograph.k8s.leaderworkerset.worker_index", member.worker);
        }
        let Some(container) = container else { return };
        self.put("k8s.container.name", &container.name);
        self.put("container.image.name", container.image.name.as_ref());
        self.list("container.image.tags", container.image.tag.iter());
        self.list("container.image.repo_digests", container.image.digest.iter());
    }
}
