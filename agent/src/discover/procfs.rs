//! /proc in, plain values out. A process that leaves while it is read is one that is not there.

use super::family::Process;
use crate::ident::Pid;
use crate::ident::ProcessId;
use procfs::net::TcpState;
use procfs::process;
use procfs::process::FDTarget;
use procfs::process::MMapPath;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// All processes of the host.
pub fn processes() -> BTreeMap<Pid, Process> {
    let Ok(all) = process::all_processes() else { return BTreeMap::new() };
    all.filter_map(Result::ok).filter_map(|it| read(&it)).map(|it| (it.id.pid, it)).collect()
}

fn read(it: &process::Process) -> Option<Process> {
    let stat = it.stat().ok()?;
    if stat.state == 'Z' {
        return None;
    }
    Some(Process {
        id: ProcessId { pid: Pid(u32::try_from(it.pid()).ok()?), start_ticks: stat.starttime },
        parent: Pid(u32::try_from(stat.ppid).ok()?),
        cmdline: it.cmdline().unwrap_or_default(),
        exe: it.exe().map(|path| path.display().to_string()).unwrap_or_default(),
    })
}

/// The files that a process has mapped, as it names them.
pub fn mapped_files(pid: Pid) -> BTreeSet<String> {
    let Some(maps) = open(pid).and_then(|it| it.maps().ok()) else { return BTreeSet::new() };
    let paths = maps.into_iter().filter_map(|map| match map.pathname {
        MMapPath::Path(path) => Some(path.display().to_string()),
        _ => None,
    });
    paths.collect()
}

/// Whether a process holds a TCP socket that listens on this port, in its own network namespace.
pub fn listens(pid: Pid, port: u16) -> bool {
    let Some(it) = open(pid) else { return false };
    let tables = it.tcp().into_iter().chain(it.tcp6()).flatten();
    let inodes: BTreeSet<u64> = tables
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect();
    if inodes.is_empty() {
        return false;
    }
    let Ok(fds) = it.fd() else { return false };
    fds.filter_map(Result::ok).any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
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
        assert!(mapped_files(own).iter().any(|path| path.contains("libc.so")));
    }

    #[test]
    fn a_listening_port_is_found_with_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = Pid(std::process::id());
        assert!(listens(own, port));
        drop(listener);
        assert!(!listens(own, port));
    }
}
