//! What a suite needs in; whether it may run out. What cannot run says why, and fails where nothing may be left out.

use crate::agent;
use crate::process::LAST_PID;
use crate::python::Python;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const STACK: &str = "TACHOGRAPH_STACK";
const NVML: &str = "TACHOGRAPH_NVML_PYTHON";
/// The compiler for musl.
pub const MUSL: &str = "musl-gcc";
const CHART: &str = "TACHOGRAPH_CHART";
const DIST: &str = "TACHOGRAPH_DIST";
const ROOT: &str = "TACHOGRAPH_ROOT";
const VARIABLE: &str = "TACHOGRAPH_TESTS";

/// What a kernel suite works with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Runs the stand-in engine.
    pub python: Python,
    /// The agent's binary.
    pub agent: PathBuf,
}

/// The tools of a kernel suite; `None` where it cannot run, with the reason printed.
///
/// # Errors
/// The reason, with `TACHOGRAPH_TESTS=strict`.
pub fn kernel() -> Result<Option<Tools>> {
    open(tools())
}

/// What a suite without an agent needs; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn equipment() -> Result<Option<Python>> {
    open(Python::find())
}

/// A Python with the packages of `nvml-stub/requirements.txt`; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn nvml() -> Result<Option<PathBuf>> {
    let named = std::env::var_os(NVML).map(PathBuf::from);
    open(named.ok_or_else(|| {
        format!("no Python with NVIDIA's binding; `cargo xtask test` installs one and names it in {NVML}")
    }))
}

/// The folder with Helm and what else judges the chart; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn chart() -> Result<Option<PathBuf>> {
    let named = std::env::var_os(CHART).map(PathBuf::from);
    open(named.ok_or_else(|| format!("no Helm; `cargo xtask test` installs it and names its folder in {CHART}")))
}

/// What the suite of real programs needs: beside the tools, the folder that `cargo xtask setup` fills.
///
/// # Errors
/// As [`kernel`].
pub fn stack() -> Result<Option<(Tools, PathBuf)>> {
    let named = std::env::var_os(STACK).ok_or_else(|| {
        format!("the real programs are not there; `cargo xtask test` installs them and names their folder in {STACK}")
    });
    open(tools().and_then(|tools| Ok((tools, PathBuf::from(named?)))))
}

/// The compiler for musl, beside the tools; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn musl() -> Result<Option<Tools>> {
    let found = std::process::Command::new(MUSL).arg("-dumpversion").output().map(drop);
    open(found.map_err(|error| format!("{MUSL}: {error}; Debian has it in musl-tools")).and_then(|()| tools()))
}

/// What builds an image and runs it, beside the tools; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn image() -> Result<Option<Tools>> {
    let runs = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    let lacking = ["buildah", "crun", "strip"].into_iter().find(|program| !runs(program));
    let there = lacking.map_or(Ok(()), |name| Err(format!("no {name}; `cargo xtask setup` installs it")));
    open(there.and_then(|()| tools()))
}

/// What is shipped, and a root to install it in.
#[derive(Debug, Clone)]
pub struct Shipped {
    /// `target/dist`.
    pub folder: PathBuf,
    /// The root of a small Debian.
    pub root: PathBuf,
}

impl Shipped {
    /// The one file of the folder that ends so.
    ///
    /// # Errors
    /// Where there is none.
    pub fn file(&self, ending: &str) -> Result<PathBuf> {
        let entries = std::fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path());
        let found = entries.into_iter().find(|path| path.to_string_lossy().ends_with(ending));
        found.with_context(|| format!("no {ending} in {}", self.folder.display()))
    }
}

/// What `cargo xtask dist` makes; otherwise as [`kernel`].
///
/// # Errors
/// As [`kernel`].
pub fn shipped() -> Result<Option<(Tools, Shipped)>> {
    let [folder, root] = [DIST, ROOT].map(|name| std::env::var_os(name).map(PathBuf::from));
    let named = folder.zip(root).map(|(folder, root)| Shipped { folder, root });
    let why = || format!("nothing to install; `cargo xtask test` makes it and names it in {DIST} and {ROOT}");
    open(tools().and_then(|tools| Ok((tools, named.ok_or_else(why)?))))
}

/// Whether a test may choose a new process's id; where it may not, the reason is printed.
pub fn process_ids() -> bool {
    let opened = std::fs::OpenOptions::new().write(true).open(LAST_PID);
    if let Err(error) = &opened {
        #[expect(clippy::print_stderr, reason = "a test that is left out must say so")]
        {
            eprintln!("left out: no process id can be chosen here: {LAST_PID}: {error}");
        }
    }
    opened.is_ok()
}

fn open<T>(found: Result<T, String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(why) if std::env::var(VARIABLE).is_ok_and(|value| value == "strict") => {
            bail!("cannot run, and {VARIABLE} is strict: {why}")
        }
        Err(why) => {
            #[expect(clippy::print_stderr, reason = "a suite that is left out must say so")]
            {
                eprintln!("left out: {why}");
            }
            Ok(None)
        }
    }
}

fn tools() -> Result<Tools, String> {
    if tachograph::sys::effective_uid() != 0 {
        return Err("loading eBPF programs needs root".to_owned());
    }
    if !Path::new(BTF).exists() {
        return Err(format!("this kernel has no {BTF}"));
    }
    Ok(Tools { python: Python::find()?, agent: agent::binary()? })
}
