//! The linked crates in; their licences with all texts, each once, out.

use crate::dist::crates::Crate;
use crate::dist::names;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

const STARTS: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];
const RULE: &str = "================================================================================";
const HEAD: &str = "\
Tachograph is licensed under MIT or Apache-2.0, at your option.

Its program holds the crates below and the standard library of Rust (MIT OR Apache-2.0). The eBPF object in it is
licensed \"Dual MIT/GPL\". After the list come the texts that the crates bring, each once, with the crates it is of.
";

/// The page. A crate that brings no text is in the list only.
pub(super) fn write(linked: &[Crate]) -> Result<String> {
    let mut page = format!("{HEAD}\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in linked {
        let Crate { name, version, licence, folder, .. } = one;
        writeln!(page, "{name} {version}: {licence}")?;
        for file in names(folder)?.iter().filter(|file| is_licence(file)) {
            // A folder of texts, which some crates have, names them in its files.
            let Ok(bytes) = fs::read(folder.join(file)) else { continue };
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            texts.entry(text.trim().to_owned()).or_default().push(format!("{name} {version}"));
        }
    }
    for (text, crates) in texts {
        write!(page, "\n{RULE}\n{}\n{RULE}\n\n{text}\n", crates.join(", "))?;
    }
    Ok(page)
}

fn is_licence(file: &str) -> bool {
    let lower = file.to_lowercase();
    STARTS.iter().any(|start| lower.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        let table =
            [("LICENSE-MIT", true), ("COPYING", true), ("license.txt", true), ("NOTICE", true), ("README.md", false)];
        for (file, expected) in table {
            assert_eq!(is_licence(file), expected, "{file}");
        }
    }
}
