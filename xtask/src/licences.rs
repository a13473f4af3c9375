//! The crates of the lock file in; those that `.deny.toml` does not allow, by licence or by name, out: none.

use crate::step::cargo;
use crate::step::output;
use crate::step::root;
use serde_json::Value;
use std::collections::BTreeSet;

fn settings() -> String {
    std::fs::read_to_string(root().join(".deny.toml")).unwrap()
}

/// The quoted words of the first `KEY = [ … ]`; none where there is no such key.
fn list(text: &str, key: &str) -> Vec<String> {
    let Some((_, list)) = text.split_once(&format!("{key} = [")) else { return Vec::new() };
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the build of this workspace takes, as cargo resolves it.
fn metadata() -> Value {
    let platform = "x86_64-unknown-linux-gnu";
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", platform]);
    serde_json::from_str(&output(&mut metadata).unwrap()).unwrap()
}

/// Whether one alternative of an SPDX expression has allowed parts only.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    // `(A OR B) AND C` reads as `A OR B AND C` here: stricter for A, never laxer for C.
    let (choices, rest) = match expression.split_once(") AND ") {
        Some((choices, rest)) => (choices.replace('(', ""), Some(rest)),
        None => (flat, None),
    };
    let fine = |part: &str| allowed.iter().any(|licence| licence == part.trim());
    choices.split(" OR ").any(|choice| choice.split(" AND ").all(fine))
        && rest.is_none_or(|rest| is_allowed(rest, allowed))
}

#[test]
fn every_crate_has_an_allowed_licence() {
    let metadata = metadata();
    let allowed = list(&settings(), "allow");
    let packages = metadata["packages"].as_array().unwrap();
    let bad = packages.iter().filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none"), &allowed));
    let bad: Vec<String> = bad.map(|package| format!("{} {}", package["name"], package["license"])).collect();
    assert!(bad.is_empty(), "not allowed by .deny.toml:\n{}", bad.join("\n"));
}

/// Each crate that `[bans]` names may be used by its wrappers only, and each wrapper uses it.
#[test]
fn a_banned_crate_is_used_by_its_wrappers_only() {
    let metadata = metadata();
    let name = |id: &Value| metadata["packages"].as_array()?.iter().find(|it| it["id"] == *id)?["name"].as_str();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let settings = settings();
    let bans: Vec<&str> = settings.lines().filter(|line| line.starts_with("    { name = ")).collect();
    assert!(!bans.is_empty());
    for ban in bans {
        let banned = ban.split('"').nth(1);
        let uses = |node: &&Value| {
            let dependencies = node["dependencies"].as_array();
            dependencies.into_iter().flatten().any(|dependency| name(dependency) == banned)
        };
        let users: BTreeSet<String> =
            nodes.iter().filter(uses).filter_map(|node| name(&node["id"])).map(str::to_owned).collect();
        assert_eq!(users, list(ban, "wrappers").into_iter().collect(), "{banned:?}");
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    let table = [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-3.0", false),
    ];
    for (expression, expected) in table {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
