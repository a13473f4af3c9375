//! The workspace in; the agent with its eBPF object inside out, and run when asked.

use crate::bpf;
use crate::setup;
use crate::step::cargo;
use crate::step::is_root;
use crate::step::root;
use crate::step::run as run_command;
use crate::step::step;
use anyhow::Result;
use anyhow::bail;
use std::path::PathBuf;
use std::process::Command;

/// How the agent is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build.
    Debug,
    /// Fast to run.
    Release,
}

impl Profile {
    /// What `--release` says.
    pub(crate) const fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }
}

/// Builds the object and the agent, and gives the agent's path.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let tools = setup::build_tools()?;
    bpf::object(&tools)?;
    step("agent", || {
        let mut build = cargo();
        build.args(["build", "-p", "tachograph", "--bin", "tachograph"]);
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => {
                build.arg("--release");
                "release"
            }
        };
        run_command(&mut build)?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        Ok(target.join(folder).join("tachograph"))
    })
}

/// Builds the agent and becomes it, under sudo where this is not root.
pub(crate) fn run(args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let agent = build(Profile::Release)?;
    let mut command = if is_root() {
        Command::new(&agent)
    } else {
        println!("  the agent loads eBPF programs, which this user may not: going on under sudo");
        let mut sudo = Command::new("sudo");
        sudo.arg("-E").arg(&agent);
        sudo
    };
    if args.is_empty() {
        command.arg("run");
    }
    let error = command.args(args).exec();
    bail!("{}: {error}", agent.display())
}
