//! Prerequisites in, one line each out.

use crate::attach::object;
use crate::attach::object::Way;
use crate::attach::plan;
use crate::clock::Clock;
use crate::clock::System;
use crate::cluster;
use crate::config::Config;
use crate::discover;
use crate::discover::Change;
use crate::discover::Closes;
use crate::discover::Discover;
use crate::engine::scrape;
use crate::gpu;
use crate::ident::Pid;
use crate::ident::Role;
use crate::kit::budget;
use crate::run;
use crate::run::engines;
use crate::run::privileges;
use crate::run::privileges::Networks;
use crate::run::privileges::READS;
use crate::run::privileges::needed;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// How a prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is there.
    Ok,
    /// Something works less well without it.
    Degraded,
    /// The agent cannot record without it.
    Missing,
}

impl State {
    /// The word at the beginning of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// One prerequisite as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: one or two words.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found: one sentence.
    pub what: String,
    /// What to do about it: one sentence.
    pub remedy: Option<String>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// How the worst of them stands.
    pub fn state(&self) -> State {
        self.0.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
    }
}

/// A line for each finding, and one more for its remedy.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        for Finding { name, state, what, remedy } in &self.0 {
            writeln!(f, "{:<8}  {name:<width$}  {what}", state.word())?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<8}  {:<width$}  → {remedy}", "", "")?;
            }
        }
        Ok(())
    }
}

/// Prints what the agent needs and what is there.
///
/// # Errors
///
/// Something is missing without which nothing can be recorded; the text has said what.
pub fn run(config: &Config) -> anyhow::Result<()> {
    // With what the agent itself keeps, so that it finds what the agent will.
    let way = run::way(config);
    privileges::give_up(way, Networks::of(config))?;
    let report = Report(findings(config, way));
    write!(std::io::stdout(), "{report}")?;
    if report.state() == State::Missing {
        anyhow::bail!("the agent cannot record here: see what is missing above");
    }
    Ok(())
}

fn findings(config: &Config, way: Way) -> Vec<Finding> {
    let mut findings = vec![kernel(), capabilities(way), uprobes(way)];
    findings.extend(programs(config, way));
    let (found, engines) = targets(config);
    findings.extend(found);
    let (found, gpus) = gpus(config);
    findings.push(found);
    findings.push(kubernetes(config));
    findings.push(series(config, budget::Load { models: 1, engines: engines.max(1), gpus }));
    findings
}

fn found(name: &'static str, state: State, what: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding { name, state, what: what.into(), remedy: remedy.map(str::to_owned) }
}

/// Attach cookies, by which one program serves many functions, came with 5.15.
fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 15) {
        found("kernel", State::Ok, release, None)
    } else {
        let what = format!("{release}: attach cookies are missing");
        found("kernel", State::Missing, what, Some("run a kernel of 5.15 or later"))
    }
}

/// What recording needs.
fn capabilities(way: Way) -> Finding {
    const NAME: &str = "capabilities";
    let held = |capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false);
    let missing: Vec<String> = needed(way)
        .filter(|(capability, _)| !held(*capability))
        .map(|(capability, why)| format!("{capability} ({why})"))
        .collect();
    if !missing.is_empty() {
        let what = format!("not held: {}", missing.join(", "));
        return found(NAME, State::Missing, what, Some("run as root, or grant these to the binary or its unit"));
    }
    let names = needed(way).map(|(capability, _)| capability.to_string()).collect::<Vec<_>>().join(", ");
    if held(READS) {
        found(NAME, State::Ok, format!("{names}, {READS}"), None)
    } else {
        let what = format!("{names}; not {READS}");
        found(
            NAME,
            State::Degraded,
            what,
            Some("engines in folders that only their own users may enter are not probed"),
        )
    }
}

fn uprobes(way: Way) -> Finding {
    if way == Way::Links {
        found("uprobes", State::Ok, "one link for all places of a program in a file", None)
    } else if Path::new("/sys/bus/event_source/devices/uprobe/type").exists() {
        found("uprobes", State::Ok, "a perf event for each place", None)
    } else {
        let remedy = Some("mount sysfs, or run a kernel with CONFIG_UPROBE_EVENTS");
        found("uprobes", State::Missing, "/sys/bus/event_source/devices/uprobe is not there", remedy)
    }
}

fn programs(config: &Config, way: Way) -> Vec<Finding> {
    let loader = object::Config { ring_bytes: config.ring_bytes, keep_losses: false, way };
    match object::Object::load(loader) {
        Err(error) => {
            let remedy = Some("see the lines above; a build without programs needs `cargo xtask build`");
            vec![found("programs", State::Missing, error.to_string(), remedy)]
        }
        Ok(loaded) if loaded.object.skips().is_empty() => {
            vec![found("programs", State::Ok, "the kernel takes them all", None)]
        }
        Ok(loaded) => loaded
            .object
            .skips()
            .iter()
            .map(|skip| found("programs", State::Degraded, format!("{}: {}", skip.what, skip.why), None))
            .collect(),
    }
}

/// What this node costs Prometheus.
fn series(config: &Config, load: budget::Load) -> Finding {
    let budget = budget::Budget::new(&config.correlate.objectives);
    found("series", State::Ok, budget.sentence(load, config.correlate.series_cap), None)
}

/// And how many engines there are.
fn targets(config: &Config) -> (Vec<Finding>, usize) {
    let others = config.targets.iter().map(|rule| rule.select.clone()).collect();
    let mut discover = Discover::new(discover::Config { others }, Pid(std::process::id()));
    let appeared = |change| if let Change::Appeared(target) = change { Some(target) } else { None };
    let targets: Vec<discover::Target> = discover.pass().into_iter().filter_map(appeared).collect();
    if targets.is_empty() {
        return (vec![found("targets", State::Ok, "no engine runs now; one that starts is found", None)], 0);
    }
    let asked =
        if config.scrape.enabled { engines::addresses(&targets.iter().collect::<Vec<_>>()) } else { Vec::new() };
    let engines: BTreeSet<_> = targets.iter().map(|target| target.engine).collect();
    let findings = targets.iter().map(target).chain(asked.iter().map(|target| metrics(config, target)));
    (findings.collect(), engines.len())
}

/// An engine that does not tell its own metrics is recorded like any other: only the comparison is missing.
fn metrics(config: &Config, target: &scrape::Target) -> Finding {
    const NAME: &str = "metrics";
    let clock: Arc<dyn Clock> = Arc::new(System);
    let pid = target.engine.0.pid;
    let outcome = scrape::once(config.scrape.settings(), target, &clock);
    let told = outcome.and_then(|outcome| Ok((outcome.scraped?, outcome.url.unwrap_or_default(), outcome.facts)));
    match told {
        Ok((sample, url, facts)) => {
            let version = facts.version.as_deref().unwrap_or("of unknown version");
            let news = match sample.unknown.count {
                0 => String::new(),
                count => format!(", {count} names that are not known here"),
            };
            found(
                NAME,
                State::Ok,
                format!("engine {pid} ({} {version}) tells its own at {url}{news}", sample.dialect),
                None,
            )
        }
        Err(error) => {
            let remedy = Some("requests are recorded all the same, without the engine's own numbers");
            found(NAME, State::Degraded, format!("engine {pid} does not tell its own: {error}"), remedy)
        }
    }
}

fn target(target: &discover::Target) -> Finding {
    let closes_by_syscall = target.closes == Closes::BySyscall;
    let mut probes = 0;
    let mut skips = Vec::new();
    for object in &target.objects {
        match plan::plan(object, target.role, closes_by_syscall) {
            Ok((planned, skipped)) => {
                probes += planned.len();
                skips.extend(skipped.into_iter().map(|skip| format!("{}: {}", skip.what, skip.why)));
            }
            Err(error) => skips.push(error.to_string()),
        }
    }
    let role = match target.role {
        Role::Frontend => "front end",
        Role::Core => "engine core",
    };
    let what = format!("{} {role}, pid {}: {probes} probes", target.kind.name(), target.process.pid);
    let state = if skips.is_empty() { State::Ok } else { State::Degraded };
    let remedy = (!skips.is_empty()).then(|| format!("not probed: {}", skips.join("; ")));
    Finding { name: "targets", state, what, remedy }
}

/// Who is asked for the pods of this node.
fn kubernetes(config: &Config) -> Finding {
    const NAME: &str = "kubernetes";
    let config = match &config.kubernetes {
        Ok(config) => config,
        Err(why) => return found(NAME, State::Ok, format!("not asked: {why}"), None),
    };
    match cluster::once(config) {
        Ok(0) => {
            let remedy = Some("set kubernetes.node to the name that this node has in the cluster");
            found(NAME, State::Degraded, format!("no pod is on a node named {}", config.node), remedy)
        }
        Ok(pods) => found(NAME, State::Ok, format!("{pods} pods on node {}", config.node), None),
        Err(error) => {
            let remedy = error.remedy().unwrap_or("containers are told by their ids only, until it answers");
            found(NAME, State::Degraded, error.to_string(), Some(remedy))
        }
    }
}

/// And how many there are.
fn gpus(config: &Config) -> (Finding, usize) {
    let nvml = config.nvml.clone();
    if !nvml.enabled {
        return (found("gpus", State::Ok, "switched off", None), 0);
    }
    let without = Some("requests are recorded without GPUs");
    let mut session = gpu::sampler::Session::new(&nvml);
    match session.step(System.now()) {
        gpu::State::Absent { why } => (found("gpus", State::Degraded, why, without), 0),
        gpu::State::Present { gpus, lost, .. } if gpus.is_empty() && lost.is_empty() => {
            (found("gpus", State::Ok, "NVML answers; it has no GPU", None), 0)
        }
        gpu::State::Present { driver, gpus, lost } => {
            let state = if lost.is_empty() { State::Ok } else { State::Degraded };
            (found("gpus", state, gpu_sentence(driver.as_deref(), &gpus, &lost), None), gpus.len() + lost.len())
        }
    }
}

/// Which GPUs, and what they do not tell.
fn gpu_sentence(driver: Option<&str>, gpus: &[gpu::Sample], lost: &[gpu::Lost]) -> String {
    let names: Vec<&str> = gpus.iter().map(|gpu| gpu.name.as_deref().unwrap_or("a GPU without a name")).collect();
    let mut parts = vec![format!("driver {}: {}", driver.unwrap_or("of unknown version"), names.join(", "))];
    let asked = gpus.iter().flat_map(|gpu| gpu.more.calls.iter());
    let silent: BTreeSet<&str> = asked.filter(|(_, calls)| calls.refused).map(|(call, _)| *call).collect();
    if !silent.is_empty() {
        let silent: Vec<&str> = silent.into_iter().collect();
        parts.push(format!("not told: {}", silent.join(", ")));
    }
    parts.extend(lost.iter().map(|lost| format!("GPU {} does not answer: {}", lost.index, lost.why)));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Calls;
    use std::collections::BTreeMap;

    #[test]
    fn gpus_are_named_with_what_they_do_not_tell() {
        let refused = Calls { refused: true, ..Calls::default() };
        let mut gpu = gpu::Sample { name: Some("H100".to_owned()), ..gpu::Sample::default() };
        gpu.more.calls = Arc::new(BTreeMap::from([("energy", refused), ("name", Calls::default())]));
        let lost = gpu::Lost { index: 1, uuid: None, name: None, why: "gone".to_owned(), xids: Arc::default() };
        let expected = "driver 580.1: H100, a GPU without a name; not told: energy; GPU 1 does not answer: gone";
        assert_eq!(gpu_sentence(Some("580.1"), &[gpu, gpu::Sample::default()], &[lost]), expected);
    }

    #[test]
    fn a_report_is_lines_in_columns_and_as_bad_as_its_worst() {
        let finding = |name, state, remedy: Option<&str>| Finding {
            name,
            state,
            what: format!("about {name}"),
            remedy: remedy.map(str::to_owned),
        };
        let report = Report(vec![
            finding("kernel", State::Ok, None),
            finding("btf", State::Missing, Some("install it")),
            finding("nvml", State::Degraded, None),
        ]);
        let text = "ok        kernel  about kernel\nmissing   btf     about btf\n                  → install it\n\
                    degraded  nvml    about nvml\n";
        assert_eq!(report.to_string(), text);
        assert_eq!((report.state(), Report::default().state()), (State::Missing, State::Ok));
    }
}
