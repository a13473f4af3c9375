//! The workspace in; what a node is given out, in `target/dist`: a tar, a package of Debian, checksums.
//!
//! ```text
//! binary ─┐
//! crates ─┼─▶ tree ──▶ tar, deb ──▶ SHA256SUMS
//! pages ──┘
//! ```
//!
//! Everything bears the time of the commit, so a second run makes the same bytes.

use crate::dist::binary::Arch;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

mod binary;
mod crates;
mod deb;
mod licences;
mod sbom;
mod tree;

/// The version of everything in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const SUMS: &str = "SHA256SUMS";

/// Where a package of Debian keeps what only people read.
const DOC: &str = "usr/share/doc/tachograph";

/// What is shipped, and where it was put.
pub(crate) struct Made {
    /// The program, as it is in all the others.
    pub(crate) agent: PathBuf,
    /// The folder of files to give away.
    pub(crate) folder: PathBuf,
}

/// Makes all of it.
pub(crate) fn all() -> Result<Made> {
    let agent = agent()?;
    let folder = root().join("target/dist");
    fill(&agent, &folder)?;
    Ok(Made { agent, folder })
}

/// Makes only the program, and gives its path.
pub(crate) fn agent() -> Result<PathBuf> {
    binary::build()
}

/// Makes the files once more; an error where a byte is another.
pub(crate) fn again(made: &Made) -> Result<()> {
    let second = root().join("target/dist-again");
    fill(&made.agent, &second)?;
    let [one, other] = [&made.folder, &second].map(|folder| fs::read_to_string(folder.join(SUMS)));
    let (one, other) = (one.context(SUMS)?, other.context(SUMS)?);
    ensure!(one == other, "first\n{one}then\n{other}");
    fs::remove_dir_all(&second).with_context(|| second.display().to_string())
}

/// Fills the folder anew with what is made around the program.
fn fill(agent: &Path, folder: &Path) -> Result<()> {
    let arch = Arch::here()?;
    let epoch = epoch()?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let work = folder.join("work");
    let name = format!("tachograph-{VERSION}-{}-linux-gnu", arch.rust);
    let tree = step("what is shipped", || {
        let linked = crates::linked(arch.target)?;
        println!("  {} crates are linked", linked.len());
        let pages = work.join("pages");
        run(Command::new(agent).arg("pages").arg("--out").arg(&pages))?;
        let bom = sbom::write(&linked, &date("+%FT%TZ", epoch)?);
        tree::stage(&work.join(&name), agent, &pages, &[("licences.txt", licences::write(&linked)?), (sbom::NAME, bom)])
    })?;
    step("tar", || tree::tar(&tree, &folder.join(format!("{name}.tar.gz")), epoch))?;
    step("package of Debian", || deb::build(&tree, &work.join("deb"), arch, epoch))?;
    fs::copy(tree.join(DOC).join(sbom::NAME), folder.join(format!("{name}.cdx.json")))?;
    fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    step("checksums", || sums(folder))
}

/// The time of the commit, or what `SOURCE_DATE_EPOCH` says.
fn epoch() -> Result<u64> {
    let said = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_unset) => output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]))
            .context("without git, SOURCE_DATE_EPOCH must say of when the sources are")?,
    };
    said.parse().with_context(|| format!("SOURCE_DATE_EPOCH={said}"))
}

/// Seconds since 1970 in another form, of UTC.
fn date(form: &str, epoch: u64) -> Result<String> {
    output(Command::new("date").args(["--utc", &format!("--date=@{epoch}"), form]).env("LC_ALL", "C"))
}

/// The names of the files in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Writes `SHA256SUMS` of all files in the folder, as `sha256sum --check` reads it.
fn sums(folder: &Path) -> Result<()> {
    let sums = output(Command::new("sha256sum").current_dir(folder).arg("--").args(names(folder)?))?;
    println!("{sums}");
    fs::write(folder.join(SUMS), sums + "\n").context(SUMS)
}
