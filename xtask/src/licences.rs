//! The crates of the lock file in; those whose licence `.deny.toml` does not allow out: none.

use crate::step::cargo;
use crate::step::output;
use crate::step::root;

/// The quoted words of `allow = [ … ]`.
fn allowed() -> Vec<String> {
    let settings = std::fs::read_to_string(root().join(".deny.toml")).unwrap();
    let (_, list) = settings.split_once("allow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
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
    let metadata = output(cargo().args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]))
    .unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    let bad = packages.iter().filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none"), &allowed));
    let bad: Vec<String> = bad.map(|package| format!("{} {}", package["name"], package["license"])).collect();
    assert!(bad.is_empty(), "not allowed by .deny.toml:\n{}", bad.join("\n"));
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
