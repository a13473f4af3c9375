//! The unit as systemd's own tools see it: without a fault, and exposed no further than the stored level says.

use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// The line that ends the judgement of systemd 252.
const EXPOSURE: &str = "Overall exposure level for tachograph.service: 2.7 OK";
/// As the tool writes that level as a limit.
const LIMIT: &str = "--threshold=27";

/// The unit with one change, where its program is there.
fn unit(scratch: &Scratch, from: &str, to: &str) -> Result<PathBuf> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/tachograph.service");
    let text = std::fs::read_to_string(unit)?;
    ensure!(text.contains(from), "no `{from}` in the unit");
    let copy = scratch.file("tachograph.service");
    std::fs::write(&copy, text.replace("/usr/bin/tachograph", "/bin/true").replace(from, to))?;
    Ok(copy)
}

fn analyze(arguments: &[&str], unit: &Path) -> Result<Output> {
    let mut command = Command::new("systemd-analyze");
    command.args(["--no-pager", "--man=no"]).args(arguments).arg(unit);
    command.output().with_context(|| format!("cannot run {command:?}"))
}

#[test]
fn the_unit_is_whole_and_a_wrong_key_is_noticed() -> Result<()> {
    if gate::equipment()?.is_none() {
        return Ok(());
    }
    let scratch = Scratch::new("unit")?;
    for (from, to, whole) in
        [("[Unit]", "[Unit]", true), ("RestartSec=", "RestartSecs=", false), ("Type=notify", "Type=notified", false)]
    {
        let unit = unit(&scratch, from, to)?;
        let out = analyze(&["verify", "--recursive-errors=yes"], &unit)?;
        assert_eq!(out.status.success(), whole, "{from}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

#[test]
fn the_unit_is_exposed_no_further() -> Result<()> {
    if gate::equipment()?.is_none() {
        return Ok(());
    }
    let scratch = Scratch::new("exposure")?;
    let security = ["security", "--offline=true", LIMIT];
    let out = analyze(&security, &unit(&scratch, "[Unit]", "[Unit]")?)?;
    let words = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && words.contains(EXPOSURE), "{}", words.lines().last().unwrap_or_default());
    let laxer = analyze(&security, &unit(&scratch, "RestrictNamespaces=yes", "RestrictNamespaces=no")?)?;
    assert!(!laxer.status.success(), "nobody noticed");
    Ok(())
}
