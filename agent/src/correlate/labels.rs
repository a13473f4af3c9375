//! Names that a caller may have invented in, a bounded set of label values out.

use crate::correlate::OTHER;
use crate::request::Request;
use crate::stream::Operation;
use std::collections::BTreeSet;

/// The value of `gen_ai.operation.name`; `unknown` for a request whose HTTP side was not seen.
pub const fn operation(operation: Option<Operation>) -> &'static str {
    match operation {
        Some(Operation::Chat | Operation::Responses | Operation::Messages) => "chat",
        Some(Operation::TextCompletion) => "text_completion",
        Some(Operation::Embeddings) => "embeddings",
        Some(Operation::Pooling) => "pooling",
        None => "unknown",
    }
}

/// The model names that an engine has served with success. A name that only a caller has used is no label.
#[derive(Debug, Default)]
pub struct Served {
    names: BTreeSet<String>,
    cap: usize,
    overflow: u64,
}

impl Served {
    /// At most `cap` names.
    pub fn new(cap: usize) -> Self {
        Self { names: BTreeSet::new(), cap, overflow: 0 }
    }

    /// From now on at most `cap` names; those that are known stay.
    pub fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    /// A name that an engine gives as its own; one beyond the cap is counted.
    pub fn learn(&mut self, name: &str) {
        if name.is_empty() || self.names.contains(name) {
            return;
        }
        if self.names.len() < self.cap {
            self.names.insert(name.to_owned());
        } else {
            self.overflow += 1;
        }
    }

    /// How often a served name found no room.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The label of a finished request's model; a success teaches its name first.
    pub fn label(&mut self, request: &Request) -> String {
        let Some(name) = request.model.as_deref().or(request.response_model.as_deref()) else {
            return OTHER.to_owned();
        };
        let success = request.error_type.is_none() && request.status.is_some_and(|status| (200..300).contains(&status));
        if success {
            self.learn(name);
        }
        if self.names.contains(name) { name.to_owned() } else { OTHER.to_owned() }
    }
}
