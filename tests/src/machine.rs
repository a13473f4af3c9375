//! A root directory of Debian in; a machine of its own out, with systemd as its first process.
//!
//! It has its own processes, mounts, network and groups of processes. What is written goes into memory, and is gone
//! with it; the root itself stays as it is.

use crate::process::Running;
use crate::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::thread;
use std::time::Duration;

const BOOTS: Duration = Duration::from_mins(1);
const SETTLES: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(50);

/// Becomes the first process of `$1`, working in the empty folder `$2`. The kernel's settings are read only: they are
/// everybody's.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . mnt
umount -l /mnt
exec env -i container=tachograph PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=console --show-status=no
"#;

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    running: Running,
    init: u32,
    group: PathBuf,
    /// The folder that it was made in.
    _scratch: Scratch,
}

impl Machine {
    /// Starts it, and waits until systemd has done what it does at the start.
    pub fn boot(root: &Path) -> Result<Self> {
        let scratch = Scratch::new("machine")?;
        let (name, work) = (scratch.path().file_name().context("no name")?, scratch.file("machine"));
        fs::create_dir(&work)?;
        let group = groups()?.join(name);
        fs::create_dir(&group).with_context(|| group.display().to_string())?;
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs"; exec unshare "$@""#]).arg(&group);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]);
        command.args(["sh", "-c", BOOT, "boot"]).arg(root).arg(&work);
        let mut running = Running::start("the machine", &mut command, scratch.file("machine.log"))?;
        let child = || {
            let list = format!("/proc/{0}/task/{0}/children", running.pid());
            fs::read_to_string(list).ok()?.split(' ').next()?.parse().ok()
        };
        let mut init = None;
        for _ in 0..BOOTS.as_millis() / EVERY.as_millis() {
            init = child();
            if init.is_some() {
                break;
            }
            thread::sleep(EVERY);
        }
        let init = init.context("no first process")?;
        running.until_ready(BOOTS, || {
            inside(init, "systemctl is-system-running").is_ok_and(|said| said.stdout.starts_with(b"running"))
        })?;
        Ok(Self { running, init, group, _scratch: scratch })
    }

    /// Runs a line of shell in it.
    pub fn run(&self, line: &str) -> Result<Output> {
        inside(self.init, line)
    }

    /// What a line of shell prints; an error unless it ends with 0.
    pub fn said(&self, line: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(line)?;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        ensure!(status.success(), "{line}: {status}\n{stdout}{stderr}\n{}", self.running.words());
        Ok(stdout.trim().to_owned())
    }

    /// What a line of shell prints, once that is as wanted; an error if that takes too long.
    pub fn said_when(&self, line: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        when(|| self.said(line), wanted).with_context(|| format!("not as it should be: {line}"))
    }

    /// Copies a file into it; its path there.
    pub fn bring(&self, file: &Path) -> Result<String> {
        let there = format!("/tmp/{}", file.file_name().context("no name")?.to_string_lossy());
        fs::copy(file, format!("/proc/{}/root{there}", self.init))?;
        Ok(there)
    }

    /// All files of its disk.
    pub fn files(&self) -> Result<BTreeSet<String>> {
        Ok(self.said("find / -xdev")?.lines().map(str::to_owned).collect())
    }

    /// The body of what the listener at a port of it answers with 200.
    pub fn get(&self, port: u16, path: &str) -> Result<String> {
        let ask = format!("printf 'GET {path} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n'");
        let said = self.said(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; {ask} >&3; cat <&3"))?;
        ensure!(said.starts_with("HTTP/1.1 200"), "{path}: {said}");
        Ok(said.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    /// The same, once that is as wanted; an error if that takes too long.
    pub fn get_when(&self, port: u16, path: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        when(|| self.get(port, path), wanted).with_context(|| format!("not as it should be: {path}"))
    }
}

/// Asks until the answer is as wanted; an error with the last one if that takes too long.
fn when(ask: impl Fn() -> Result<String>, wanted: impl Fn(&str) -> bool) -> Result<String> {
    for _ in 0..SETTLES.as_millis() / EVERY.as_millis() {
        if let Ok(said) = ask()
            && wanted(&said)
        {
            return Ok(said);
        }
        thread::sleep(EVERY);
    }
    bail!("{}", ask()?)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process ends with the one that started it, and with that all others.
        drop(self.running.kill());
        for _ in 0..SETTLES.as_millis() / EVERY.as_millis() {
            if removed(&self.group) {
                return;
            }
            thread::sleep(EVERY);
        }
    }
}

/// Whether a group of processes, and those below it, could be removed.
fn removed(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            removed(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

fn inside(init: u32, line: &str) -> Result<Output> {
    let mut command = Command::new("nsenter");
    command.args(["--target", &init.to_string(), "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]);
    command.args(["--root", "--wd", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", line]);
    command.output().with_context(|| format!("cannot run {command:?}"))
}

/// Where groups of processes of the second kind lie.
fn groups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let second = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let folder = second.filter(|fields| fields.get(2) == Some(&"cgroup2")).find_map(|fields| fields.get(1).copied());
    folder.map(PathBuf::from).context("no cgroup2 is mounted")
}
