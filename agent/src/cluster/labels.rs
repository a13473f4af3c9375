//! The labels of a pod in, those that are on the list out.

use std::collections::BTreeMap;

/// Labels kept of one pod.
const LABELS: usize = 32;

/// Kept unless the operator says otherwise: the names that Kubernetes recommends.
pub const USUAL: [&str; 4] = [
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
];

/// Names of labels; a `*` at the end of one stands for any end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl Default for List {
    fn default() -> Self {
        Self(USUAL.map(str::to_owned).to_vec())
    }
}

impl List {
    fn has(&self, label: &str) -> bool {
        self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(head) => label.starts_with(head),
            None => name == label,
        })
    }

    /// Those that are on the list, at most 32.
    pub fn keep(&self, labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
        labels.into_iter().filter(|(label, _)| self.has(label)).take(LABELS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(list: &[&str], labels: &[&str]) -> Vec<String> {
        let labels = labels.iter().map(|label| ((*label).to_owned(), String::new())).collect();
        List(list.iter().map(|name| (*name).to_owned()).collect()).keep(labels).into_keys().collect()
    }

    #[test]
    fn only_what_is_listed_is_kept() {
        const LABELS: &[&str] = &["app", "app.kubernetes.io/name", "apple", "model", "secret"];
        for (list, expected) in [
            (&[][..], &[][..]),
            (&["model"], &["model"]),
            (&["app"], &["app"]),
            (&["app*"], &["app", "app.kubernetes.io/name", "apple"]),
            (&["app.kubernetes.io/*", "model"], &["app.kubernetes.io/name", "model"]),
            (&["*"], LABELS),
        ] {
            assert_eq!(kept(list, LABELS), expected, "{list:?}");
        }
    }

    #[test]
    fn a_pod_full_of_labels_is_bounded() {
        let many: Vec<String> = (0..1_000).map(|n| format!("label-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(kept(&["*"], &many).len(), LABELS);
    }
}
