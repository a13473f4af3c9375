//! The workspace in; the agent's program for any Linux with a glibc of 2.28 or newer out.

use crate::bpf;
use crate::setup;
use crate::step::alike;
use crate::step::cargo;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The glibc of Debian 10 and of RHEL 8.
const GLIBC: [u32; 2] = [2, 28];

/// What that glibc brings; all else is linked in.
const LIBRARIES: [&str; 6] = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux"];

/// A processor, as others call it.
#[derive(Clone, Copy)]
pub(crate) struct Arch {
    /// Rust, and most others.
    pub(crate) rust: &'static str,
    /// Debian.
    pub(crate) debian: &'static str,
    /// Cargo.
    pub(crate) target: &'static str,
}

impl Arch {
    /// That of this machine: its eBPF object is built for it, and it writes its own manual.
    pub(crate) fn here() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self { rust: "x86_64", debian: "amd64", target: "x86_64-unknown-linux-gnu" }),
            "aarch64" => Ok(Self { rust: "aarch64", debian: "arm64", target: "aarch64-unknown-linux-gnu" }),
            other => bail!("the agent knows no registers of {other}"),
        }
    }
}

/// Builds the object and the program, and gives the program's path.
pub(crate) fn build() -> Result<PathBuf> {
    let tools = setup::build_tools()?;
    let zig = setup::zig()?;
    bpf::object(&tools)?;
    let Arch { target, .. } = Arch::here()?;
    let [major, minor] = GLIBC;
    step("agent, as it is shipped", || {
        let mut folders = vec![zig.clone()];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut build = cargo();
        build.args([
            "zigbuild",
            "--locked",
            "--profile",
            "shipped",
            "-p",
            "tachograph",
            "--bin",
            "tachograph",
            "--target",
        ]);
        build.arg(format!("{target}.{major}.{minor}")).env("PATH", std::env::join_paths(folders)?);
        build.env("RUSTFLAGS", alike()?);
        run(&mut build)?;
        let target_folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let made = target_folder.join(target).join("shipped/tachograph");
        println!("  {}: {} bytes", made.display(), made.metadata().with_context(|| made.display().to_string())?.len());
        old_enough(&made)?;
        Ok(made)
    })
}

/// An error where a program needs a newer glibc, or a library that is no part of it.
fn old_enough(program: &Path) -> Result<()> {
    let said = output(Command::new("objdump").args(["-p", "-T"]).arg(program))?;
    let newest = newest_glibc(&said).with_context(|| format!("{} needs no glibc", program.display()))?;
    let foreign: Vec<&str> =
        needed(&said).filter(|library| !LIBRARIES.iter().any(|known| library.starts_with(known))).collect();
    ensure!(foreign.is_empty(), "{} needs {foreign:?}", program.display());
    ensure!(newest <= GLIBC, "{} needs glibc {newest:?}; {GLIBC:?} is the newest allowed", program.display());
    println!("  needs glibc {}.{} and {}", newest[0], newest[1], needed(&said).collect::<Vec<_>>().join(", "));
    Ok(())
}

/// The newest version of glibc that stands in what objdump says.
fn newest_glibc(said: &str) -> Option<[u32; 2]> {
    let versions = said.split("GLIBC_").skip(1).filter_map(|rest| {
        let mut numbers = rest.split(|it: char| !it.is_ascii_digit()).map(str::parse);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?])
    });
    versions.max()
}

/// The libraries that the loader must find.
fn needed(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "  NEEDED               libc.so.6\n  required from libc.so.6:\n    0x09 0x00 09 GLIBC_2.9\n\
        0000 DF *UND* 0000 (GLIBC_2.14) memcpy\n0000 DF *UND* 0000 (GLIBC_2.2.5) write\n";

    #[test]
    fn versions_are_numbers_and_libraries_are_names() {
        assert_eq!(newest_glibc(SAID), Some([2, 14]));
        assert_eq!(newest_glibc("statically linked"), None);
        assert_eq!(needed(SAID).collect::<Vec<_>>(), ["libc.so.6"]);
    }

    /// This test itself is built against the glibc of this machine, and with libgcc.
    #[test]
    fn a_program_of_this_machine_is_refused() {
        let said = old_enough(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(said.contains("libgcc_s.so.1") || said.contains("is the newest allowed"), "{said}");
    }
}
