//! A table of processes in, the members of each vLLM out: by command line and ancestry, then title.

use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What /proc says of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The process.
    pub id: ProcessId,
    /// Its parent.
    pub parent: Pid,
    /// Its command line, or the title that took its place.
    pub cmdline: Vec<String>,
    /// Its executable as the process names it; empty where it cannot be read.
    pub exe: String,
}

impl Process {
    /// The executable's file name.
    pub fn exe_name(&self) -> &str {
        file_name(&self.exe)
    }
}

/// What a process is to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The engine.
    pub engine: EngineId,
    /// Its kind.
    pub kind: EngineKind,
    /// What the process does there.
    pub role: Role,
}

/// Titles that vLLM gives its processes, behind a prefix of the operator's choice.
const TITLES: [(&str, Option<Role>); 5] = [
    ("EngineCore", Some(Role::Core)),
    ("APIServer", Some(Role::Frontend)),
    ("Worker", None),
    ("Coordinator", None),
    ("resource_tracker", None),
];

const MODULES: [&str; 3] =
    ["vllm.entrypoints.openai.api_server", "vllm.entrypoints.cli.main", "vllm.entrypoints.api_server"];

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether this command line is that of a vLLM server itself, and not of what started it (`timeout`, `sudo`).
pub fn starts_vllm(cmdline: &[String]) -> bool {
    let words: Vec<&str> = cmdline.iter().take(12).map(|word| file_name(word)).collect();
    let serves = |from: usize| words.get(from) == Some(&"vllm") && words.get(from + 1) == Some(&"serve");
    match words.first() {
        Some(program) if program.starts_with("vllm-rs") => true,
        Some(&"vllm") => serves(0),
        Some(program) if program.starts_with("python") => (1..words.len()).any(|at| {
            let module = words.get(at).is_some_and(|word| *word == "-m");
            serves(at) || module && words.get(at + 1).is_some_and(|name| *name == "vllm" || MODULES.contains(name))
        }),
        _ => false,
    }
}

/// The processes of every vLLM that matter.
#[derive(Debug, Default)]
pub struct Families {
    /// Those with a role; workers and helpers have none.
    pub members: BTreeMap<Pid, Member>,
    /// Those that may still take a title: what they do there is not known yet.
    pub untitled: BTreeSet<ProcessId>,
}

/// The families of every vLLM among these processes.
pub fn vllm(processes: &BTreeMap<Pid, Process>) -> Families {
    let mut families = Families::default();
    for process in processes.values() {
        let Some(root) = root(processes, process) else { continue };
        if let Some(role) = role(root, process) {
            let member = Member { engine: EngineId(root.id), kind: EngineKind::Vllm, role };
            families.members.insert(process.id.pid, member);
        } else if title(process).is_none() {
            families.untitled.insert(process.id);
        }
    }
    families
}

/// The topmost ancestor, or the process itself, that starts a vLLM.
fn root<'a>(processes: &'a BTreeMap<Pid, Process>, process: &'a Process) -> Option<&'a Process> {
    let mut found = None;
    let mut at = Some(process);
    // A table read while processes come and go could hold a loop.
    for _ in 0..64 {
        let process = at?;
        if starts_vllm(&process.cmdline) {
            found = Some(process);
        }
        match processes.get(&process.parent) {
            Some(parent) => at = Some(parent),
            None => break,
        }
    }
    found
}

/// A child that has no title yet looks like its parent: it has no role until it has one.
fn role(root: &Process, process: &Process) -> Option<Role> {
    let title = process.cmdline.first().map_or("", String::as_str);
    if process.id == root.id || file_name(title).starts_with("vllm-rs") {
        return Some(Role::Frontend);
    }
    titled(process)
}

/// What a process does by its title.
pub fn titled(process: &Process) -> Option<Role> {
    title(process).and_then(|(_, role)| *role)
}

fn title(process: &Process) -> Option<&'static (&'static str, Option<Role>)> {
    let words = process.cmdline.iter().take(4);
    TITLES.iter().find(|(part, _)| words.clone().any(|word| word.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, cmdline: &str) -> (Pid, Process) {
        let id = ProcessId { pid: Pid(pid), start_ticks: u64::from(pid) };
        let cmdline = cmdline.split(' ').map(str::to_owned).collect();
        (Pid(pid), Process { id, parent: Pid(parent), cmdline, exe: String::new() })
    }

    #[test]
    fn command_lines_that_start_a_server() {
        let table = [
            ("/venv/bin/python3 /venv/bin/vllm serve model --port 8000", true),
            ("vllm serve model", true),
            ("python -m vllm.entrypoints.openai.api_server --model m", true),
            ("python3 -O -m vllm.entrypoints.openai.api_server", true),
            ("/site-packages/vllm/vllm-rs frontend --listen-fd 3", true),
            ("timeout 60 vllm serve model", false),
            ("vllm bench serve --model m", false),
            ("vllm chat", false),
            ("grep vllm serve.log", false),
            ("vim vllm-rs.md", false),
            ("", false),
        ];
        for (line, expected) in table {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(starts_vllm(&words), expected, "{line}");
        }
    }

    #[test]
    fn who_may_still_take_a_title() {
        let table = [
            process(1, 0, "init"),
            process(10, 1, "vllm serve m"),
            process(11, 10, "vllm serve m"),
            process(12, 10, "python -c from multiprocessing.spawn import spawn_main"),
            process(13, 10, "VLLM::EngineCore"),
            process(14, 13, "VLLM::Worker"),
            process(15, 1, "python other.py"),
        ];
        let untitled = vllm(&table.into_iter().collect()).untitled;
        assert_eq!(untitled.into_iter().map(|id| id.pid.0).collect::<Vec<_>>(), [11, 12]);
    }

    #[test]
    fn the_processes_of_one_vllm_share_their_root() {
        let processes = BTreeMap::from([
            process(1, 0, "/sbin/init"),
            process(10, 1, "python /venv/bin/vllm serve m --api-server-count 2"),
            process(11, 10, "VLLM::APIServer_0"),
            process(12, 10, "VLLM::APIServer_1"),
            process(13, 10, "mine::EngineCore_DP0"),
            process(14, 13, "VLLM::Worker_TP0"),
            process(15, 10, "python -c from multiprocessing.resource_tracker import main;main(5)"),
            process(16, 10, "python /venv/bin/vllm serve m --api-server-count 2"),
            process(20, 1, "python /venv/bin/vllm serve other"),
            process(21, 20, "vllm-rs frontend --listen-fd 3"),
        ]);
        let found = vllm(&processes).members;
        let view: Vec<(u32, u32, Role)> = found.iter().map(|(pid, it)| (pid.0, it.engine.0.pid.0, it.role)).collect();
        assert_eq!(
            view,
            [
                (10, 10, Role::Frontend),
                (11, 10, Role::Frontend),
                (12, 10, Role::Frontend),
                (13, 10, Role::Core),
                (20, 20, Role::Frontend),
                (21, 20, Role::Frontend),
            ]
        );
    }
}
