//! The one list of settings in; `agent/SETTINGS.md`, the schema of the file in that of the chart's values, and whether
//! all that names a setting names one that is there, out.

use crate::config::Args;
use crate::config::Around;
use crate::config::Config;
use crate::config::Flags;
use crate::config::partial::Partial;
use clap::Args as _;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

/// A setting in its three spellings, and what its flag's help says of it.
struct Setting {
    table: String,
    key: String,
    flag: String,
    value: String,
    default: Option<String>,
    meaning: String,
}

impl Setting {
    /// Of a flag; its table is the one that its name begins with.
    fn new(arg: &clap::Arg, tables: &BTreeSet<String>) -> Self {
        let flag = arg.get_long().unwrap().to_owned();
        let within = tables.iter().find_map(|table| Some((table, flag.strip_prefix(&format!("{table}-"))?)));
        let (table, key) = within.map_or((String::new(), flag.as_str()), |(table, key)| (table.clone(), key));
        // The file has one list where flags say one each.
        let key = if key == "target" { "targets".to_owned() } else { key.replace('-', "_") };
        let help = arg.get_help().unwrap().to_string();
        let (meaning, default) = match help.split_once(" [default: ") {
            Some((meaning, rest)) => (meaning.to_owned(), Some(rest.trim_end_matches(']').to_owned())),
            None => (help, None),
        };
        let choices: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let named = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let chosen = (named.as_deref() != Some("BOOL")).then(|| choices.join(", ")).filter(|text| !text.is_empty());
        let meaning = chosen.map_or(meaning.clone(), |choices| format!("{meaning}: {choices}"));
        Self { table, key, value: named.unwrap_or_default(), default, meaning, flag }
    }

    fn variable(&self) -> String {
        format!("TACHOGRAPH_{}", self.flag.replace('-', "_").to_uppercase())
    }

    fn path(&self) -> String {
        if self.table.is_empty() { self.key.clone() } else { format!("{}.{}", self.table, self.key) }
    }
}

fn arguments() -> Vec<clap::Arg> {
    let command = Flags::augment_args(clap::Command::new("settings"));
    command.get_arguments().filter(|arg| arg.get_id() != "config" && arg.get_long().is_some()).cloned().collect()
}

/// Those that an operator may set, in the order of the help.
fn settings() -> Vec<Setting> {
    let schema = schema();
    let tables: BTreeSet<String> = keys(&schema, "").into_iter().filter(|key| !keys(&schema, key).is_empty()).collect();
    arguments().iter().filter(|arg| !arg.is_hide_set()).map(|arg| Setting::new(arg, &tables)).collect()
}

/// The keys of the file, or of a table of it, by the schema.
fn keys(schema: &Value, table: &str) -> BTreeSet<String> {
    let place = if table.is_empty() { "/properties".to_owned() } else { format!("/properties/{table}/properties") };
    schema.pointer(&place).and_then(Value::as_object).map(|all| all.keys().cloned().collect()).unwrap_or_default()
}

/// The JSON Schema of the file: what TOML can say, so no null, and nothing that only tests set.
fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Partial>().to_value();
    plain(&mut schema);
    for hidden in arguments().iter().filter(|arg| arg.is_hide_set()) {
        schema["properties"].as_object_mut().unwrap().remove(hidden.get_id().as_str()).unwrap();
    }
    schema["title"] = "The settings of Tachograph".into();
    schema
}

/// Takes out what stands there because a key may be absent, and sizes of Rust's numbers.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("default");
            object.remove("format");
            if let Some(kinds) = object.get_mut("type").and_then(Value::as_array_mut) {
                kinds.retain(|kind| kind != "null");
                let kinds = if let [one] = kinds.as_slice() { one.clone() } else { Value::from(kinds.clone()) };
                object.insert("type".to_owned(), kinds);
            }
            if let Some(choices) = object.get_mut("anyOf").and_then(Value::as_array_mut) {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(one)] = choices.as_mut_slice() {
                    let one = std::mem::take(one);
                    object.remove("anyOf");
                    for (key, value) in one {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(plain);
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

/// The page.
fn page() -> String {
    let mut page = "# Settings\n\nMade from the code; `cargo xtask bless` makes it anew.\n\nA setting is a key of the \
                    file (TOML; `/etc/tachograph/tachograph.toml` unless `--config` or `TACHOGRAPH_CONFIG` names \
                    another), a variable, or a flag. A flag wins over a variable, that over the file, that over the \
                    default. The standard `OTEL_*` variables stand between our variables and the file. On SIGHUP the \
                    file is read anew; what needs a restart is then named in the log.\n"
        .to_owned();
    let mut table = None;
    for setting in settings() {
        if table.as_ref() != Some(&setting.table) {
            let name = if setting.table.is_empty() { "Without a table" } else { &setting.table };
            write!(
                page,
                "\n## {name}\n\n| key | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n"
            )
            .unwrap();
            table = Some(setting.table.clone());
        }
        let Setting { flag, value, default, meaning, .. } = &setting;
        let default = default.as_ref().map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
        let meaning = meaning.replace('|', "\\|").replace('<', "&lt;");
        let (path, variable) = (setting.path(), setting.variable());
        let value = if value.is_empty() { String::new() } else { format!(" {value}") };
        writeln!(page, "| `{path}` | `--{flag}{value}` | `{variable}` | {default} | {meaning} |").unwrap();
    }
    page
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The schema of the chart's values, with that of the file as its `config`; the rest is written by hand.
const VALUES: &str = "helm/tachograph/values.schema.json";

fn values() -> String {
    let mut values: Value = serde_json::from_str(&read(VALUES)).unwrap();
    let mut config = schema();
    config.as_object_mut().unwrap().remove("$schema");
    values["properties"]["config"] = config;
    serde_json::to_string_pretty(&values).unwrap() + "\n"
}

#[test]
fn the_page_and_the_schema_are_not_stale() {
    for (path, text) in [("agent/SETTINGS.md", page()), (VALUES, values())] {
        if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
            std::fs::write(root().join(path), text).unwrap();
        } else {
            assert!(read(path) == text, "{path} is stale; `cargo xtask bless` writes it anew");
        }
    }
}

/// What the parser of the file knows: it lists it for a key that is not there.
fn accepted(table: &str) -> BTreeSet<String> {
    let text = if table.is_empty() { "nothing = 1".to_owned() } else { format!("[{table}]\nnothing = 1") };
    let error = toml::from_str::<Partial>(&text).unwrap_err();
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn flags_file_and_schema_have_the_same_settings() {
    let (schema, settings) = (schema(), settings());
    let mut by_table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for setting in &settings {
        by_table.entry(setting.table.clone()).or_default().insert(setting.key.clone());
    }
    let tables: BTreeSet<String> = by_table.keys().filter(|table| !table.is_empty()).cloned().collect();
    by_table.entry(String::new()).or_default().extend(tables);
    for (table, of_flags) in &by_table {
        let hidden: BTreeSet<String> =
            if table.is_empty() { ["keep_losses", "perf_events"].map(str::to_owned).into() } else { BTreeSet::new() };
        assert_eq!(&(&accepted(table) - &hidden), of_flags, "the file's [{table}]");
        assert_eq!(&keys(&schema, table), of_flags, "the schema's [{table}]");
        let object = if table.is_empty() { &schema } else { &schema["properties"][table] };
        assert_eq!(object["additionalProperties"], false, "{table}");
    }
    let variables: BTreeSet<String> = settings.iter().map(Setting::variable).collect();
    assert_eq!(variables.len(), settings.len());
}

#[test]
fn the_schema_says_what_values_may_be() {
    let schema = schema();
    for (place, says) in [
        ("/properties/ring_bytes/minimum", Value::from(65_536)),
        ("/properties/ring_bytes/type", "integer".into()),
        ("/properties/slo/properties/objective/exclusiveMaximum", 1.into()),
        ("/properties/scrape/properties/interval_seconds/exclusiveMinimum", 0.into()),
        ("/properties/content/properties/max_bytes/maximum", 65_536.into()),
        ("/properties/nvml/properties/enabled/type", "boolean".into()),
        ("/properties/slo/properties/models/items/additionalProperties", false.into()),
        ("/properties/targets/items/properties/port/type", "integer".into()),
        ("/properties/prices/properties/tokens/items/type", "string".into()),
    ] {
        assert_eq!(schema.pointer(place), Some(&says), "{place}");
    }
    let level = schema["properties"]["level"].to_string();
    assert!(["full", "no_tokens", "head"].iter().all(|choice| level.contains(choice)), "{level}");
    assert!(!schema.to_string().contains("null"), "TOML has none");
}

/// What is loaded from flags alone, as text.
fn loaded(flags: &[&str]) -> String {
    let args = Args::read(["tachograph", "run"].iter().chain(flags)).unwrap();
    let read = |_: &Path| Err(ErrorKind::NotFound.into());
    let around = Around { env: &|_| None, read: &read, host: String::new() };
    let mut config = Config::load(args.flags(), &around).unwrap();
    // What is not set is told apart there from its default, and asked for by these.
    let goals = std::mem::take(&mut config.goals).of("any");
    format!("{config:?} {} {}", goals.latency(), goals.availability())
}

/// Defaults that are words, and not values.
const IN_WORDS: &[&str] = &["slo.errors"];

#[test]
fn a_default_is_what_holds_when_nothing_is_set() {
    const BASE: [&str; 2] = ["--otlp-endpoint=http://c", "--content-capture=true"];
    let unset = loaded(&BASE);
    let mut count = 0;
    for setting in settings().iter().filter(|setting| !IN_WORDS.contains(&setting.path().as_str())) {
        let Some(default) = &setting.default else { continue };
        if setting.path() == "content.capture" {
            assert_eq!(loaded(&BASE[..1]), loaded(&[BASE[0], &format!("--{}={default}", setting.flag)]));
            continue;
        }
        assert_eq!(loaded(&[BASE[0], BASE[1], &format!("--{}={default}", setting.flag)]), unset, "{}", setting.path());
        count += 1;
    }
    assert!(count > 20);
    assert_ne!(loaded(&[BASE[0], BASE[1], "--logs-ok=0.5"]), unset, "a difference shows");
}

#[test]
fn the_short_list_of_the_readme_is_part_of_the_page() {
    let (readme, settings) = (read("README.md"), settings());
    let lines: Vec<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("--")).filter(|line| line.contains('<')).collect();
    assert!(lines.len() > 5);
    for line in lines {
        let (name, rest) = line.split_once(" <").unwrap();
        let (value, rest) = rest.split_once('>').unwrap();
        let setting = settings.iter().find(|setting| setting.flag == name).unwrap_or_else(|| panic!("--{name}"));
        assert!(setting.value == value || setting.value.is_empty() || value == "S" || value == "PRICE", "{line}");
        let default = rest.split_once("[default: ").map(|(_, rest)| rest.split_once(']').unwrap().0);
        assert_eq!(default, setting.default.as_deref(), "{line}");
    }
}

#[test]
fn the_environment_file_names_variables_that_are_there() {
    let variables: BTreeSet<String> = settings().iter().map(Setting::variable).collect();
    let text = read("systemd/tachograph.env");
    let named: Vec<&str> =
        text.lines().filter_map(|line| line.trim_start_matches('#').split_once('=')).map(|(name, _)| name).collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(variables.contains(name), "{name}");
    }
}
