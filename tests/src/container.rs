//! What an engine has of its own in; the command that starts it so out: namespaces, a root, a control group and a filter
//! of system calls, made by the tools that every Linux has, as a runtime makes them.

use crate::python::Python;
use crate::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Joins a control group and makes the namespaces.
const ENTER: &str = include_str!("container/enter.sh");
/// Makes the root and becomes the engine.
const INSIDE: &str = include_str!("container/inside.sh");
/// Takes a control group away again, and those above it that nobody else has.
const LEAVE: &str = "cd \"$1\" && mount -t \"$2\" -o \"$3\" none . && cd . && rmdir -p \"$4\"";
/// Sets a filter of system calls and becomes the engine.
const FILTER: &str = include_str!("container/filter.py");

/// What is loaded into an engine and probed, and the interpreter's own C library.
const LOADED: &str = "import ssl, zmq\nprint(*{line.split(None, 5)[5].strip() for line in open('/proc/self/maps') if '.so' in line}, sep='\\n')";
const PROBED: [&str; 5] = ["libc.so", "libc-", "libssl", "libzmq", "ld-linux"];

/// A root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The host's.
    Host,
    /// The top of its mount namespace, as runtimes make it.
    Pivot,
    /// Below the top of its mount namespace.
    Chroot,
}

/// A hierarchy of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// The unified one.
    Unified,
    /// systemd's own of version 1.
    Named,
}

impl Hierarchy {
    /// Whether this machine has it.
    pub fn is_here(self) -> bool {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        groups.lines().any(|line| match self {
            Self::Unified => line.starts_with("0::"),
            Self::Named => line.contains(":name=systemd:"),
        })
    }

    /// File system and options that mount it.
    fn mounted(self) -> [&'static str; 2] {
        match self {
            Self::Unified => ["cgroup2", "rw"],
            Self::Named => ["cgroup", "none,name=systemd"],
        }
    }
}

/// A control group; gone when dropped, unless somebody is in it.
#[derive(Debug)]
pub struct Group {
    /// Where.
    pub hierarchy: Hierarchy,
    /// Its path below the top.
    pub path: String,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(work) = Scratch::new("group") {
            let mut leave = Command::new("unshare");
            leave.args(["--mount", "sh", "-c", LEAVE, "sh"]).arg(work.path());
            drop(leave.args(self.hierarchy.mounted()).arg(&self.path).output());
        }
    }
}

/// What is kept once for several containers: files of their own below the host's, as an image's layer.
#[derive(Debug)]
pub struct Layer(Scratch);

impl Layer {
    /// Copies of what is probed in an engine, under the same names: what is attached to the host's files sees nothing.
    pub fn new(python: &Python) -> Result<Self> {
        // Layers may not lie in each other, so this is no part of the root's file system.
        let layer = Scratch::below(Path::new("/dev/shm"), "layer")?;
        let output = python.command().args(["-c", LOADED]).output().context("what Python loads")?;
        let loaded = String::from_utf8(output.stdout)?;
        let mut copied = 0;
        for file in loaded.lines().map(Path::new) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if PROBED.iter().any(|probed| name.starts_with(probed)) {
                let file = file.canonicalize()?;
                let copy = layer.path().join(file.strip_prefix("/")?);
                std::fs::create_dir_all(copy.parent().context("no folder")?)?;
                std::fs::copy(&file, &copy).with_context(|| copy.display().to_string())?;
                copied += 1;
            }
        }
        ensure!(copied >= 4, "of {loaded} only {copied} are probed");
        Ok(Self(layer))
    }
}

/// What an engine has of its own.
#[derive(Debug, Clone, Copy)]
pub struct Container<'own> {
    /// Its root, on this layer where it is not the host's.
    pub root: Root,
    /// The layer.
    pub layer: Option<&'own Layer>,
    /// Further namespaces, by their names in `unshare`: `pid`, `net`, `user`, …
    pub own: &'static [&'static str],
    /// Its control group, where it is not that of the test.
    pub group: Option<&'own Group>,
    /// Whether all but usual system calls are denied.
    pub filtered: bool,
}

/// A mount namespace, and nothing else of its own.
pub const PLAIN: Container<'static> =
    Container { root: Root::Host, layer: None, own: &[], group: None, filtered: false };

impl Container<'_> {
    /// Whether it has a network of its own.
    pub fn has_network(&self) -> bool {
        self.own.contains(&"net")
    }

    /// Whether a process stays outside, whose only child the engine is.
    pub fn has_parent(&self) -> bool {
        self.own.contains(&"pid")
    }

    /// The same command, inside; `scratch` is there too.
    pub fn around(&self, command: &Command, scratch: &Scratch) -> Result<Command> {
        let work = scratch.file("container");
        std::fs::create_dir_all(&work)?;
        let folder = command.get_current_dir().context("a folder to run in")?;
        let mut options: Vec<String> = self.own.iter().map(|namespace| format!("--{namespace}")).collect();
        options.extend(self.has_parent().then(|| "--fork --kill-child".to_owned()));
        options.extend(self.own.contains(&"user").then(|| "--map-root-user".to_owned()));
        let mut outer = Command::new("sh");
        outer.args(["-euc", ENTER, "sh"]);
        if self.filtered {
            outer.arg(command.get_program()).args(["-c", FILTER]);
        }
        outer.arg(command.get_program()).args(command.get_args());
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let [kind, with] = self.group.map(|group| group.hierarchy.mounted()).unwrap_or_default();
        let path = self.group.map(|group| group.path.as_str()).unwrap_or_default();
        let root = match self.root {
            Root::Host => "host",
            Root::Pivot => "pivot",
            Root::Chroot => "chroot",
        };
        let layer = self.layer.map(|layer| layer.0.path().to_owned()).unwrap_or_default();
        outer.envs([("GROUP_KIND", kind), ("GROUP_WITH", with), ("GROUP", path), ("ROOT", root), ("INSIDE", INSIDE)]);
        outer.env("OPTIONS", options.join(" ")).env("OWN", self.own.join(" "));
        outer.envs([("WORK", &work), ("LAYER", &layer), ("SCRATCH", &scratch.path().to_owned())]);
        outer.env("FOLDER", folder).env("PROGRAM", PathBuf::from(command.get_program()));
        Ok(outer)
    }
}
