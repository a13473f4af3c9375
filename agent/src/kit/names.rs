//! An expression in; every metric that it asks for with the labels that it selects by, out, and which of them nobody has.

use crate::export::catalog;
use crate::export::catalog::Kind;
use crate::kit::aliases::ALIASES;
use crate::kit::aliases::VLLM;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Labels that discovery or the rules add.
const ADDED: &[&str] = &[
    "job",
    "instance",
    "node",
    "namespace",
    "pod",
    "le",
    "slo",
    "window",
    "alias",
    "severity",
    "alertname",
    "alertstate",
    "program",
];
/// What Prometheus itself makes.
const OWN: &[&str] = &["up", "ALERTS", "scrape_samples_scraped"];
/// Words of the language that no bracket follows.
const WORDS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
    "nan",
];

/// Every metric that may be asked for, with its labels; those that are recorded have the labels of what they are made of.
pub(crate) fn known(recorded: impl IntoIterator<Item = String>) -> BTreeMap<String, Option<BTreeSet<&'static str>>> {
    let mut known = BTreeMap::new();
    for metric in catalog::all() {
        let labels: BTreeSet<&str> =
            metric.labels.iter().map(|label| label.name).chain(ADDED.iter().copied()).collect();
        let parts: &[&str] = if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(parts.iter().map(|part| (format!("{}{part}", metric.name), Some(labels.clone()))));
    }
    let histograms = VLLM.iter().flat_map(|name| ["", "_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
    let free = histograms.chain(OWN.iter().map(|name| (*name).to_owned())).chain(recorded);
    known.extend(free.chain(ALIASES.iter().map(|alias| alias.name.to_owned())).map(|name| (name, None)));
    known
}

/// What is wrong with an expression: names that are not known, and labels that their metric has not.
pub(crate) fn wrong(expr: &str, known: &BTreeMap<String, Option<BTreeSet<&'static str>>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, labels) in selectors(expr) {
        match known.get(&name) {
            None => wrong.push(name),
            Some(Some(own)) => {
                wrong.extend(
                    labels
                        .iter()
                        .filter(|label| !own.contains(label.as_str()))
                        .map(|label| format!("{name}{{{label}}}")),
                );
            }
            Some(None) => {}
        }
    }
    wrong
}

/// The metrics of an expression, each with the labels between its braces.
pub(crate) fn selectors(expr: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = without_strings(expr);
    // A list of labels, a range, a duration is no metric.
    for (open, close) in
        [("by (", ')'), ("without (", ')'), ("on (", ')'), ("ignoring (", ')'), ("group_left (", ')'), ("[", ']')]
    {
        while let Some((before, after)) = rest.split_once(open) {
            let (_, behind) = after.split_once(close).unwrap();
            rest = format!("{before} {behind}");
        }
    }
    let part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
    let mut words = rest.as_str();
    while let Some(at) = words.find(part) {
        let (before, here) = words.split_at(at);
        let (word, mut after) = here.split_at(here.find(|it| !part(it)).unwrap_or(here.len()));
        // `5e3`, `0.99`, `$__rate_interval`.
        let number = word.starts_with(|it: char| it.is_ascii_digit()) || before.ends_with(['$', '.']);
        let call = after.trim_start().starts_with('(');
        if !number && !call && !WORDS.contains(&word.to_lowercase().as_str()) {
            let mut labels = Vec::new();
            if let Some(braces) = after.strip_prefix('{') {
                let (inside, behind) = braces.split_once('}').unwrap();
                let label = |pair: &str| pair.split(['=', '!']).next().unwrap().trim().to_owned();
                labels = inside.split(',').map(label).filter(|label| !label.is_empty()).collect();
                after = behind;
            }
            found.push((word.to_owned(), labels));
        }
        words = after;
    }
    found
}

/// The expression with every string emptied.
fn without_strings(expr: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut escaped = false;
    for it in expr.chars() {
        match (inside, it) {
            (_, '"') if !escaped => {
                inside = !inside;
                out.push('"');
            }
            (true, _) => escaped = it == '\\' && !escaped,
            (false, _) => out.push(it),
        }
        if it != '\\' {
            escaped = false;
        }
    }
    out
}

#[test]
fn the_metrics_of_an_expression_are_found_with_their_labels() {
    let expr = r#"histogram_quantile(0.99, sum by (model, le) (rate(a_bucket{b="x,}",c!~"y"}[$__rate_interval]))) > 1.5e3
        unless on (node) avg_over_time(m:c:rate5m[1d] offset 7d) or up == bool 0"#;
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = [("a_bucket", labels(&["b", "c"])), ("m:c:rate5m", vec![]), ("up", vec![])];
    assert_eq!(selectors(expr), expected.map(|(name, labels)| (name.to_owned(), labels)));
}

#[test]
fn a_name_or_a_label_that_nobody_has_is_wrong() {
    let known = known(["m:r:rate5m".to_owned()]);
    assert_eq!(wrong("sum(tachograph_request_total)", &known), ["tachograph_request_total"]);
    assert_eq!(
        wrong("tachograph_requests_total{code=\"200\",node=~\"a\"}", &known),
        ["tachograph_requests_total{code}"]
    );
    assert_eq!(wrong("gen_ai_server_request_duration_seconds", &known).len(), 1, "a histogram has no such series");
    assert_eq!(wrong("m:r:rate5m + up + vllm:kv_cache_usage_perc", &known), [""; 0]);
}
