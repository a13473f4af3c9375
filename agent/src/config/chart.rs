//! The chart in; whether it speaks of this version of the agent, and of the objectives that its rules were made for, out.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)).unwrap()
}

/// The rules in the chart are for these, and ask for their bucket bounds.
#[test]
fn its_objectives_are_those_of_its_rules() {
    let stack: toml::Table = toml::from_str(&read("systemd/stack/tachograph.toml")).unwrap();
    let values = read("helm/tachograph/values.yaml");
    for (key, value) in stack["slo"].as_table().unwrap() {
        assert!(values.contains(&format!("\n    {key}: {value}\n")), "slo.{key} is {value} there");
    }
}

#[test]
fn its_version_is_that_of_the_agent() {
    let file = read("helm/tachograph/Chart.yaml");
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(file.contains(&line), "no line{line}");
    }
}
