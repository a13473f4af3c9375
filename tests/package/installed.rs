//! The package, and the tar as README installs it, on a machine of their own with systemd.

use agent_tests::gate;
use agent_tests::machine::Machine;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use caps::Capability;
use std::collections::BTreeSet;

const PORT: u16 = 9478;
const README: &str = include_str!("../../README.md");

/// What stays when a package is purged: its user, as Debian's policy wants it, and what dpkg and systemd keep of
/// themselves.
const STAYS: [&str; 5] = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/var/l"];

/// The files that came since `before`, but for those that stay.
fn left(machine: &Machine, before: &BTreeSet<String>) -> Result<Vec<String>> {
    let files = machine.files()?;
    let new = files.difference(before).filter(|file| !STAYS.iter().any(|known| file.starts_with(known)));
    Ok(new.cloned().collect())
}

/// A file that cannot be used is told of, and changes nothing; once it is gone all is well.
fn reloads(machine: &Machine) -> Result<()> {
    let (first, file) = (main_pid(machine)?, "/etc/tachograph/tachograph.toml");
    for (order, successful) in [(format!("echo nonsense > {file}"), 0), (format!("rm {file}"), 1)] {
        machine.said(&format!("{order} && systemctl reload tachograph"))?;
        let line = format!("\ntachograph_config_last_reload_successful {successful}\n");
        machine.get_when(PORT, "/metrics", |page| page.contains(&line))?;
    }
    ensure!(first == main_pid(machine)?, "another process after a reload");
    answers(machine)
}

fn main_pid(machine: &Machine) -> Result<String> {
    machine.said("systemctl show --property MainPID --value tachograph")
}

fn answers(machine: &Machine) -> Result<()> {
    machine.get(PORT, "/healthz")?;
    let page = machine.get(PORT, "/metrics")?;
    ensure!(page.contains("\ntachograph_agent_records_lost_total 0"), "{page}");
    Ok(())
}

/// Its user is its own, and it has the capabilities that the unit names.
fn is_least(machine: &Machine) -> Result<()> {
    let status = machine.said(&format!("cat /proc/{}/status", main_pid(machine)?))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.with_context(|| format!("no {name} in {status}"))
    };
    let own = machine.said("id --user tachograph")?;
    assert_eq!(field("Uid")?.split('\t').collect::<BTreeSet<_>>(), BTreeSet::from([own.as_str()]));
    let named =
        [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
    let named: u64 = named.iter().map(Capability::bitmask).sum();
    assert_eq!(u64::from_str_radix(field("CapEff")?, 16)?, named);
    Ok(())
}

#[test]
fn the_package_is_installed_started_stopped_and_removed() -> Result<()> {
    let Some((_, shipped)) = gate::shipped()? else { return Ok(()) };
    let machine = Machine::boot(&shipped.root)?;
    let before = machine.files()?;
    let deb = machine.bring(&shipped.file(".deb")?)?;
    machine.said(&format!("dpkg --install {deb}"))?;
    let said = machine.said("tachograph --version")?;
    assert_eq!(said, concat!("tachograph ", env!("CARGO_PKG_VERSION")));
    machine.said("tachograph check")?;
    machine.said("systemd-analyze verify --man=no tachograph.service")?;
    machine.said("systemctl is-active tachograph && systemctl is-enabled tachograph")?;
    answers(&machine)?;
    is_least(&machine)?;
    reloads(&machine)?;

    let first = main_pid(&machine)?;
    machine.said(&format!("dpkg --install {deb}"))?;
    ensure!(first != main_pid(&machine)?, "an upgrade goes on with the old program");
    answers(&machine)?;

    machine.said("systemctl stop tachograph")?;
    assert_eq!(machine.said("systemctl show --property Result --value tachograph")?, "success");
    machine.said("systemctl start tachograph")?;

    machine.said("dpkg --remove tachograph")?;
    machine.said("! systemctl is-active tachograph")?;
    // Settings stay until the purge, so what is left can be seen.
    assert!(left(&machine, &before)?.contains(&"/etc/tachograph/tachograph.env".to_owned()));
    machine.said("dpkg --purge tachograph")?;
    assert_eq!(left(&machine, &before)?, [""; 0]);
    Ok(())
}

#[test]
fn an_agent_that_stands_still_is_started_again() -> Result<()> {
    let Some((_, shipped)) = gate::shipped()? else { return Ok(()) };
    let machine = Machine::boot(&shipped.root)?;
    let deb = machine.bring(&shipped.file(".deb")?)?;
    // It begins with the patience of a test.
    let folder = "/etc/systemd/system/tachograph.service.d";
    machine.said(&format!("mkdir -p {folder} && printf '[Service]\\nWatchdogSec=5\\n' > {folder}/patience.conf"))?;
    machine.said(&format!("dpkg --install {deb}"))?;
    let first = main_pid(&machine)?;
    machine.said(&format!("kill -STOP {first}"))?;
    machine.said_when("systemctl is-active tachograph; systemctl show --property MainPID tachograph", |said| {
        said.starts_with("active\n") && !said.ends_with(&format!("={first}"))
    })?;
    // Once, or more often where the machine is slow.
    assert_ne!(machine.said("systemctl show --property NRestarts --value tachograph")?, "0");
    answers(&machine)
}

/// The lines of the first block of README that names this word, without sudo.
fn lines(word: &str) -> Result<String> {
    let blocks = README.split("```").skip(1).step_by(2);
    let block =
        blocks.into_iter().find(|block| block.contains(word)).with_context(|| format!("no {word} in README"))?;
    let (_, lines) = block.split_once('\n').context("an empty block")?;
    Ok(lines.replace("sudo ", ""))
}

#[test]
fn the_tar_is_installed_and_removed_as_readme_says() -> Result<()> {
    let Some((_, shipped)) = gate::shipped()? else { return Ok(()) };
    let machine = Machine::boot(&shipped.root)?;
    let before = machine.files()?;
    machine.bring(&shipped.file(".tar.gz")?)?;
    machine.bring(&shipped.file("SHA256SUMS")?)?;
    machine.said(&format!("set -e; cd /tmp\n{}", lines("--strip-components")?))?;
    answers(&machine)?;
    is_least(&machine)?;
    machine.said(&format!("set -e; cd /tmp\n{}", lines("tar --list")?))?;
    machine.said("! systemctl is-active tachograph")?;
    let left = left(&machine, &before)?;
    let files: Vec<&String> = left.iter().filter(|path| machine.said(&format!("test -d {path}")).is_err()).collect();
    assert_eq!(files, [""; 0]);
    Ok(())
}
