//! A process in, the mapped files that matter out, as the host can open them.

use super::Closes;
use super::FileId;
use super::Object;
use super::ObjectKind;
use super::family::Process;
use super::procfs;
use crate::ident::Pid;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What the kernel writes behind the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// The objects of a process, and how it closes descriptors.
pub fn of(process: &Process) -> (BTreeSet<Object>, Closes) {
    let pid = process.id.pid;
    let (root, paths) = (procfs::root(pid), procfs::mapped_files(pid));
    let deleted = |path: &str| path.ends_with(DELETED);
    let python_or_node = ["python", "node"].iter().any(|name| process.exe_name().starts_with(name));
    let libuv = paths.keys().any(|path| path.contains("uvloop") || path.contains("libuv"));
    let closes = if python_or_node || libuv { Closes::BySyscall } else { Closes::ByClose };
    let mut objects: BTreeSet<Object> = paths
        .iter()
        .flat_map(|(path, mapped)| {
            let kept = || PathBuf::from(format!("/proc/{pid}/map_files/{}", mapped.range));
            // What was replaced while it is mapped has no name; this link asks for CAP_CHECKPOINT_RESTORE.
            let unnamed = deleted(path).then(kept).filter(|link| link.metadata().is_ok());
            let object = object(pid, inside(&root, path), mapped.file);
            let object = Object { path: unnamed.unwrap_or_else(|| object.path.clone()), ..object };
            kinds(path).into_iter().map(move |kind| Object { kind, ..object.clone() })
        })
        .collect();
    if !process.exe.is_empty() {
        let file = paths.get(&process.exe).map(|mapped| mapped.file).unwrap_or_default();
        let named = object(pid, inside(&root, &process.exe), file);
        let path = if deleted(&process.exe) { PathBuf::from(format!("/proc/{pid}/exe")) } else { named.path.clone() };
        objects.insert(Object { path, ..named });
    }
    (objects, closes)
}

/// A path as a process below `root` names it. The kernel gives paths as the reader sees them, which for
/// a process under chroot is from the host's root on.
fn inside<'path>(root: &str, path: &'path str) -> &'path str {
    path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

fn object(pid: Pid, path: &str, file: FileId) -> Object {
    let kind = ObjectKind::Executable;
    Object { kind, path: PathBuf::from(format!("/proc/{pid}/root{path}")), name: path.to_owned(), file }
}

/// What a mapped file is by its name; musl's one file is C library and loader, and Debian calls it `libc.so`.
fn kinds(path: &str) -> Vec<ObjectKind> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["ld-musl-", "libc.musl-"]) || name.trim_end_matches(DELETED) == "libc.so" {
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
        let table: [(&str, &[ObjectKind]); 12] = [
            ("/lib/x86_64-linux-gnu/libc.so.6", &[ObjectKind::Libc]),
            ("/lib/libc-2.31.so", &[ObjectKind::Libc]),
            ("/lib/ld-musl-x86_64.so.1", &[ObjectKind::Libc, ObjectKind::Loader]),
            ("/usr/lib/x86_64-linux-musl/libc.so", &[ObjectKind::Libc, ObjectKind::Loader]),
            ("/lib/libc.so (deleted)", &[ObjectKind::Libc, ObjectKind::Loader]),
            ("/lib/libc.so.6 (deleted)", &[ObjectKind::Libc]),
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
