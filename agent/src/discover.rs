//! /proc and process events in, [`Change`]s out: which processes matter and what they do there.

use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::stream::Role;
use std::path::PathBuf;

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
    pub objects: Vec<Object>,
    /// Whether it ran already when discovery first looked.
    pub late: bool,
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
    /// A new target, or a known one with more objects than before.
    Appeared(Target),
    /// A target left.
    Gone(Pid),
}
