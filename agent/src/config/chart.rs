//! The settings as serde reads them in; that part of the chart's schema of values out, which a test keeps from going
//! stale.

use crate::config::Flags;
use crate::config::partial::Partial;
use crate::config::value::ModelSlo;
use crate::config::value::TargetRule;
use crate::config::value::Written;
use crate::config::value::WrittenSlo;
use clap::Args as _;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

/// Those that the file has in another form than the agent.
macro_rules! as_written {
    ($setting:ty, $written:ty) => {
        impl JsonSchema for $setting {
            fn schema_name() -> Cow<'static, str> {
                <$written>::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$written>::json_schema(generator)
            }
        }
    };
}
as_written!(TargetRule, Written);
as_written!(ModelSlo, WrittenSlo);

fn chart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/tachograph").join(file)
}

/// The flags that help shows, as `section-key`.
fn shown() -> BTreeSet<String> {
    let command = Flags::augment_args(clap::Command::new("chart"));
    let shown = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let named = shown.filter_map(|flag| flag.get_long()).filter(|long| *long != "config");
    // Of several targets each is a table of its own in the file.
    named.map(|long| if long == "target" { "targets".to_owned() } else { long.to_owned() }).collect()
}

/// What the file may hold, less the settings that only tests want.
fn settings() -> Value {
    let mut how = SchemaSettings::draft07();
    how.inline_subschemas = true;
    let schema = how.into_generator().into_root_schema_for::<Partial>();
    let mut schema = serde_json::to_value(schema).unwrap();
    let root = schema.as_object_mut().unwrap();
    root.retain(|key, _| !["$schema", "title", "default"].contains(&key.as_str()));
    let shown = shown();
    let settings = root["properties"].as_object_mut().unwrap();
    settings.retain(|key, value| value.get("properties").is_some() || shown.contains(&flag(&[key])));
    schema
}

fn flag(path: &[&str]) -> String {
    path.join("-").replace('_', "-")
}

/// The flags of all settings in a schema of the file.
fn flags(schema: &Value) -> BTreeSet<String> {
    let of = |value: &Value| value["properties"].as_object().cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    for (section, value) in of(schema) {
        let inner = of(&value);
        if inner.is_empty() {
            found.insert(flag(&[&section]));
        }
        found.extend(inner.keys().map(|key| flag(&[&section, key])));
    }
    found
}

#[test]
fn the_schema_of_the_chart_has_every_setting() {
    let file = chart("values.schema.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema["properties"]["config"] = settings();
    let fresh = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
        std::fs::write(file, fresh).unwrap();
    } else {
        assert!(text == fresh, "{} is stale; `cargo xtask bless` writes it anew", file.display());
    }
}

/// The two lists are made by two crates from one type: neither may leave out what the other has.
#[test]
fn what_help_shows_and_what_the_chart_takes_is_the_same() {
    assert_eq!(flags(&settings()), shown());
}

/// The rules in the chart are for these objectives, and ask for their bucket bounds.
#[test]
fn the_objectives_of_the_chart_are_those_of_its_rules() {
    let stack = std::fs::read_to_string(chart("../../systemd/stack/tachograph.toml")).unwrap();
    let stack: toml::Table = toml::from_str(&stack).unwrap();
    let values = std::fs::read_to_string(chart("values.yaml")).unwrap();
    for (key, value) in stack["slo"].as_table().unwrap() {
        assert!(values.contains(&format!("\n    {key}: {value}\n")), "slo.{key} is {value} there");
    }
}

/// Both are versions of this package.
#[test]
fn the_chart_has_the_version_of_the_agent() {
    let file = std::fs::read_to_string(chart("Chart.yaml")).unwrap();
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(file.contains(&line), "no line{line}");
    }
}
