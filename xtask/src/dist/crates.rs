//! The lock file in; the crates that are linked into the agent and its eBPF object out.

use crate::step::cargo;
use crate::step::output;
use crate::step::root;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A crate that others wrote.
#[derive(Debug)]
pub(super) struct Crate {
    /// Its name in the registry.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// The licence, as SPDX writes it.
    pub(super) licence: String,
    /// The SHA-256 of what the registry gave.
    pub(super) checksum: String,
    /// Where its sources lie.
    pub(super) folder: PathBuf,
}

/// Those that are linked, in order; what only builds or only expands macros is not.
pub(super) fn linked(target: &str) -> Result<Vec<Crate>> {
    let mut names = tree(&["-p", "tachograph", "--target", target])?;
    names.extend(tree(&["-p", "agent-ebpf", "--features", "bpf", "--target", "all"])?);
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--locked", "--all-features"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let sums = checksums(&fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?);
    let mut linked = Vec::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let [name, version] = ["name", "version"].map(|key| package[key].as_str().unwrap_or_default());
        if !names.contains(&format!("{name} v{version}")) {
            continue;
        }
        let manifest = PathBuf::from(package["manifest_path"].as_str().context("no manifest")?);
        let licence = package["license"].as_str().with_context(|| format!("{name} names no licence"))?;
        let checksum = sums.get(&(name.to_owned(), version.to_owned()));
        linked.push(Crate {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.replace('/', " OR "),
            checksum: checksum.with_context(|| format!("no checksum of {name} {version}"))?.clone(),
            folder: manifest.parent().context("no folder")?.to_owned(),
        });
    }
    linked.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(linked)
}

/// What cargo links, as `NAME vVERSION`.
fn tree(what: &[&str]) -> Result<BTreeSet<String>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let lines = output(tree.args(what))?;
    Ok(lines.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect())
}

/// The checksums of a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let entries = lock.split("[[package]]").filter_map(|entry| {
        let field = |key: &str| {
            let line = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_whole_and_what_only_builds_is_left_out() {
        let linked = linked("x86_64-unknown-linux-gnu").unwrap();
        let names: BTreeSet<&str> = linked.iter().map(|one| one.name.as_str()).collect();
        for (name, expected) in [("aya", true), ("aya-ebpf", true), ("ring", true), ("proptest", false), ("cc", false)]
        {
            assert_eq!(names.contains(name), expected, "{name}");
        }
        assert!(linked.iter().all(|one| one.checksum.len() == 64 && one.folder.is_dir()));
    }
}
