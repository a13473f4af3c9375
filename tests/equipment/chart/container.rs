//! The Containerfile in; what its linter says of it out: nothing, and something of a broken one.

use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

#[test]
fn the_containerfile_has_no_fault_and_a_broken_one_is_noticed() -> Result<()> {
    let Some(folder) = gate::chart()? else { return Ok(()) };
    let scratch = Scratch::new("containerfile")?;
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/Containerfile"))?;
    for (from, to, rule) in [
        ("FROM ", "FROM ", None),
        (
            "${BASE}
",
            "gcr.io/distroless/cc-debian12
",
            Some("DL3006"),
        ),
        ("ENTRYPOINT [\"/usr/bin/tachograph\"]", "ENTRYPOINT /usr/bin/tachograph run", Some("DL3025")),
        ("COPY ", "ADD ", Some("DL3020")),
    ] {
        assert!(text.contains(from), "no `{from}`");
        let file = scratch.file("Containerfile");
        std::fs::write(&file, text.replace(from, to))?;
        let out = Command::new(folder.join("bin/hadolint"))
            .args(["--no-color", "--failure-threshold=style"])
            .arg(file)
            .output()?;
        let words = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.success(), rule.is_none(), "{words}");
        assert!(rule.is_none_or(|rule| words.contains(rule)), "{words}");
    }
    Ok(())
}
