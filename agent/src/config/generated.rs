//! The whole kit as it is rendered by default: not stale, and it asks for nothing that nobody tells.

use crate::config::Args;
use crate::config::Around;
use crate::config::Config;
use crate::kit;
use crate::kit::File;
use crate::kit::Kit;
use crate::kit::Layout;
use crate::kit::What;
use crate::kit::names;
use crate::kit::rules::Rule;
use crate::kit::rules::Rules;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

/// Where the kit for a layout lies.
fn folder(layout: Layout) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(if layout == Layout::Box { "systemd/stack" } else { "helm/tachograph/files" })
}

/// The kit of the settings that lie beside it.
fn kit(layout: Layout) -> Kit {
    let file = folder(Layout::Box).join("tachograph.toml");
    let args = Args::read(["tachograph", "check", "--config", file.to_str().unwrap()]).unwrap();
    let around = Around { env: &|_| None, read: &|path| std::fs::read_to_string(path), host: String::new() };
    Config::load(args.flags(), &around).unwrap().kit(layout)
}

fn rendered(layout: Layout) -> BTreeMap<String, String> {
    let files = kit::files(&kit(layout), What::All).unwrap();
    let count = files.len();
    let files: BTreeMap<String, String> = files.into_iter().map(|File { path, text }| (path, text)).collect();
    assert_eq!(files.len(), count, "two files have one path");
    files
}

/// What lies in the tree and was not rendered: written by hand, and why.
const BY_HAND: &[&str] = &["tachograph.toml"];
/// An operator's own, which git does not see.
const SECRETS: &str = "secrets/";

fn lying(folder: &Path, below: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(below).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lying(folder, &path, found);
        } else {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn what_lies_in_the_tree_is_not_stale() {
    for layout in [Layout::Box, Layout::Cluster] {
        let (folder, rendered) = (folder(layout), rendered(layout));
        let mut found = BTreeMap::new();
        lying(&folder, &folder, &mut found);
        found.retain(|name, _| !BY_HAND.contains(&name.as_str()) && !name.starts_with(SECRETS));
        if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
            for name in found.keys().filter(|name| !rendered.contains_key(*name)) {
                std::fs::remove_file(folder.join(name)).unwrap();
            }
            for (name, text) in &rendered {
                let path = folder.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            continue;
        }
        let stale: Vec<&String> =
            rendered.iter().filter(|(name, text)| found.get(*name) != Some(text)).map(|(name, _)| name).collect();
        assert!(stale.is_empty(), "stale in {}; `cargo xtask bless` writes them anew: {stale:?}", folder.display());
        let foreign: Vec<&String> = found.keys().filter(|name| !rendered.contains_key(*name)).collect();
        assert!(foreign.is_empty(), "in {}, and nobody renders it: {foreign:?}", folder.display());
    }
}

/// Every rule of the kit.
fn rules() -> Vec<Rule> {
    let kit = kit(Layout::Box);
    let slos = kit::slo::slos(&kit.objectives, &kit.goals).unwrap();
    let files: [Rules; 5] = [
        kit::rules::recording(),
        kit::aliases::rules(),
        kit::burn::rules(&slos),
        kit::alerts::rules(),
        kit::alerts::trends(),
    ];
    files.into_iter().flat_map(|rules| rules.groups).flat_map(|group| group.rules).collect()
}

/// Every panel of every board, rows left out, with the name of its board.
fn panels() -> Vec<(String, Value)> {
    let boards = rendered(Layout::Box).into_iter().filter(|(name, _)| name.starts_with("dashboards/"));
    let boards = boards.map(|(name, text)| (name, serde_json::from_str::<Value>(&text).unwrap()));
    let panels = boards.flat_map(|(name, board)| {
        let panels = board["panels"].as_array().unwrap().clone();
        panels.into_iter().map(move |panel| (name.clone(), panel))
    });
    panels.filter(|(_, panel)| panel["type"] != "row").collect()
}

fn is_of_prometheus(target: &Value) -> bool {
    target["datasource"]["type"] == "prometheus"
}

/// Every expression of rules and boards with the name of what has it.
fn expressions() -> Vec<(String, String)> {
    let of_rule = |rule: Rule| (rule.record.or(rule.alert).unwrap(), rule.expr);
    let mut all: Vec<_> = rules().into_iter().map(of_rule).collect();
    for (board, panel) in panels() {
        let targets = panel["targets"].as_array().unwrap().iter().filter(|target| is_of_prometheus(target));
        let name = format!("{board}: {}", panel["title"]);
        all.extend(targets.map(|target| (name.clone(), target["expr"].as_str().unwrap().to_owned())));
    }
    all
}

/// Units of Grafana that mean what they are used for here.
const UNITS: &[&str] = &[
    "s",
    "percentunit",
    "reqps",
    "short",
    "bytes",
    "watt",
    "celsius",
    "hertz",
    "joule",
    "currencyUSD",
    "ops",
    "cps",
    "none",
];

/// On one machine nobody outside it can reach anything: no address but the loopback's is listened on.
#[test]
fn nothing_listens_for_others() {
    for (name, text) in rendered(Layout::Box) {
        assert!(!text.contains("0.0.0.0") && !text.contains("[::]"), "{name}");
        let ports = text.lines().filter(|line| line.contains("endpoint:") && line.contains(":43"));
        assert!(ports.clone().all(|line| line.contains("127.0.0.1:") || line.contains("otel-gateway:")), "{name}");
    }
    for (image, text) in [
        ("grafana", "reporting_enabled = false"),
        ("loki", "reporting_enabled: false"),
        ("tempo", "reporting_enabled: false"),
    ] {
        let told = |(name, content): (&String, &String)| name.contains(image) && content.contains(text);
        assert!(rendered(Layout::Box).iter().any(told), "{image} reports");
    }
}

/// One list says what runs in which version.
#[test]
fn every_image_is_pinned_in_the_one_list() {
    let files = rendered(Layout::Box);
    let images: Vec<&str> =
        files["compose.yaml"].lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    let mut listed: Vec<&str> = files["images.txt"].lines().collect();
    listed.sort_unstable();
    let mut found = images.clone();
    found.sort_unstable();
    assert_eq!(found, listed);
    assert!(images.iter().all(|image| image.rsplit_once(':').is_some_and(|(_, tag)| tag.contains('.'))), "{images:?}");
}

#[test]
fn every_panel_says_what_it_shows_and_stands_alone() {
    let panels = panels();
    let boards: BTreeSet<&String> = panels.iter().map(|(board, _)| board).collect();
    assert_eq!(boards.len(), 6);
    let mut ids = BTreeSet::new();
    let mut places: BTreeSet<(String, u64, u64)> = BTreeSet::new();
    for (board, panel) in &panels {
        let name = format!("{board}: {}", panel["title"]);
        assert!(ids.insert((board, panel["id"].as_u64().unwrap())), "{name} has the id of another");
        let number = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (0..number("w")).flat_map(|x| (0..number("h")).map(move |y| (x, y))) {
            assert!(places.insert((board.clone(), number("x") + x, number("y") + y)), "{name} lies on another");
        }
        assert!(number("x") + number("w") <= 24, "{name}");
        let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        assert!(text(&panel["title"]) && text(&panel["description"]), "{name}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        assert!(UNITS.contains(&unit) || unit.starts_with("suffix:"), "{name}: {unit}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{name} asks for nothing");
        assert!(panel["datasource"]["uid"].as_str().unwrap().starts_with("${"), "{name}");
    }
}

#[test]
fn every_panel_looks_through_its_variables_and_over_grafanas_interval() {
    for (board, panel) in panels() {
        for target in panel["targets"].as_array().unwrap().iter().filter(|target| is_of_prometheus(target)) {
            let expr = target["expr"].as_str().unwrap();
            let alerts = expr.contains("ALERTS");
            assert!(expr.contains("$node") || expr.contains("$model") || alerts, "{board}: {expr}");
            assert!(!expr.contains("rate(") || expr.contains("[$__rate_interval]"), "{board}: {expr}");
        }
    }
}

#[test]
fn every_expression_asks_for_what_somebody_tells() {
    let recorded = rules().into_iter().filter_map(|rule| rule.record);
    let known = names::known(recorded);
    let all = expressions();
    assert!(all.len() > 200);
    for (name, expr) in all {
        assert_eq!(names::wrong(&expr, &known), [""; 0], "{name}: {expr}");
        assert!(!expr.contains("vector(0)"), "{name}: what is not known is no zero");
        assert!(!names::selectors(&expr).is_empty(), "{name} asks for nothing");
    }
}

#[test]
fn every_alert_says_what_it_is_and_what_to_do_and_has_a_test() {
    let files = rendered(Layout::Box);
    let runbook = &files["runbook.md"];
    let tests: String =
        files.iter().filter(|(name, _)| name.starts_with("rules/tests/")).map(|(_, text)| text.as_str()).collect();
    let alerts: Vec<Rule> = rules().into_iter().filter(|rule| rule.alert.is_some()).collect();
    let mut names = BTreeSet::new();
    for Rule { alert, labels, annotations, .. } in &alerts {
        let name = alert.as_ref().unwrap();
        names.insert(name.clone());
        assert!(["critical", "warning", "info"].contains(&labels["severity"].as_str()), "{name}");
        for annotation in ["summary", "description", "runbook_url"] {
            assert!(annotations.get(annotation).is_some_and(|text| !text.is_empty()), "{annotation} of {name}");
        }
        assert_eq!(annotations["runbook_url"], format!("runbook.md#{}", name.to_lowercase()));
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no page");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
    assert_eq!(runbook.matches("\n## ").count(), names.len(), "a page of no alert");
    for alert in kit::alerts::ALERTS {
        let fires: BTreeSet<bool> = alert.trials.iter().map(|trial| trial.fires > 0).collect();
        assert_eq!(fires.len(), 2, "{} is tested firing and silent", alert.name);
    }
}
