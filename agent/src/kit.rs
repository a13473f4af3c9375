//! The catalog of metrics and an operator's settings in; the files of a whole monitoring stack out.
//!
//! Every file is made here, from the names that the agent exports and the objectives and prices that it was
//! given, so that a dashboard or an alert cannot ask for what nobody tells. What is rendered from
//! `systemd/stack/tachograph.toml` lies in `systemd/stack` and `helm/tachograph/files`; a test fails when it is stale.

use crate::correlate::prices::Prices;
use crate::correlate::slo::Objectives;
use std::path::Path;

pub mod alertmanager;
pub mod alerts;
pub mod aliases;
pub mod budget;
pub mod burn;
mod cases;
pub mod collector;
pub mod compose;
pub mod dashboards;
pub mod grafana;
pub mod images;
pub mod loki;
mod places;
pub mod rules;
mod runbook;
pub mod scrape;
pub mod slo;
pub mod tempo;
pub mod yaml;

#[cfg(test)]
pub(crate) mod names;

/// What can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Boards of Grafana.
    Dashboards,
    /// Scrape settings and recording rules, with the aliases of names that other boards use.
    Prometheus,
    /// Alerting rules with their unit tests and runbook.
    Alerts,
    /// Who is told of alerts.
    Alertmanager,
    /// The OpenTelemetry Collector: alone, on nodes, and as their gateway.
    Collector,
    /// Where logs are kept.
    Loki,
    /// Where traces are kept.
    Tempo,
    /// Grafana's own settings, and what it finds there when it starts.
    Grafana,
    /// All of these, and what starts them.
    All,
}

/// Where the stack runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// On one machine, beside the agent: everything listens on 127.0.0.1.
    Box,
    /// In a Kubernetes cluster: each program is a service of its own name.
    Cluster,
}

/// What all files are made of.
#[derive(Debug, Clone)]
pub struct Kit {
    /// Where the stack runs.
    pub layout: Layout,
    /// What requests may take.
    pub objectives: Objectives,
    /// Which share of them must keep that.
    pub goals: slo::Goals,
    /// What things cost.
    pub prices: Prices,
    /// The port of an agent.
    pub port: u16,
}

/// A file by its path below the folder that it is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl File {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// What cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An objective that no rule can watch.
    #[error(transparent)]
    Slo(#[from] slo::Refused),
    /// A value that is no YAML.
    #[error("{path}: {what}")]
    Yaml {
        /// Of which file.
        path: String,
        /// What the serializer says.
        what: String,
    },
}

/// The files.
///
/// # Errors
///
/// An objective that no rule can watch, by its key.
pub fn files(kit: &Kit, what: What) -> Result<Vec<File>, Error> {
    let slos = slo::slos(&kit.objectives, &kit.goals)?;
    let mut files = Vec::new();
    let wanted = |one| what == one || what == What::All;
    if wanted(What::Dashboards) {
        files.extend(dashboards::files(kit, &slos)?);
    }
    if wanted(What::Prometheus) {
        files.extend(scrape::files(kit)?);
    }
    if wanted(What::Alerts) {
        files.extend(alerts::files(&slos)?);
    }
    if wanted(What::Alertmanager) {
        files.extend(alertmanager::files()?);
    }
    if wanted(What::Collector) {
        files.extend(collector::files(kit)?);
    }
    if wanted(What::Loki) {
        files.push(loki::file(kit.layout)?);
    }
    if wanted(What::Tempo) {
        files.push(tempo::file(kit.layout)?);
    }
    if wanted(What::Grafana) {
        files.extend(grafana::files(kit.layout)?);
    }
    if what == What::All && kit.layout == Layout::Box {
        files.extend(compose::files()?);
    }
    Ok(files)
}

/// Makes the files and writes them below `out`.
///
/// # Errors
///
/// As [`files`], and what the system says.
pub fn run(kit: &Kit, what: What, out: &Path) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::io::Write as _;
    for File { path, text } in files(kit, what)? {
        let path = out.join(path);
        let folder = path.parent().unwrap_or(out);
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        writeln!(std::io::stdout(), "{}", path.display())?;
    }
    Ok(())
}
