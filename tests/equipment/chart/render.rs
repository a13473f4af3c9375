//! A file of values in; what Helm makes of the chart with it out, and what the schemas say of that.

use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// Helm of one major, and the chart that it reads.
#[derive(Debug, Clone)]
pub(super) struct Helm {
    folder: PathBuf,
    program: &'static str,
    chart: PathBuf,
}

/// A rendering as it was judged.
#[derive(Debug, Deserialize)]
pub(super) struct Judged {
    /// Its objects.
    pub(super) objects: Vec<Value>,
    /// What is wrong with them.
    pub(super) faults: Vec<String>,
}

/// A file or folder of this package.
fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The chart in the tree.
pub(super) fn chart() -> PathBuf {
    here("../helm/tachograph")
}

/// A copy of it that may be broken.
pub(super) fn copy(scratch: &Scratch) -> Result<PathBuf> {
    let status = Command::new("cp").arg("-r").arg(chart()).arg(scratch.path()).status()?;
    ensure!(status.success(), "the chart could not be copied");
    Ok(scratch.file("tachograph"))
}

impl Helm {
    /// The newer major; `None` where there is none.
    pub(super) fn find() -> Result<Option<Self>> {
        let Some(folder) = gate::chart()? else { return Ok(None) };
        Ok(Some(Self { folder, program: "helm-4", chart: chart() }))
    }

    /// The older major.
    pub(super) fn older(&self) -> Self {
        Self { program: "helm-3", ..self.clone() }
    }

    /// For another chart.
    pub(super) fn of(&self, chart: &Path) -> Self {
        Self { chart: chart.to_owned(), ..self.clone() }
    }

    /// Ready for arguments.
    pub(super) fn command(&self) -> Command {
        Command::new(self.folder.join("bin").join(self.program))
    }

    /// What it makes of a file of values.
    pub(super) fn template(&self, case: &str, more: &[&str]) -> Result<Output> {
        let mut command = self.command();
        command.args(["template", "tachograph"]).arg(&self.chart).args(["--namespace", "monitoring", "--values"]);
        command.arg(here(&format!("fixtures/chart/{case}.yaml"))).args(more);
        command.output().with_context(|| format!("cannot run {command:?}"))
    }

    /// The same, which must succeed.
    pub(super) fn render(&self, case: &str, more: &[&str]) -> Result<String> {
        let out = self.template(case, more)?;
        ensure!(out.status.success(), "{case}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Holds renderings against the schemas of their versions of Kubernetes, all in one run.
    pub(super) fn judge(&self, renderings: &[(&str, String)]) -> Result<Vec<Judged>> {
        let scratch = Scratch::new("renderings")?;
        let mut command = Command::new(self.folder.join("bin/python"));
        command.arg(here("equipment/chart/objects.py"));
        for (number, (version, text)) in renderings.iter().enumerate() {
            let file = scratch.file(&format!("{number}.yaml"));
            std::fs::write(&file, text)?;
            command.arg(version).arg(file);
        }
        let out = command.output().with_context(|| format!("cannot run {command:?}"))?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(serde_json::from_slice(&out.stdout)?)
    }
}

/// Compares a rendering with its stored twin, without boards and rules, which are the kit's.
pub(super) fn golden(case: &str, rendered: &str) -> Result<()> {
    let of_the_kit = ["templates/dashboards.yaml", "templates/prometheusrule.yaml"];
    let parts = rendered.split_inclusive("---\n");
    let kept: String = parts.filter(|part| !of_the_kit.iter().any(|name| part.contains(name))).collect();
    let path = here(&format!("golden/chart/{case}.yaml"));
    if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
        return std::fs::write(&path, kept).with_context(|| path.display().to_string());
    }
    let stored = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    assert!(kept == stored, "{} differs; run with TACHOGRAPH_BLESS=1 and look at the change", path.display());
    Ok(())
}
