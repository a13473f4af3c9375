//! /proc and process events in, [`Change`]s out: which processes matter and what they do there.

use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub mod cgroup;
pub mod family;
pub mod object;
pub mod procfs;

use cgroup::Place;
use family::Member;
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
    /// Its container, pod and unit.
    pub place: Place,
}

impl Target {
    /// Whether this is the process, still with the same program, of a server that is no vLLM.
    fn runs(&self, process: &Process) -> bool {
        let program = |object: &Object| object.kind == ObjectKind::Executable && process.exe.ends_with(&object.name);
        self.kind == EngineKind::Other && self.process == process.id && self.objects.iter().any(program)
    }
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
    /// Which file it is, whatever its name becomes.
    pub file: FileId,
}

/// A file for good, as the table of mappings tells it: a name may come to stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId {
    /// Major and minor number of its device.
    pub device: (i32, i32),
    /// Its inode there.
    pub inode: u64,
}

/// A change in what matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new target, or a known one with other objects than before.
    Appeared(Target),
    /// A target left: nothing of it runs any more.
    Gone(Pid),
    /// A process that lives on is no target any more.
    Dropped(Pid),
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
    untitled: BTreeSet<ProcessId>,
    looked: bool,
}

impl Discover {
    /// Knows nothing yet. `own` is never a target.
    pub fn new(config: Config, own: Pid) -> Self {
        Self { config, own, targets: BTreeMap::new(), untitled: BTreeSet::new(), looked: false }
    }

    /// Looks for these from now on.
    pub fn set(&mut self, config: Config) {
        self.config = config;
    }

    /// Looks at /proc once and says what changed since the last look.
    pub fn pass(&mut self) -> Vec<Change> {
        let mut processes = procfs::processes();
        processes.remove(&self.own);
        self.compare(&processes)
    }

    /// Processes of a vLLM that had no title at the last look. Nothing happens that could be seen when they take one.
    pub fn untitled(&self) -> &BTreeSet<ProcessId> {
        &self.untitled
    }

    fn compare(&mut self, processes: &BTreeMap<Pid, Process>) -> Vec<Change> {
        let family::Families { mut members, untitled } = family::vllm(processes);
        self.untitled = untitled;
        for (pid, orphan) in self.orphans(processes) {
            members.entry(pid).or_insert(orphan);
        }
        for process in processes.values() {
            if !members.contains_key(&process.id.pid) && self.is_other(process) {
                let member = Member { engine: EngineId(process.id), kind: EngineKind::Other, role: Role::Frontend };
                members.insert(process.id.pid, member);
            }
        }
        let late = !self.looked;
        self.looked = true;
        let mut changes = Vec::new();
        self.targets.retain(|pid, target| {
            let lives = processes.get(pid).is_some_and(|process| process.id == target.process);
            let stays = lives && members.contains_key(pid);
            if !stays {
                changes.push(if lives { Change::Dropped(*pid) } else { Change::Gone(*pid) });
            }
            stays
        });
        // Who steps the model comes before who serves HTTP: then no exchange is seen without its engine.
        let (cores, frontends): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(_, member)| member.role == Role::Core);
        for (pid, member) in cores.into_iter().chain(frontends) {
            let Some(process) = processes.get(&pid) else { continue };
            let (objects, closes) = object::of(process);
            let known = self.targets.get(&pid);
            let late = known.map_or(late, |known| known.late);
            // A runtime may move a process into its group after it has made it.
            let place = known.map(|known| known.place.clone()).filter(|place| !place.is_unknown());
            let place = place.unwrap_or_else(|| procfs::place(pid));
            let target = Target {
                process: process.id,
                engine: member.engine,
                kind: member.kind,
                role: member.role,
                objects,
                closes,
                late,
                place,
            };
            if self.targets.get(&pid) != Some(&target) {
                self.targets.insert(pid, target.clone());
                changes.push(Change::Appeared(target));
            }
        }
        changes
    }

    /// Processes of a vLLM whose root may have left: they are still what their titles say.
    fn orphans(&self, processes: &BTreeMap<Pid, Process>) -> Vec<(Pid, Member)> {
        let known = self.targets.values().filter(|known| known.kind == EngineKind::Vllm);
        let alive = known.filter_map(|known| Some((known, processes.get(&known.process.pid)?)));
        alive
            .filter(|(known, now)| now.id == known.process && family::titled(now) == Some(known.role))
            .map(|(known, now)| (now.id.pid, Member { engine: known.engine, kind: known.kind, role: known.role }))
            .collect()
    }

    fn is_other(&self, process: &Process) -> bool {
        // A server that stops listening still serves whom it has accepted.
        let known = || self.targets.get(&process.id.pid).is_some_and(|known| known.runs(process));
        self.config.others.iter().any(|select| match select {
            Select::Exe(pattern) if pattern.contains('/') => fits(pattern, &process.exe),
            Select::Exe(pattern) => fits(pattern, process.exe_name()),
            Select::Port(port) => known() || procfs::listening(process.id.pid).contains(port),
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

    fn process(pid: u32, parent: u32, cmdline: &str) -> (Pid, Process) {
        let id = ProcessId { pid: Pid(pid), start_ticks: 1 };
        let cmdline = cmdline.split(' ').map(str::to_owned).collect();
        (Pid(pid), Process { id, parent: Pid(parent), cmdline, exe: String::new() })
    }

    #[test]
    fn what_is_left_of_a_vllm_is_traced_while_it_has_its_title() {
        const ROOT: u32 = u32::MAX - 9;
        let [api, core, worker] = [ROOT + 1, ROOT + 2, ROOT + 3];
        let mut discover = Discover::new(Config::default(), Pid(0));
        let mut pass = |processes: &[(Pid, Process)]| {
            let changes = discover.compare(&processes.iter().cloned().collect());
            let told = changes.into_iter().map(|change| match change {
                Change::Appeared(target) => ("appeared", target.process.pid.0),
                Change::Gone(pid) => ("gone", pid.0),
                Change::Dropped(pid) => ("dropped", pid.0),
            });
            told.collect::<Vec<_>>()
        };
        let [a, c, w] = [(api, "VLLM::APIServer_0"), (core, "VLLM::EngineCore"), (worker, "VLLM::Worker")]
            .map(|(pid, title)| process(pid, ROOT, title));
        let all = [process(ROOT, 1, "vllm serve m"), a.clone(), c.clone(), w.clone()];
        assert_eq!(pass(&all), [("appeared", core), ("appeared", ROOT), ("appeared", api)]);
        assert_eq!(pass(&[a, c, w.clone()]), [("gone", ROOT)]);
        assert_eq!(pass(&[process(core, 1, "something else"), w]), [("gone", api), ("dropped", core)]);
    }

    #[test]
    fn a_server_named_by_its_port_stays_when_it_stops_listening() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut discover = Discover::new(Config { others: vec![Select::Port(port)] }, Pid(0));
        let own = Pid(std::process::id());
        discover.pass();
        assert!(discover.targets.contains_key(&own));
        drop(listener);
        discover.pass();
        assert!(discover.targets.contains_key(&own));
    }

    #[test]
    fn a_server_named_by_its_pid_comes_and_goes_once() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        let mut discover = Discover::new(Config { others: vec![Select::Pid(pid)] }, Pid(std::process::id()));
        let of = |changes: Vec<Change>| {
            changes.into_iter().filter(|change| match change {
                Change::Appeared(target) => target.process.pid == pid,
                Change::Gone(gone) | Change::Dropped(gone) => *gone == pid,
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
