//! Rust values in, OTLP attributes out; what is unknown makes none.

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
    pub fn place(&mut self, place: &Place) {
        let Place { container, pod_uid, unit } = place;
        self.put("container.id", container.as_ref().map(|it| &it.id));
        self.put("container.runtime.name", container.as_ref().and_then(|it| it.runtime).map(Runtime::name));
        self.put("k8s.pod.uid", pod_uid.as_ref());
        self.put("tachograph.systemd.unit", unit.as_ref());
    }
}
