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

/// Another server that the operator wants traced: each given field must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Other {
    /// The executable's file name.
    pub exe: Option<String>,
    /// A TCP port it listens on.
    pub port: Option<u16>,
    /// Its pid.
    pub pid: Option<u32>,
}

/// What to look for beside vLLM.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Other servers.
    pub others: Vec<Other>,
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
        for (pid, member) in members {
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
        self.config.others.iter().any(|other| {
            let asked = other.exe.is_some() || other.port.is_some() || other.pid.is_some();
            asked
                && other.exe.as_ref().is_none_or(|exe| process.exe_name() == exe)
                && other.pid.is_none_or(|pid| process.id.pid == Pid(pid))
                && other.port.is_none_or(|port| procfs::listens(process.id.pid, port))
        })
    }
}
