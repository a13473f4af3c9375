//! The chart as Helm renders it: like its stored renderings, within the schemas of Kubernetes and of the Prometheus
//! operator, and within the law of what an agent may be.

mod container;
mod law;
mod render;

use crate::chart::render::Helm;
use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tachograph::config::Args;
use tachograph::config::Around;
use tachograph::config::Config;

/// The oldest that Chart.yaml allows, the first with a field for AppArmor, and the newest that has schemas here.
const VERSIONS: [&str; 3] = ["1.25", "1.30", "1.37"];
/// Files of values in `fixtures/chart`, each with what it adds to the capabilities of every agent.
const CASES: [(&str, &[&str]); 5] = [
    ("defaults", &["DAC_READ_SEARCH"]),
    ("everything", &["DAC_READ_SEARCH"]),
    ("restricted", &[]),
    ("no-gpu", &["DAC_READ_SEARCH"]),
    ("old-kernel", &["DAC_READ_SEARCH", "SYS_ADMIN"]),
];

/// Every rendering at every version.
fn all(helm: &Helm) -> Result<Vec<(&'static str, String)>> {
    let pairs = VERSIONS.iter().flat_map(|version| CASES.map(|(case, _)| (*version, case)));
    pairs.map(|(version, case)| Ok((version, helm.render(case, &["--kube-version", version])?))).collect()
}

#[test]
fn every_rendering_is_within_the_schemas_and_the_law_and_the_agent_takes_its_settings() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    let judged = helm.judge(&all(&helm)?)?;
    assert_eq!(judged.len(), VERSIONS.len() * CASES.len());
    for (found, (case, more)) in judged.iter().zip(CASES.iter().cycle()) {
        assert_eq!(found.faults, [""; 0], "{case}");
        assert_eq!(law::breaches(&found.objects, more), [""; 0], "{case}");
        // What the chart itself mounts is no folder of the node.
        let of_the_node = found.objects.iter().any(|object| object.to_string().contains("hostPath"));
        assert_eq!(of_the_node, *case == "old-kernel", "{case}");
        let config = settings(&found.objects)?;
        assert_eq!(config.listen.to_string(), "0.0.0.0:9478", "{case}");
        let objective = if *case == "everything" { 2.0 } else { 1.5 };
        assert_eq!(config.correlate.objectives.all.ttft_seconds, Some(objective), "{case}");
        assert_eq!(config.scrape.network_namespaces, more.contains(&"SYS_ADMIN"), "{case}");
    }
    Ok(())
}

/// The agent's reading of the file in the ConfigMap.
fn settings(objects: &[Value]) -> Result<Config> {
    let text = objects.iter().find_map(|object| object.pointer("/data/tachograph.toml")?.as_str());
    let text = text.context("no settings")?.to_owned();
    let args = Args::read(["tachograph", "run", "--config", "file"])?;
    let read = |path: &Path| Ok(if path == Path::new("file") { text.clone() } else { "key".to_owned() });
    Ok(Config::load(args.flags(), &Around { env: &|_| None, read: &read, host: String::new() })?)
}

/// One change each, and who shall notice.
#[test]
fn a_broken_rendering_is_noticed() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    let whole = helm.render("everything", &[])?;
    let broken = [
        ("hostPID: true", "hostPid: true", "'hostPid' was unexpected"),
        ("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: soon", "'soon' is not of type"),
        ("kind: ClusterRole\n", "kind: ClusterRoll\n", "ClusterRoll"),
        ("jobLabel: ", "joblabel: ", "Extra inputs are not permitted"),
        ("interval: 30s", "interval: 30x", "should match pattern"),
        ("expr: vector(1)", "exp: vector(1)", "Field required"),
    ];
    let texts: Result<Vec<_>> = broken
        .iter()
        .map(|(from, to, _)| {
            ensure!(whole.contains(from), "no `{from}` in the rendering");
            Ok(("1.37", whole.replace(from, to)))
        })
        .collect();
    for (found, (_, to, said)) in helm.judge(&texts?)?.iter().zip(broken) {
        assert!(found.faults.iter().any(|fault| fault.contains(said)), "{to}: {:?}", found.faults);
    }
    Ok(())
}

#[test]
fn both_majors_of_helm_render_what_is_stored() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    for (case, _) in CASES {
        let rendered = helm.render(case, &[])?;
        assert!(rendered == helm.older().render(case, &[])?, "Helm 3 renders {case} otherwise");
        render::golden(case, &rendered)?;
    }
    Ok(())
}

/// Boards and rules are the kit's, and are not stored twice.
#[test]
fn boards_and_rules_in_the_chart_are_those_of_the_kit() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    let judged = helm.judge(&[("1.37", helm.render("everything", &[])?)])?;
    let objects = &judged.first().context("nothing was rendered")?.objects;
    let mut boards = 0;
    for entry in std::fs::read_dir(render::chart().join("files/dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_string_lossy();
        let object = format!("recorder-board-{}", name.trim_end_matches(".json"));
        let object = objects.iter().find(|it| it["metadata"]["name"] == *object).context(object)?;
        let text = object["data"][format!("tachograph-{name}")].as_str().context("no board")?;
        assert_eq!(text.trim_end(), std::fs::read_to_string(&path)?.trim_end(), "{name}");
        boards += 1;
    }
    assert_eq!(boards, 6);

    let rule = objects.iter().find(|it| it["kind"] == "PrometheusRule").context("no rules")?;
    let names: Vec<&str> = rule["spec"]["groups"].as_array().context("no groups")?.iter().filter_map(name).collect();
    let files = ["recording", "alerts", "slo", "trends", "aliases"].map(|file| format!("files/rules/{file}.yml"));
    let files: Vec<_> = files.iter().map(|file| render::chart().join(file)).collect();
    let mut expected = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        expected.extend(text.lines().filter_map(|line| line.strip_prefix("- name: ")).map(str::to_owned));
        for link in text.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: runbook.md")) {
            let link = format!("https://runbooks.example/tachograph{link}");
            assert!(rule.to_string().contains(&link), "{link}");
        }
    }
    expected.push("own".to_owned());
    assert_eq!(names, expected);

    let Some((_, stack)) = gate::stack()? else { return Ok(()) };
    let scratch = Scratch::new("rules")?;
    let rendered = scratch.file("rules.yml");
    // Of JSON each document is one of YAML.
    std::fs::write(&rendered, rule["spec"].to_string())?;
    let found = |files: &[PathBuf]| -> Result<usize> {
        let out = Command::new(stack.join("root/usr/bin/promtool")).args(["check", "rules"]).args(files).output()?;
        let words = String::from_utf8_lossy(&out.stdout);
        ensure!(out.status.success(), "{words}{}", String::from_utf8_lossy(&out.stderr));
        let counts = words.lines().filter_map(|line| line.trim().strip_prefix("SUCCESS: ")?.split(' ').next());
        Ok(counts.filter_map(|count| count.parse::<usize>().ok()).sum())
    };
    let own = 1;
    assert_eq!(found(&[rendered])?, found(&files)? + own);
    Ok(())
}

fn name(group: &Value) -> Option<&str> {
    group["name"].as_str()
}

/// What Helm refuses by the schema of values, and what the templates refuse themselves.
#[test]
fn wrong_values_are_refused_by_their_names() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    for (set, said) in [
        ("podMonitr.enabled=true", "additional properties 'podMonitr' not allowed"),
        ("hostPID=false", "additional properties 'hostPID' not allowed"),
        ("config.listn=1", "at '/config': additional properties 'listn' not allowed"),
        ("config.otlp.endpont=x", "at '/config/otlp': additional properties 'endpont' not allowed"),
        ("config.requests_kept=many", "at '/config/requests_kept': got string, want integer"),
        ("config.slo.ttft_seconds=fast", "at '/config/slo/ttft_seconds': got string, want number"),
        ("config.slo.objective=2", "at '/config/slo/objective': exclusiveMaximum"),
        ("config.level=all", "at '/config/level'"),
        ("config.targets[0].prt=1", "additional properties 'prt' not allowed"),
        ("nvidia.enabled=perhaps", "at '/nvidia/enabled': got string, want boolean"),
        ("config.listen=null", "config.listen is needed"),
        ("podMonitor.enabled=true,serviceMonitor.enabled=true", "every agent would be scraped twice"),
    ] {
        let out = helm.template("defaults", &["--set", set])?;
        let words = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && words.contains(said), "{set}: {words}");
        assert!(!helm.older().template("defaults", &["--set", set])?.status.success(), "Helm 3 takes {set}");
    }
    Ok(())
}

#[test]
fn the_chart_has_no_fault_and_a_broken_one_is_noticed() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    for (file, from, to, whole) in [
        ("Chart.yaml", "version: ", "version: ", true),
        ("Chart.yaml", "\nversion: ", "\nversions: ", false),
        ("values.yaml", "hostNetwork: false", "hostNetwork: perhaps", false),
        ("templates/service.yaml", "clusterIP: None", "clusterIP: {{ None", false),
    ] {
        let scratch = Scratch::new("chart")?;
        let copy = render::copy(&scratch)?;
        let text = std::fs::read_to_string(copy.join(file))?;
        assert!(text.contains(from), "no `{from}` in {file}");
        std::fs::write(copy.join(file), text.replacen(from, to, 1))?;
        for helm in [&helm, &helm.older()] {
            let out = helm.command().args(["lint", "--strict"]).arg(&copy).output()?;
            assert_eq!(out.status.success(), whole, "{file}: {}", String::from_utf8_lossy(&out.stdout));
        }
    }
    Ok(())
}

#[test]
fn the_package_renders_what_the_folder_does() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    let scratch = Scratch::new("package")?;
    let out = helm.command().arg("package").arg(render::chart()).arg("-d").arg(scratch.path()).output()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let package = scratch.file(&format!("tachograph-{}.tgz", env!("CARGO_PKG_VERSION")));
    assert!(helm.render("everything", &[])? == helm.of(&package).render("everything", &[])?);
    Ok(())
}
