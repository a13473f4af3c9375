//! README.md in; metrics, errands and files that it names and that are not there, out: none.

use crate::Errand;
use crate::step::root;
use clap::Parser as _;
use std::collections::BTreeSet;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The words of a text that start so and go on with a letter, as metrics and their labels are spelt.
fn words<'a>(text: &'a str, starts: &[&str]) -> BTreeSet<&'a str> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    let goes_on = |rest: &str| rest.starts_with(|it: char| it.is_ascii_lowercase());
    words.filter(|word| starts.iter().any(|start| word.strip_prefix(start).is_some_and(goes_on))).collect()
}

#[test]
fn every_metric_and_label_is_one_of_the_generated_page() {
    let (readme, page) = (read("README.md"), read("agent/METRICS.md"));
    let starts = ["tachograph_", "gen_ai_", "hw_"];
    let known = words(&page, &starts);
    let named = words(&readme, &starts);
    assert!(!named.is_empty());
    for name in named {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(known.contains(family), "{name}");
    }
}

#[test]
fn every_errand_can_be_run_as_it_is_written() {
    let readme = read("README.md");
    let errands: Vec<&str> = readme.split('`').filter(|word| word.starts_with("cargo xtask ")).collect();
    assert!(!errands.is_empty());
    for errand in errands {
        let parsed = Errand::try_parse_from(errand.split(' ').skip(1));
        assert!(parsed.is_ok(), "{errand}");
    }
}

#[test]
fn every_linked_file_is_there() {
    let readme = read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let missing: Vec<&str> = links.filter(|link| !link.contains("://") && !root().join(link).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
