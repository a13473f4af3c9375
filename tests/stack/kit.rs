//! The kit as `tachograph generate` writes it, held against the programs that it is for.

use crate::programs::Programs;
use crate::programs::output;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tachograph::config::Args;
use tachograph::config::Around;
use tachograph::config::Config;
use tachograph::kit::Layout;
use tachograph::kit::collector;

/// The settings that the kit in the tree is made from.
pub(crate) fn settings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/stack/tachograph.toml")
}

/// The whole kit, by the agent's own command.
pub(crate) fn generated(programs: &Programs, scratch: &Scratch, layout: &str) -> Result<PathBuf> {
    with(programs, scratch, layout, &[])
}

/// The same with further settings.
fn with(programs: &Programs, scratch: &Scratch, layout: &str, more: &[(&str, &str)]) -> Result<PathBuf> {
    let out = scratch.file(layout);
    let mut command = Command::new(&programs.tools.agent);
    command.envs(more.iter().copied());
    command.args(["generate", "all", "--layout", layout, "--config"]).arg(settings()).arg("--out").arg(&out);
    output(&mut command)?;
    Ok(out)
}

/// The files in a folder with this ending.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == ending)).collect())
}

/// Every expression of every board, with the variables at what stands for all, and where it stands.
pub(crate) fn of_boards(kit: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for file in files(&kit.join("dashboards"), "json")? {
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        for panel in board["panels"].as_array().context("no panels")? {
            let targets = panel["targets"].as_array().into_iter().flatten();
            for target in targets.filter(|target| target["datasource"]["type"] == "prometheus") {
                let expr = target["expr"].as_str().context("no expression")?.replace("$__rate_interval", "1m");
                let expr = ["$node", "$model", "$engine"].iter().fold(expr, |expr, name| expr.replace(name, ".*"));
                found.push((format!("{}: {}", board["title"], panel["title"]), expr));
            }
        }
    }
    ensure!(!found.is_empty(), "no board asks for anything");
    Ok(found)
}

#[test]
fn prometheus_takes_it() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("kit")?;
    for layout in ["box", "cluster"] {
        let kit = generated(&programs, &scratch, layout)?;
        output(programs.promtool().args(["check", "config"]).arg(kit.join("prometheus.yml")))?;
        output(programs.promtool().args(["check", "rules"]).args(files(&kit.join("rules"), "yml")?))?;
        output(programs.amtool().arg("check-config").arg(kit.join("alertmanager.yml")))?;
    }
    Ok(())
}

fn fire_as_tested(more: &[(&str, &str)]) -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("rules")?;
    let tests = with(&programs, &scratch, "box", more)?.join("rules/tests");
    let files = files(&tests, "yml")?;
    ensure!(files.len() == 3, "{files:?}");
    output(programs.promtool().current_dir(&tests).args(["test", "rules"]).args(files))?;
    Ok(())
}

#[test]
fn alerts_fire_when_they_should_and_not_before() -> Result<()> {
    fire_as_tested(&[])
}

#[test]
fn alerts_fire_for_models_with_objectives_of_their_own() -> Result<()> {
    let models = "model=org/big.v1,ttft_seconds=3,objective=0.99;model=a\"b,duration_seconds=20,availability=0.95";
    fire_as_tested(&[("TACHOGRAPH_SLO_MODELS", models)])
}

/// A test that nothing could fail would say nothing: with the thresholds of the rules moved, the tests notice.
#[test]
fn the_tests_of_the_alerts_can_fail() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("moved")?;
    let rules = generated(&programs, &scratch, "box")?.join("rules");
    for (file, from, to) in
        [("alerts.yml", "> 0.95", "> 0.99"), ("trends.yml", "> 1.2", "> 5"), ("slo.yml", "(6 *", "(7 *")]
    {
        let text = std::fs::read_to_string(rules.join(file))?;
        ensure!(text.contains(from), "{file} has no `{from}`");
        std::fs::write(rules.join(file), text.replace(from, to))?;
        let out = programs.promtool().current_dir(rules.join("tests")).args(["test", "rules", file]).output()?;
        assert!(!out.status.success(), "{file}: nobody noticed {to} instead of {from}");
    }
    Ok(())
}

#[test]
fn every_expression_of_a_board_parses() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("boards")?;
    for (place, expr) in of_boards(&generated(&programs, &scratch, "box")?)? {
        output(programs.promtool().args(["promql", "--experimental", "format", &expr])).context(place)?;
    }
    Ok(())
}

#[test]
fn loki_and_tempo_take_their_settings() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("stores")?;
    let kit = generated(&programs, &scratch, "box")?;
    for (program, file, check) in
        [("loki", "loki.yaml", "-verify-config"), ("tempo", "tempo.yaml", "-config.verify=true")]
    {
        let Some(mut command) = Programs::built(program) else { continue };
        output(command.arg(format!("-config.file={}", kit.join(file).display())).arg(check))?;
    }
    Ok(())
}

/// The kinds of components that a Collector has, each below its section: `exporters/otlp_http`.
fn components(collector: &mut Command) -> Result<BTreeSet<String>> {
    let words = output(collector.arg("components"))?;
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in words.lines() {
        match (line.strip_suffix(':'), line.trim().strip_prefix("- name: ")) {
            (Some(name), _) if !line.starts_with(' ') => section = name,
            (_, Some(kind)) => drop(found.insert(format!("{section}/{kind}"))),
            _ => {}
        }
    }
    Ok(found)
}

/// Takes out what a Collector has not, and says what that was.
fn without(value: &mut Value, has: &BTreeSet<String>) -> BTreeSet<String> {
    let kind = |section: &str, name: &str| format!("{section}/{}", name.split('/').next().unwrap_or_default());
    let mut gone = BTreeSet::new();
    for section in ["receivers", "processors", "exporters", "extensions"] {
        let Some(own) = value.get_mut(section).and_then(Value::as_object_mut) else { continue };
        own.retain(|name, _| has.contains(&kind(section, name)) || !gone.insert(kind(section, name)));
    }
    let keep = |section: &str, list: &mut Value| {
        let keeps = |name: &Value| name.as_str().is_some_and(|name| has.contains(&kind(section, name)));
        list.as_array_mut().into_iter().for_each(|list| list.retain(keeps));
    };
    if let Some(extensions) = value.pointer_mut("/service/extensions") {
        keep("extensions", extensions);
    }
    if let Some(pipelines) = value.pointer_mut("/service/pipelines").and_then(Value::as_object_mut) {
        for pipeline in pipelines.values_mut() {
            pipeline.as_object_mut().into_iter().flatten().for_each(|(section, list)| keep(section, list));
        }
        let whole = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        pipelines.retain(|_, pipeline| whole(&pipeline["receivers"]) && whole(&pipeline["exporters"]));
    }
    if !has.contains("extensions/file_storage") {
        let exporters = value.pointer_mut("/exporters").and_then(Value::as_object_mut);
        for exporter in exporters.into_iter().flat_map(|all| all.values_mut()) {
            let queue = exporter.get_mut("sending_queue").and_then(Value::as_object_mut);
            queue.and_then(|queue| queue.remove("storage"));
        }
    }
    gone
}

/// As far as a Collector has the components: what it has not is taken out and named.
#[test]
fn the_collector_takes_its_settings() -> Result<()> {
    let Some(mut collector) = Programs::built("otelcol") else { return Ok(()) };
    let has = components(&mut collector)?;
    let scratch = Scratch::new("collector")?;
    let args = Args::read(["tachograph", "check", "--config", settings().to_str().context("a path that is no text")?])?;
    let kit = Config::load(args.flags(), &Around::system())?.kit(Layout::Box);
    let mut base = None;
    for collector::Document { path, mut value, alone, .. } in collector::documents(&kit) {
        let gone = without(&mut value, &has);
        if !gone.is_empty() {
            println!("left out: of {path}, this Collector lacks {gone:?}");
        }
        if value["service"]["pipelines"].as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let file = scratch.file(&path.replace('/', "-"));
        std::fs::write(&file, value.to_string())?;
        let mut validate = Programs::built("otelcol").context("it was there")?;
        validate
            .arg("validate")
            .args(base.iter().filter(|_| !alone).map(|base: &PathBuf| format!("--config={}", base.display())));
        validate.arg(format!("--config={}", file.display()));
        for (name, text) in [("GRAFANA_CLOUD_OTLP_ENDPOINT", "http://a"), ("LANGFUSE_URL", "http://a")] {
            validate.env(name, text);
        }
        output(&mut validate).with_context(|| path.to_owned())?;
        base.get_or_insert(file);
    }
    Ok(())
}

#[test]
fn what_is_taken_out_of_moreis_named() {
    let mut value = serde_json::json!({
        "receivers": {"otlp": {}, "prometheus/a": {}},
        "exporters": {"otlp_http/b": {"sending_queue": {"storage": "file_storage"}}},
        "extensions": {"file_storage": {}},
        "service": {"extensions": ["file_storage"], "pipelines": {
            "metrics": {"receivers": ["prometheus/a"], "exporters": ["otlp_http/b"]},
            "logs": {"receivers": ["otlp"], "exporters": ["otlp_http/b"]},
        }},
    });
    let has = ["receivers/otlp", "exporters/otlp_http", "exporters/prometheus"].map(str::to_owned);
    let gone = without(&mut value, &has.into());
    assert_eq!(gone, ["extensions/file_storage".to_owned(), "receivers/prometheus".to_owned()].into());
    assert_eq!(
        value,
        serde_json::json!({
            "receivers": {"otlp": {}}, "exporters": {"otlp_http/b": {"sending_queue": {}}}, "extensions": {},
            "service": {"extensions": [], "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp_http/b"]}}},
        })
    );
}
