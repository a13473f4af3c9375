//! /proc and process events in, [`Change`]s out: which processes matter and what they do there.

use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub mod family;
pub mod object;
pub mod procfs;

use family::Process;

/// A process worth tracing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The process.
    pub process: ProcessId,
    /// The engine it belongs to: its root process.
    pub engine: EngineId,
    /// What kind of engine.
    pub kind: EngineKind,
    /// What it does there.
    pub role: Role,
    /// Its executable and the libraries that matter, as the host can open them.
    pub objects: BTreeSet<Object>,
    /// How it closes descriptors.
    pub closes: Closes,
    /// Whether it ran already when discovery first looked.
    pub late: bool,
}

/// How a process closes descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// By libc's `close`.
    ByClose,
    /// Also by libc's `syscall`, as libuv does.
    BySyscall,
}

/// What an executable file is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// The program itself.
    Executable,
    /// The C library.
    Libc,
    /// OpenSSL, or what carries its symbols.
    Libssl,
    /// ZeroMQ.
    Libzmq,
    /// The dynamic loader.
    Loader,
}

/// A mapped file of a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// A path the host can open: `/proc/PID/root/…`.
    pub path: PathBuf,
    /// The path as the process names it.
    pub name: String,
}

/// A change in what matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new target, or a known one with other objects than before.
    Appeared(Target),
    /// A target left.
    Gone(Pid),
}

/// How a server is found that is no vLLM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// By its executable: a path, a file name, or either with `*`.
    Exe(String),
    /// By the TCP port on which it listens.
    Port(u16),
    /// By its pid.
    Pid(Pid),
}

/// What to look for beside vLLM.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Other servers.
    pub others: Vec<Select>,
}

/// The processes known so far.
#[derive(Debug)]
pub struct Discover {
    config: Config,
    own: Pid,
    targets: BTreeMap<Pid, Target>,
    looked: bool,
}

impl Discover {
    /// Knows nothing yet. `own` is never a target.
    pub fn new(config: Config, own: Pid) -> Self {
        Self { config, own, targets: BTreeMap::new(), looked: false }
    }

    /// Looks at /proc once and says what changed since the last look.
    pub fn pass(&mut self) -> Vec<Change> {
        let mut processes = procfs::processes();
        processes.remove(&self.own);
        let mut members = family::vllm(&processes);
        for process in processes.values() {
            if !members.contains_key(&process.id.pid) && self.is_other(process) {
                let member =
                    family::Member { engine: EngineId(process.id), kind: EngineKind::Other, role: Role::Frontend };
                members.insert(process.id.pid, member);
            }
        }
        let late = !self.looked;
        self.looked = true;
        let mut changes = Vec::new();
        self.targets.retain(|pid, target| {
            let stays =
                processes.get(pid).is_some_and(|process| process.id == target.process) && members.contains_key(pid);
            if !stays {
                changes.push(Change::Gone(*pid));
            }
            stays
        });
        // Who steps the model comes before who serves HTTP: then no exchange is seen without its engine.
        let (cores, frontends): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(_, member)| member.role == Role::Core);
        for (pid, member) in cores.into_iter().chain(frontends) {
            let Some(process) = processes.get(&pid) else { continue };
            let (objects, closes) = object::of(process);
            let late = self.targets.get(&pid).map_or(late, |known| known.late);
            let target = Target {
                process: process.id,
                engine: member.engine,
                kind: member.kind,
                role: member.role,
                objects,
                closes,
                late,
            };
            if self.targets.get(&pid) != Some(&target) {
                self.targets.insert(pid, target.clone());
                changes.push(Change::Appeared(target));
            }
        }
        changes
    }

    fn is_other(&self, process: &Process) -> bool {
        self.config.others.iter().any(|select| match select {
            Select::Exe(pattern) if pattern.contains('/') => fits(pattern, &process.exe),
            Select::Exe(pattern) => fits(pattern, process.exe_name()),
            Select::Port(port) => procfs::listening(process.id.pid).contains(port),
            Select::Pid(pid) => process.id.pid == *pid,
        })
    }
}

/// Whether `text` is `pattern`, where each `*` stands for any run of characters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        match text.find(part).and_then(|at| text.get(at + part.len()..)) {
            Some(after) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_executables() {
        let table = [
            ("llama-server", "llama-server", true),
            ("llama-server", "llama-server2", false),
            ("llama*", "llama-server", true),
            ("*/bin/llama*", "/usr/bin/llama-server", true),
            ("*/bin/*-server", "/usr/bin/llama-server", true),
            ("*/bin/*-server", "/usr/bin/llama", false),
            ("a*a", "a", false),
            ("*", "", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_server_named_by_its_pid_comes_and_goes_once() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        let mut discover = Discover::new(Config { others: vec![Select::Pid(pid)] }, Pid(std::process::id()));
        let of = |changes: Vec<Change>| {
            changes.into_iter().filter(|change| match change {
                Change::Appeared(target) => target.process.pid == pid,
                Change::Gone(gone) => *gone == pid,
            })
        };
        let first: Vec<Change> = of(discover.pass()).collect();
        assert!(matches!(&first[..], [Change::Appeared(target)] if target.kind == EngineKind::Other && target.late));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of(discover.pass()).collect::<Vec<_>>(), [Change::Gone(pid)]);
        assert_eq!(of(discover.pass()).count(), 0);
    }
}
