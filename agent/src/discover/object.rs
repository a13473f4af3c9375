//! A process in, the mapped files that matter out, as the host can open them.

use super::Closes;
use super::Object;
use super::ObjectKind;
use super::family::Process;
use super::procfs;
use crate::ident::Pid;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The objects of a process, and how it closes descriptors.
pub fn of(process: &Process) -> (BTreeSet<Object>, Closes) {
    let pid = process.id.pid;
    let (root, paths) = (procfs::root(pid), procfs::mapped_files(pid));
    let python_or_node = ["python", "node"].iter().any(|name| process.exe_name().starts_with(name));
    let libuv = paths.iter().any(|path| path.contains("uvloop") || path.contains("libuv"));
    let closes = if python_or_node || libuv { Closes::BySyscall } else { Closes::ByClose };
    let mut objects: BTreeSet<Object> = paths
        .iter()
        .flat_map(|path| kinds(path).into_iter().map(|kind| object(pid, kind, inside(&root, path))))
        .collect();
    if !process.exe.is_empty() {
        objects.insert(object(pid, ObjectKind::Executable, inside(&root, &process.exe)));
    }
    (objects, closes)
}

/// A path as a process below `root` names it. The kernel gives paths as the reader sees them, which for
/// a process under chroot is from the host's root on.
fn inside<'path>(root: &str, path: &'path str) -> &'path str {
    path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

fn object(pid: Pid, kind: ObjectKind, path: &str) -> Object {
    Object { kind, path: PathBuf::from(format!("/proc/{pid}/root{path}")), name: path.to_owned() }
}

/// What a mapped file is by its name; musl's one file is C library and loader.
fn kinds(path: &str) -> Vec<ObjectKind> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["ld-musl-", "libc.musl-"]) {
        return vec![ObjectKind::Libc, ObjectKind::Loader];
    }
    if starts(&["libc.so.", "libc-2."]) {
        return vec![ObjectKind::Libc];
    }
    if starts(&["libssl.so", "libssl-", "libssl3"]) {
        return vec![ObjectKind::Libssl];
    }
    if starts(&["libzmq.so", "libzmq-"]) {
        return vec![ObjectKind::Libzmq];
    }
    if starts(&["ld-linux", "ld-2."]) {
        return vec![ObjectKind::Loader];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_root_of_its_own() {
        for (root, path, expected) in [
            ("/", "/usr/bin/server", "/usr/bin/server"),
            ("/srv/jail", "/srv/jail/usr/bin/server", "/usr/bin/server"),
            ("/srv/jail", "/srv/jail2/server", "/srv/jail2/server"),
            ("/srv/jail", "/usr/bin/server", "/usr/bin/server"),
            ("", "/usr/bin/server", "/usr/bin/server"),
        ] {
            assert_eq!(inside(root, path), expected, "{root} {path}");
        }
    }

    #[test]
    fn names_of_libraries() {
        let table: [(&str, &[ObjectKind]); 9] = [
            ("/lib/x86_64-linux-gnu/libc.so.6", &[ObjectKind::Libc]),
            ("/lib/libc-2.31.so", &[ObjectKind::Libc]),
            ("/lib/ld-musl-x86_64.so.1", &[ObjectKind::Libc, ObjectKind::Loader]),
            ("/lib64/ld-linux-x86-64.so.2", &[ObjectKind::Loader]),
            ("/opt/conda/lib/libssl.so.3", &[ObjectKind::Libssl]),
            ("/venv/cryptography.libs/libssl-1b2c.so.3", &[ObjectKind::Libssl]),
            ("/venv/pyzmq.libs/libzmq-41b2c.so.5.2.5", &[ObjectKind::Libzmq]),
            ("/lib/libcrypto.so.3", &[]),
            ("/lib/libcrypt.so.1", &[]),
        ];
        for (path, expected) in table {
            assert_eq!(kinds(path), expected, "{path}");
        }
    }
}
