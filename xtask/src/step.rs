//! A name and a piece of work in; the work done, printed with its seconds.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// Does `work`, saying before what it is and after how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("▶ {name}");
    let began = Instant::now();
    let done = work().with_context(|| name.to_owned());
    let mark = if done.is_ok() { "✓" } else { "✗" };
    println!("{mark} {name}: {:.1} s", began.elapsed().as_secs_f64());
    done
}

/// Runs a command to its end, its output shown; anything but exit code 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("  $ {}", shown(command));
    let status = command.stdin(Stdio::null()).status().with_context(|| shown(command))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// What a command prints, trimmed; an error if it cannot run or fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| shown(command))?;
    if !out.status.success() {
        bail!("{} ended with {}: {}", shown(command), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The project's folder outside the repository, for what is costly to make.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("tachograph"))
}

/// The cargo that runs this, for what runs on the host.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What cargo says of this package to what it runs; build scripts that look at it would run again, and
    // much would be built twice, whenever an errand and a plain cargo take turns.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Flags by which a compiler names sources alike, wherever they lie: in what is shipped stands no one's folder.
pub(crate) fn alike() -> Result<String> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(named) => PathBuf::from(named),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let [sources, own] = [home.join("registry/src"), root()].map(|folder| folder.display().to_string());
    Ok(format!("--remap-path-prefix={sources}=/crates --remap-path-prefix={own}=/tachograph"))
}

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command as root: as it is, or under sudo, which may then ask.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}
