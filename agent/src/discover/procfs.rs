//! /proc in, plain values out. A process that leaves while it is read is one that is not there.

use super::FileId;
use super::cgroup;
use super::cgroup::Place;
use super::family::Process;
use crate::ident::Pid;
use crate::ident::ProcessId;
use procfs::WithCurrentSystemInfo as _;
use procfs::net::TcpState;
use procfs::process;
use procfs::process::FDTarget;
use procfs::process::MMapPath;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Generations of processes that are followed up: a bound against a tree that changes meanwhile.
const DEEPEST: usize = 64;

/// All processes of the host.
pub fn processes() -> BTreeMap<Pid, Process> {
    let Ok(all) = process::all_processes() else { return BTreeMap::new() };
    all.filter_map(Result::ok).filter_map(|it| read(&it)).map(|it| (it.id.pid, it)).collect()
}

fn read(it: &process::Process) -> Option<Process> {
    let stat = it.stat().ok()?;
    // One that is ending gives its memory back first, which may take long; threads of the kernel have none.
    if stat.state == 'Z' || stat.vsize == 0 {
        return None;
    }
    Some(Process {
        id: ProcessId { pid: Pid(u32::try_from(it.pid()).ok()?), start_ticks: stat.starttime },
        parent: Pid(u32::try_from(stat.ppid).ok()?),
        cmdline: it.cmdline().unwrap_or_default(),
        exe: it.exe().map(|path| path.display().to_string()).unwrap_or_default(),
    })
}

/// A process and all that descend from it: pid, name, and state as `/proc/PID/stat` writes it.
pub fn states(root: Pid) -> Vec<(Pid, String, char)> {
    let Ok(all) = process::all_processes() else { return Vec::new() };
    let stats = all.filter_map(Result::ok).filter_map(|it| it.stat().ok());
    let stats: BTreeMap<i32, process::Stat> = stats.map(|stat| (stat.pid, stat)).collect();
    let Ok(root) = i32::try_from(root.0) else { return Vec::new() };
    let descends = |pid: i32| {
        let mut at = pid;
        // A table read while processes come and go could hold a loop.
        for _ in 0..64 {
            if at == root {
                return true;
            }
            let Some(stat) = stats.get(&at) else { return false };
            at = stat.ppid;
        }
        false
    };
    let family = stats.values().filter(|stat| descends(stat.pid));
    family.filter_map(|stat| Some((Pid(u32::try_from(stat.pid).ok()?), stat.comm.clone(), stat.state))).collect()
}

/// The root of a process as the host names it; `/` also where the process has mounts of its own.
pub fn root(pid: Pid) -> String {
    open(pid).and_then(|it| it.root().ok()).map(|path| path.display().to_string()).unwrap_or_default()
}

/// Where a process has mapped a file, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The file.
    pub file: FileId,
    /// The first of its mappings, as `/proc/PID/map_files` names it.
    pub range: String,
}

/// The files that a process has mapped, as the host names them; as the process does where it has mounts of its own.
pub fn mapped_files(pid: Pid) -> BTreeMap<String, Mapped> {
    let Some(maps) = open(pid).and_then(|it| it.maps().ok()) else { return BTreeMap::new() };
    let mut files = BTreeMap::new();
    for map in maps {
        if let MMapPath::Path(path) = map.pathname {
            let range = format!("{:x}-{:x}", map.address.0, map.address.1);
            let file = FileId { device: map.dev, inode: map.inode };
            files.entry(path.display().to_string()).or_insert(Mapped { file, range });
        }
    }
    files
}

/// The TCP ports on which a process listens, in its own network namespace.
pub fn listening(pid: Pid) -> BTreeSet<u16> {
    listeners(pid).into_iter().map(|address| address.port()).collect()
}

/// The TCP addresses on which a process listens, in its own network namespace.
pub fn listeners(pid: Pid) -> BTreeSet<SocketAddr> {
    let Some(it) = open(pid) else { return BTreeSet::new() };
    let Ok(fds) = it.fd() else { return BTreeSet::new() };
    let sockets: BTreeSet<u64> = fds
        .filter_map(Result::ok)
        .filter_map(|fd| if let FDTarget::Socket(inode) = fd.target { Some(inode) } else { None })
        .collect();
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    let tables = it.tcp().into_iter().chain(it.tcp6()).flatten();
    tables
        .filter(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode))
        .map(|entry| entry.local_address)
        .collect()
}

/// The container, pod and unit of a process, by its control groups.
pub fn place(pid: Pid) -> Place {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_or_else(|_| Place::default(), |text| cgroup::place(&text))
}

/// Whether a process is in another network namespace than this one; `None` where that cannot be read.
pub fn is_elsewhere(pid: Pid) -> Option<bool> {
    let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).ok();
    Some(of(&pid.to_string())? != of("self")?)
}

/// The command line of a process.
pub fn cmdline(pid: Pid) -> Vec<String> {
    open(pid).and_then(|it| it.cmdline().ok()).unwrap_or_default()
}

/// The processes above a process, nearest first.
pub fn lineage(pid: Pid) -> Vec<Pid> {
    let parent = |pid: &Pid| {
        let parent = open(*pid)?.stat().ok()?.ppid;
        u32::try_from(parent).ok().filter(|parent| *parent > 0).map(Pid)
    };
    std::iter::successors(parent(&pid), parent).take(DEEPEST).collect()
}

/// Every process with its numbers in each of its pid namespaces, the outermost that is visible first.
pub fn pid_chains() -> Vec<(Pid, Vec<u32>)> {
    let Ok(all) = process::all_processes() else { return Vec::new() };
    let chain = |it: process::Process| {
        let numbers = it.status().ok()?.nspid.unwrap_or_default();
        let numbers = numbers.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        Some((Pid(u32::try_from(it.pid()).ok()?), numbers))
    };
    all.filter_map(Result::ok).filter_map(chain).collect()
}

/// Whether a process has a device file of an NVIDIA GPU open.
pub fn holds_gpu(pid: Pid) -> bool {
    let Some(fds) = open(pid).and_then(|it| it.fd().ok()) else { return false };
    let mut targets = fds.filter_map(Result::ok).map(|fd| fd.target);
    targets.any(|target| matches!(target, FDTarget::Path(path) if path.starts_with("/dev") && is_nvidia(&path)))
}

fn is_nvidia(device: &std::path::Path) -> bool {
    device.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvidia"))
}

/// Processor seconds (user and system) and resident bytes of this process.
pub fn own_usage() -> Option<(f64, u64)> {
    let stat = process::Process::myself().ok()?.stat().ok()?;
    let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
    Some((seconds, stat.rss_bytes().get()))
}

fn open(pid: Pid) -> Option<process::Process> {
    process::Process::new(i32::try_from(pid.0).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_among_them_with_its_libc() {
        let own = Pid(std::process::id());
        assert!(processes()[&own].exe.contains("tachograph"));
        assert!(mapped_files(own).keys().any(|path| path.contains("libc.so")));
    }

    #[test]
    fn every_process_descends_from_the_first() {
        let line = lineage(Pid(std::process::id()));
        assert_eq!(line.first().map(|pid| pid.0), Some(std::os::unix::process::parent_id()));
        assert_eq!((line.last(), lineage(Pid(1))), (Some(&Pid(1)), vec![]));
    }

    #[test]
    fn this_process_knows_its_own_numbers() {
        let own = Pid(std::process::id());
        let chains = pid_chains();
        let (_, numbers) = chains.iter().find(|(pid, _)| *pid == own).unwrap();
        assert!(numbers.contains(&own.0));
        assert!(!holds_gpu(own));
    }

    #[test]
    fn a_family_is_a_process_with_its_descendants_and_their_states() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of = |root: u32| states(Pid(root)).into_iter().find(|(pid, ..)| pid.0 == child.id());
        let found = of(std::process::id()).map(|(_, name, state)| (name, "SRD".contains(state)));
        assert_eq!(found, Some(("sleep".to_owned(), true)));
        assert_eq!(states(Pid(child.id())).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(states(Pid(child.id())), []);
    }

    #[test]
    fn a_listening_port_is_found_with_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = Pid(std::process::id());
        assert!(listening(own).contains(&port));
        drop(listener);
        assert!(!listening(own).contains(&port));
    }
}
