//! Debian's archive and PyPI in; the real programs that the suite `stack` runs against the agent out.
//!
//! Prometheus, Alertmanager and llama-server come from Debian's unstable suite, whatever runs here: its packages are
//! unpacked with all they need into a root of their own, and nothing of the system changes.
//!
//! Also the errand that starts the whole stack where containers can run.

use crate::debian;
use crate::setup;
use crate::step::cache;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
pub(crate) use containers::Order;
pub(crate) use containers::obey;
use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

mod containers;

const PACKAGES: [&str; 4] = ["llama.cpp-tools", "prometheus", "prometheus-alertmanager", "promtool"];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder with all of it: a Python environment, and below `root/` the programs and a tiny model.
pub(crate) fn environment() -> Result<PathBuf> {
    step("programs of the suite stack", || {
        let tests = root().join("tests/stack");
        let requirements = tests.join("requirements.txt");
        let mut hash = DefaultHasher::new();
        for file in [&requirements, &tests.join("tiny_gguf.py")] {
            fs::read(file).with_context(|| file.display().to_string())?.hash(&mut hash);
        }
        PACKAGES.hash(&mut hash);
        let folder = cache()?.join(format!("stack-{:016x}", hash.finish()));
        setup::environment(&folder, |python| {
            step("packages of Python", || {
                run(Command::new(python).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements))?;
                rotel(python)
            })?;
            let unpacked = folder.join("root");
            step("Prometheus, Alertmanager and llama-server", || unpack(&folder.join("apt"), &unpacked))?;
            step("tiny model", || {
                run(Command::new(python).arg(tests.join("tiny_gguf.py")).arg(unpacked.join("model.gguf")))
            })
        })?;
        Ok(folder)
    })
}

/// Sees to it that rotel runs: it needs the shared library of the Python it was built for.
fn rotel(python: &Path) -> Result<()> {
    let runs = || {
        let file = "import pathlib, rotel; print(pathlib.Path(rotel.__file__).with_name('rotel-agent'))";
        output(Command::new(output(Command::new(python).args(["-c", file]))?).arg("--version"))
    };
    if runs().is_err() {
        let name = "import sys; print('libpython%d.%d' % sys.version_info[:2])";
        debian::install(&[&output(Command::new(python).args(["-c", name]))?])?;
    }
    println!("  {}", runs()?);
    Ok(())
}

/// Downloads the packages with all that they depend on, and unpacks them below `unpacked`.
fn unpack(apt: &Path, unpacked: &Path) -> Result<()> {
    if !Path::new(KEYS).exists() {
        debian::install(&["debian-archive-keyring"])?;
    }
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder)).with_context(|| apt.display().to_string())?;
    }
    fs::write(apt.join("sources.list"), format!("deb [signed-by={KEYS}] {} unstable main\n", debian::archive()?))?;
    // Nothing counts as installed, so that everything is downloaded.
    fs::write(apt.join("status"), "")?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        for (key, value) in [
            ("Dir::Etc::SourceList", apt.join("sources.list")),
            ("Dir::Etc::SourceParts", PathBuf::from("/dev/null")),
            ("Dir::State", apt.to_owned()),
            ("Dir::State::Lists", apt.join("lists")),
            ("Dir::State::Status", apt.join("status")),
            ("Dir::Cache", apt.join("cache")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3", "-qq"]);
        command
    };
    run(apt_get().arg("update"))?;
    run(apt_get().args(["install", "--download-only", "--yes", "--no-install-recommends"]).args(PACKAGES))?;
    fs::create_dir_all(unpacked.join("tmp"))?;
    for file in fs::read_dir(apt.join("cache/archives"))? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").arg(&file).arg(unpacked))?;
            println!("  {}", file.file_name().unwrap_or_default().display());
        }
    }
    // What a package of the base system would link.
    for folder in ["bin", "lib", "lib64"] {
        let (link, to) = (unpacked.join(folder), Path::new("usr").join(folder));
        if !link.exists() && unpacked.join(&to).exists() {
            symlink(&to, &link).with_context(|| link.display().to_string())?;
        }
    }
    fs::remove_dir_all(apt).with_context(|| apt.display().to_string())
}
