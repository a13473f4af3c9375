//! The installed program at work, as its unit starts it, beside an engine that is not in its root.

use agent_tests::experiment::Plan;
use agent_tests::experiment::run;
use agent_tests::gate;
use agent_tests::gate::Tools;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Wire;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Installs `$DEB` in a copy of `$ROOT`, and becomes the agent there: with the unit's user and capabilities, and with
/// the processes of the machine before its eyes. Nothing is started by the package itself, for no systemd runs there.
const START: &str = r#"#!/bin/sh
exec unshare --mount sh -c '
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay -o "lowerdir=$ROOT,upperdir=$WORK/upper,workdir=$WORK/work" overlay "$WORK/root"
mount --rbind /proc "$WORK/root/proc"
mount --rbind /sys "$WORK/root/sys"
cp "$DEB" "$WORK/root/tachograph.deb"
chroot "$WORK/root" dpkg --install /tachograph.deb
caps=-all,+cap_38,+cap_39,+sys_ptrace,+dac_read_search
exec chroot "$WORK/root" setpriv --reuid tachograph --regid tachograph --clear-groups --no-new-privs \
    --inh-caps "$caps" --ambient-caps "$caps" --bounding-set "$caps" /usr/bin/tachograph "$@"
' start "$@"
"#;

#[test]
fn requests_are_recorded_by_what_was_installed() -> Result<()> {
    let Some((tools, shipped)) = gate::shipped()? else { return Ok(()) };
    let scratch = Scratch::new("installed")?;
    let work = scratch.file("machine");
    fs::create_dir(&work)?;
    let named = [("WORK", work), ("ROOT", shipped.root.clone()), ("DEB", shipped.file(".deb")?)];
    let named = named.map(|(name, path)| format!("export {name}='{}'\n", path.display())).concat();
    let agent = scratch.file("agent");
    fs::write(&agent, START.replacen('\n', &format!("\n{named}"), 1))?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let plan = Plan { scenario: "plain", mix: "mixed", wire: Wire::Plain };
    run(&Tools { agent, ..tools }, plan)?.verify().map(drop)
}
