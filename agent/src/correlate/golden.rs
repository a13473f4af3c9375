//! A rendering in, a comparison with its stored twin out; `TACHOGRAPH_BLESS=1` writes the twins anew.

/// Compares with `tests/golden/{name}`.
pub(crate) fn check(name: &str, actual: &str) {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name);
    if std::env::var_os("TACHOGRAPH_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{} differs; run with TACHOGRAPH_BLESS=1 and look at the change", path.display());
}
