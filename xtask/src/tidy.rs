//! Every source file in; a list of what breaks the house rules out, which must be empty.

use crate::step::root;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

const PACKAGES: [&str; 4] = ["agent", "agent-ebpf", "xtask", "tests"];
const TOP: [&str; 10] =
    ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "agent", "agent-ebpf", "helm", "systemd", "tests", "xtask"];
/// Lines of the longest file allowed.
const LONGEST: usize = 700;

/// Text that stands in no Rust file, and why. Split where it would find itself.
const NOWHERE: [(&str, &str); 8] = [
    (concat!("use crate", "::{"), "one import a line, so that the layer test reads it"),
    (concat!("super", "::super"), "name the room from `crate`"),
    (concat!("#[", "ignore"), "a test that cannot run says why when it is run"),
    (concat!("#[", "allow("), "`#[expect(…, reason)]` says when it is no longer needed"),
    (concat!("#![", "allow("), "`#![expect(…, reason)]` says when it is no longer needed"),
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("unimplemented", "!("), "finish it or leave it out"),
    (concat!("#[should", "_panic"), "assert what is wrong, not that something is"),
];

/// Words that say less than they seem to, or that date a text; in lower case.
const WORDS: [&str; 11] = [
    concat!("fix", "me"),
    concat!("to", "do:"),
    concat!("ha", "ck"),
    concat!("blaz", "ing"),
    concat!("seam", "less"),
    concat!("simp", "ly "),
    concat!("obvious", "ly"),
    concat!("lever", "age"),
    concat!("robust", "ly"),
    concat!("compre", "hensive"),
    concat!("as an", " ai"),
];

/// The files with this ending under `folder`, without what is built or hidden.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|it| it == ending) {
            found.push(path.clone());
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let all = PACKAGES.iter().flat_map(|package| files(&root.join(package), "rs"));
    let named = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().display().to_string(), text)
    };
    all.map(named).collect()
}

fn breaches(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//! ") {
        found.push(format!("{name}: no `//!` at its start that says in → out"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        found.push(format!("{name}: {lines} lines; {LONGEST} is the most"));
    }
    for (number, line) in text.lines().enumerate() {
        let at = format!("{name}:{}", number + 1);
        let lower = line.to_lowercase();
        found.extend(
            NOWHERE.iter().filter(|(bad, _)| line.contains(bad)).map(|(bad, why)| format!("{at}: `{bad}`: {why}")),
        );
        found.extend(
            WORDS.iter().filter(|word| lower.contains(*word)).map(|word| format!("{at}: `{word}`: say it plainly")),
        );
        if line.ends_with([' ', '\t']) {
            found.push(format!("{at}: space at the end"));
        }
    }
    if name.ends_with("/mod.rs") {
        found.push(format!("{name}: a room is `room.rs` beside `room/`"));
    }
    found
}

#[test]
fn every_source_file_keeps_the_rules() {
    let found: Vec<String> = sources().iter().flat_map(|(name, text)| breaches(name, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_rules_catch_what_they_name() {
    for (bad, _) in NOWHERE {
        assert_eq!(breaches("a.rs", &format!("//! a\n{bad}\n")).len(), 1, "{bad}");
    }
    for word in WORDS {
        assert_eq!(breaches("a.rs", &format!("//! a\n// {word}.\n")).len(), 1, "{word}");
    }
    assert_eq!(breaches("a.rs", "fn main() {}\n").len(), 1);
    assert_eq!(breaches("a.rs", &format!("//! a\n{}", "\n".repeat(LONGEST))).len(), 1);
    assert_eq!(breaches("a/mod.rs", "//! a\n").len(), 1);
}

#[test]
fn the_top_of_the_tree_holds_nothing_that_the_map_does_not_name() {
    let expected: BTreeSet<String> = TOP.map(str::to_owned).into();
    let names = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> = names.filter(|name| !name.starts_with('.') && name != "target").collect();
    let foreign: Vec<&String> = found.difference(&expected).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
