//! Names of Debian or Ubuntu packages in; the packages installed. Also where the system gets its own from.

use crate::step::as_root;
use crate::step::output;
use crate::step::run;
use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Which of `packages` are not installed, by dpkg's word.
fn missing<'name>(packages: &[&'name str]) -> Vec<&'name str> {
    let installed = |package: &&str| {
        output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
            .is_ok_and(|status| status == "installed")
    };
    packages.iter().filter(|package| !installed(package)).copied().collect()
}

/// Installs what is missing of `packages`; nothing is asked of the network when nothing is.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        println!("  there: {}", packages.join(" "));
        return Ok(());
    }
    let list = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        anyhow::bail!("this is no Debian or Ubuntu; install what is called there: {list}");
    }
    run(as_root("apt-get").args(["update", "-qq"]))?;
    run(as_root("env")
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing))
    .with_context(|| format!("packages that could not be installed: {list}"))
}

/// The archive of Debian that this system uses.
pub(crate) fn archive() -> Result<String> {
    let all =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    let main = all.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    main.map(str::to_owned).with_context(|| format!("no archive of Debian among apt's own: {all}"))
}
