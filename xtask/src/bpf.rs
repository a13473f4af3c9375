//! agent-ebpf's sources in; the eBPF object out, and the name of the compiler that made it.
//!
//! `core` is built along, so the compiler must have its own sources beside it, and an LLVM that
//! bpf-linker can read.

use crate::step::alike;
use crate::step::cache;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The LLVM that bpf-linker is built with: no compiler may be newer.
pub(crate) const LLVM: u32 = 22;
/// The version that is installed where none is found.
pub(crate) const LINKER: &str = "0.13.0";

/// What cargo and rustup set for the program they run, and what only host builds should read.
const HOST_ONLY: [&str; 10] = [
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// A compiler with the sources of its own `core`.
pub(crate) struct Toolchain {
    /// Names it to people.
    name: String,
    cargo: PathBuf,
    rustc: PathBuf,
}

/// What building the object takes.
pub(crate) struct Tools {
    /// The compiler.
    pub(crate) toolchain: Toolchain,
    /// The folder that holds bpf-linker.
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// The one to use, or why each that was looked at is none.
    pub(crate) fn find() -> Result<Self> {
        if let Ok(name) = std::env::var("TACHOGRAPH_BPF_TOOLCHAIN") {
            return Self::named(&name).with_context(|| format!("TACHOGRAPH_BPF_TOOLCHAIN={name}"));
        }
        let nightly = match Self::named("nightly") {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        Self::at(Path::new("/usr"), "the distribution's rustc")
            .map_err(|error| anyhow::anyhow!("no compiler for eBPF: nightly: {nightly:#}; /usr/bin/rustc: {error:#}"))
    }

    /// A rustup toolchain by name, or a folder that holds `bin/rustc`.
    fn named(name: &str) -> Result<Self> {
        if name.starts_with('/') {
            return Self::at(Path::new(name), name);
        }
        let sysroot = output(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"]))?;
        Self::at(Path::new(&sysroot), name)
    }

    fn at(prefix: &Path, name: &str) -> Result<Self> {
        let (rustc, cargo) = (prefix.join("bin/rustc"), prefix.join("bin/cargo"));
        if !prefix.join("lib/rustlib/src/rust/library/core").exists() {
            bail!("no sources of core under {}/lib/rustlib/src", prefix.display());
        }
        let facts = output(Command::new(&rustc).arg("-vV"))?;
        let fact = |key| facts.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown");
        let llvm = fact("LLVM version: ");
        if llvm.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major > LLVM) {
            bail!("its LLVM is {llvm}; bpf-linker is built with {LLVM}");
        }
        let name = format!("{name} {} (LLVM {llvm})", fact("release: "));
        Ok(Self { name, cargo, rustc })
    }
}

/// The folder of a bpf-linker of the right version, on the PATH or in the cache.
pub(crate) fn linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = cache().ok().map(|cache| cache.join("bpf-linker/bin"));
    std::env::split_paths(&path).chain(own).find(|folder| {
        output(Command::new(folder.join("bpf-linker")).arg("--version")).is_ok_and(|said| said.ends_with(LINKER))
    })
}

/// Where the object is put.
pub(crate) fn path() -> PathBuf {
    root().join("target/bpf/probes.o")
}

/// Builds the object and gives its path.
pub(crate) fn object(tools: &Tools) -> Result<PathBuf> {
    step("eBPF object", || {
        let Tools { toolchain: Toolchain { name, cargo, rustc }, linker } = tools;
        println!("  compiler: {name}; bpf-linker in {}", linker.display());
        let target = root().join("target/bpf");
        let mut folders = vec![linker.clone()];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));

        let mut build = Command::new(cargo);
        build.current_dir(root()).args([
            "build",
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
        ]);
        build.args(["-p", "agent-ebpf", "--features", "bpf", "--bin", "probes", "--target-dir"]).arg(&target);
        // A host build's settings are none of this build's; RUSTC_BOOTSTRAP is none of the host's.
        for host in HOST_ONLY {
            build.env_remove(host);
        }
        let arch = std::env::consts::ARCH;
        let alike = alike()?;
        build
            .env("RUSTC", rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("PATH", std::env::join_paths(folders)?)
            .env("RUSTFLAGS", format!("-C debuginfo=2 -C link-arg=--btf --cfg bpf_target_arch=\"{arch}\" {alike}"));
        run(&mut build)?;

        let made = target.join("bpfel-unknown-none/release/probes");
        // Written only when it differs, so that an unchanged object rebuilds no agent.
        let bytes = std::fs::read(&made).with_context(|| made.display().to_string())?;
        if std::fs::read(path()).ok().as_ref() != Some(&bytes) {
            std::fs::write(path(), &bytes).with_context(|| path().display().to_string())?;
        }
        println!("  {}: {} bytes", path().display(), bytes.len());
        Ok(path())
    })
}
