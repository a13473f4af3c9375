//! A target's objects in, the probes to attach and the reasons for those left out: pure but for
//! reading the object files.

use super::code;
use super::code::Place;
use super::elf;
use super::elf::ElfError;
use super::elf::Function;
use crate::discover::Object;
use crate::discover::ObjectKind;
use crate::ident::Role;
use agent_ebpf::map::cookie;
use agent_ebpf::map::op;
use agent_ebpf::map::site;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Jumps that are followed from one function into the next.
const JUMPS: usize = 4;

/// One place to attach one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The program's name in the object.
    pub program: &'static str,
    /// The function.
    pub function: &'static str,
    /// The file, as the host can open it.
    pub path: PathBuf,
    /// The file as the process names it.
    pub object: String,
    /// Where in the file.
    pub file_offset: u64,
    /// What the program learns about the place.
    pub cookie: u64,
}

/// A function that is not probed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What to look for in one kind of object.
struct Hook {
    function: &'static str,
    program: &'static str,
    op: u64,
    at: At,
    need: Need,
}

/// Where a function's hook must sit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// At its entry alone.
    Entry,
    /// Where its result shows; after `syscall` where there is one.
    Result,
}

/// Whether the target is worth less without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

const fn hook(function: &'static str, program: &'static str, op: u64, at: At, need: Need) -> Hook {
    Hook { function, program, op, at, need }
}

const LIBC: &[Hook] = &[
    hook("read", "socket_flat", op::READ, At::Result, Need::Must),
    hook("recv", "socket_flat", op::RECV, At::Result, Need::Must),
    hook("recvfrom", "socket_flat", op::RECV, At::Result, Need::Must),
    hook("write", "socket_flat", op::WRITE, At::Result, Need::Must),
    hook("send", "socket_flat", op::WRITE, At::Result, Need::Must),
    hook("sendto", "socket_flat", op::WRITE, At::Result, Need::Must),
    hook("readv", "socket_vector", op::READV, At::Result, Need::Must),
    hook("recvmsg", "socket_vector", op::RECVMSG, At::Result, Need::Must),
    hook("writev", "socket_vector", op::WRITEV, At::Result, Need::Must),
    hook("sendmsg", "socket_vector", op::SENDMSG, At::Result, Need::Must),
    hook("accept", "socket_life", op::ACCEPT, At::Result, Need::Must),
    hook("accept4", "socket_life", op::ACCEPT, At::Result, Need::Must),
    hook("shutdown", "socket_life", op::SHUTDOWN, At::Entry, Need::Must),
    hook("close", "socket_life", op::CLOSE, At::Entry, Need::Must),
];

/// libuv closes through `syscall`; in a Rust front end the same function carries every futex.
const LIBC_SYSCALL: Hook = hook("syscall", "socket_life", op::SYSCALL, At::Entry, Need::May);

const LOADER: &[Hook] = &[hook("_dl_debug_state", "loaded", 0, At::Entry, Need::May)];

const LIBSSL: &[Hook] = &[
    hook("SSL_read_ex", "tls", op::TLS_READ_EX, At::Result, Need::May),
    hook("SSL_read", "tls", op::TLS_READ, At::Result, Need::May),
    hook("SSL_write_ex", "tls", op::TLS_WRITE_EX, At::Result, Need::May),
    hook("SSL_write", "tls", op::TLS_WRITE, At::Result, Need::May),
    hook("SSL_get_error", "tls", op::TLS_ERROR, At::Result, Need::May),
    hook("SSL_do_handshake", "tls", op::TLS_HANDSHAKE, At::Entry, Need::May),
    hook("SSL_shutdown", "tls", op::TLS_SHUTDOWN, At::Entry, Need::May),
    hook("SSL_free", "tls", op::TLS_FREE, At::Entry, Need::May),
];

const LIBZMQ: &[Hook] = &[
    hook("zmq_msg_send", "zmq_send", 0, At::Entry, Need::Must),
    hook("zmq_msg_recv", "zmq_recv", 0, At::Entry, Need::Must),
    hook("zmq_msg_data", "zmq_data", 0, At::Entry, Need::Must),
];

/// What to attach to one object of a process with this role.
///
/// # Errors
///
/// The object cannot be read; the caller makes a [`Skip`] of it.
pub fn plan(object: &Object, role: Role, uses_libuv: bool) -> Result<(Vec<Probe>, Vec<Skip>), ElfError> {
    let mut hooks: Vec<&Hook> = match (object.kind, role) {
        (ObjectKind::Libc, Role::Frontend) => LIBC.iter().collect(),
        (ObjectKind::Libssl | ObjectKind::Executable, Role::Frontend) => LIBSSL.iter().collect(),
        (ObjectKind::Libzmq, Role::Core) => LIBZMQ.iter().collect(),
        (ObjectKind::Loader, Role::Frontend | Role::Core) => LOADER.iter().collect(),
        (ObjectKind::Libc | ObjectKind::Libssl | ObjectKind::Executable, Role::Core)
        | (ObjectKind::Libzmq, Role::Frontend) => Vec::new(),
    };
    if object.kind == ObjectKind::Libc && role == Role::Frontend && uses_libuv {
        hooks.push(&LIBC_SYSCALL);
    }
    if hooks.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let names: Vec<&str> = hooks.iter().map(|hook| hook.function).collect();
    let functions = elf::functions(&object.path, &names)?;
    let beyond = match object.kind {
        ObjectKind::Libssl | ObjectKind::Executable => beyond(object, &functions)?,
        ObjectKind::Libc | ObjectKind::Loader | ObjectKind::Libzmq => Vec::new(),
    };
    Ok(place(object, &hooks, &functions, &beyond))
}

/// The functions into which these jump at their ends: OpenSSL 3.3 has `SSL_write_ex` go on in
/// `SSL_write_ex2`, whose returns are its own.
fn beyond(object: &Object, functions: &BTreeMap<String, Function>) -> Result<Vec<Function>, ElfError> {
    let mut found: Vec<Function> = Vec::new();
    let mut from: Vec<Function> = functions.values().cloned().collect();
    for _ in 0..JUMPS {
        let targets: BTreeSet<u64> = from.iter().flat_map(jumps).collect();
        // The symbols of a front end's binary are many: they are read again only for a reason.
        if targets.is_empty() {
            break;
        }
        from = elf::functions_at(&object.path, &targets)?;
        found.extend(from.iter().cloned());
    }
    Ok(found)
}

/// Where in the file a function goes on.
fn jumps(function: &Function) -> impl Iterator<Item = u64> {
    code::places(&function.code).into_iter().filter_map(|place| match place {
        Place::TailJump { to, .. } => Some(function.file_offset.wrapping_add(to)),
        Place::AfterSyscall(_) | Place::Return(_) => None,
    })
}

/// The returns of a function and of those into which it jumps, bytes from its start.
fn returns(function: &Function, beyond: &[Function], depth: usize) -> Vec<u64> {
    let own = code::places(&function.code).into_iter().filter_map(|place| match place {
        Place::Return(at) => Some(at),
        Place::AfterSyscall(_) | Place::TailJump { .. } => None,
    });
    let mut all: Vec<u64> = own.collect();
    for target in jumps(function).filter(|_| depth < JUMPS) {
        for next in beyond.iter().filter(|next| next.file_offset == target) {
            let distance = next.file_offset.wrapping_sub(function.file_offset);
            all.extend(returns(next, beyond, depth + 1).into_iter().map(|at| at.wrapping_add(distance)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn place(
    object: &Object,
    hooks: &[&Hook],
    functions: &BTreeMap<String, Function>,
    beyond: &[Function],
) -> (Vec<Probe>, Vec<Skip>) {
    let mut probes = Vec::new();
    let mut skips = Vec::new();
    for hook in hooks {
        let Some(function) = functions.get(hook.function) else {
            if hook.need == Need::Must {
                let why = "the symbol is in neither .dynsym nor .symtab".to_owned();
                skips.push(Skip { what: format!("{} {}", object.name, hook.function), why });
            }
            continue;
        };
        // What goes on in a function that is hooked itself (musl's recv) is seen there.
        let goes_on = |to: u64| {
            let target = function.file_offset.wrapping_add(to);
            functions.values().any(|other| other.file_offset == target)
        };
        let sites = match hook.at {
            // No jump hands on a result as libc's do: it shows at a return only.
            At::Result if hook.program == "tls" => {
                with_entry(returns(function, beyond, 0).into_iter().map(|at| (at, site::RETURN)).collect())
            }
            At::Entry | At::Result => sites(hook.at, &function.code, goes_on),
        };
        if sites.is_none() {
            let why = "no place in its code shows its result".to_owned();
            skips.push(Skip { what: format!("{} {}", object.name, hook.function), why });
        }
        for (distance, site) in sites.unwrap_or_default() {
            let probe = Probe {
                program: hook.program,
                function: hook.function,
                path: object.path.clone(),
                object: object.name.clone(),
                file_offset: function.file_offset.wrapping_add(distance),
                cookie: cookie(hook.op, site),
            };
            // Aliases (recv and its twins) may share code: one attachment each place.
            if !probes.iter().any(|known: &Probe| known.file_offset == probe.file_offset) {
                probes.push(probe);
            }
        }
    }
    (probes, skips)
}

/// After `syscall` where there is one, else at `ret`, else at the tail jump; `None` where none is found:
/// a length asked for is no length moved.
fn sites(at: At, code: &[u8], goes_on: impl Fn(u64) -> bool) -> Option<Vec<(u64, u64)>> {
    if at == At::Entry {
        return Some(vec![(0, site::ENTRY_ONLY)]);
    }
    let places = code::places(code);
    let of = |pick: fn(&Place) -> Option<(u64, u64)>| places.iter().filter_map(pick).collect::<Vec<_>>();
    let after = of(|place| match place {
        Place::AfterSyscall(at) => Some((*at, site::AFTER_SYSCALL)),
        Place::Return(_) | Place::TailJump { .. } => None,
    });
    if !after.is_empty() {
        return Some(after);
    }
    let mut found = of(|place| match place {
        Place::Return(at) => Some((*at, site::RETURN)),
        Place::AfterSyscall(_) | Place::TailJump { .. } => None,
    });
    if found.is_empty() {
        for place in &places {
            match *place {
                Place::TailJump { to, .. } if goes_on(to) => return Some(Vec::new()),
                Place::TailJump { at, .. } => found.push((at, site::TAIL_JUMP)),
                Place::AfterSyscall(_) | Place::Return(_) => {}
            }
        }
    }
    with_entry(found)
}

/// Behind the entry, where the arguments are kept; `None` where there is no end.
fn with_entry(mut ends: Vec<(u64, u64)>) -> Option<Vec<(u64, u64)>> {
    (!ends.is_empty()).then(|| {
        ends.insert(0, (0, site::ENTRY));
        ends
    })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::discover::FileId;

    #[test]
    fn one_hit_after_syscall_is_preferred_to_two() {
        const JUMP: [u8; 5] = [0xe9, 0, 0x10, 0, 0];
        let found = |at, code: &[u8]| sites(at, code, |_| false).unwrap();
        assert_eq!(found(At::Result, &[0x0f, 0x05, 0xc3]), [(2, site::AFTER_SYSCALL)]);
        assert_eq!(found(At::Result, &[0x90, 0xc3]), [(0, site::ENTRY), (1, site::RETURN)]);
        assert_eq!(found(At::Result, &JUMP), [(0, site::ENTRY), (0, site::TAIL_JUMP)]);
        assert_eq!(found(At::Entry, &[0x0f, 0x05, 0xc3]), [(0, site::ENTRY_ONLY)]);
        assert_eq!(sites(At::Result, &[0x90], |_| false), None);
        assert_eq!(sites(At::Result, &JUMP, |to| to == 0x1005), Some(Vec::new()));
    }

    #[test]
    fn a_jump_into_a_hooked_function_is_seen_there_and_a_function_without_an_end_nowhere() {
        let object =
            Object { kind: ObjectKind::Libc, path: PathBuf::new(), name: "libc".to_owned(), file: FileId::default() };
        let hooks: Vec<&Hook> =
            LIBC.iter().filter(|hook| ["recv", "recvfrom", "read"].contains(&hook.function)).collect();
        let function = |file_offset, code: &[u8]| Function { file_offset, code: code.to_vec() };
        let functions = BTreeMap::from([
            // As in musl: recv goes on in recvfrom, which lies a little further.
            ("recv".to_owned(), function(0x100, &[0xeb, 0x0e])),
            ("recvfrom".to_owned(), function(0x110, &[0x90, 0xc3])),
            ("read".to_owned(), function(0x120, &[0x90])),
        ]);
        let (probes, skips) = place(&object, &hooks, &functions, &[]);
        let offsets: Vec<u64> = probes.iter().map(|probe| probe.file_offset).collect();
        assert_eq!(offsets, [0x110, 0x111]);
        let skipped: Vec<&str> = skips.iter().map(|skip| skip.what.as_str()).collect();
        assert_eq!(skipped, ["libc read"]);
    }

    #[test]
    fn a_result_is_seen_where_the_function_went_on() {
        let object = Object {
            kind: ObjectKind::Libssl,
            path: PathBuf::new(),
            name: "libssl".to_owned(),
            file: FileId::default(),
        };
        let hooks: Vec<&Hook> = LIBSSL.iter().filter(|hook| hook.function == "SSL_write_ex").collect();
        let function = |file_offset, code: &[u8]| Function { file_offset, code: code.to_vec() };
        // jmp 0x80, which lies before it; there: ret or jmp 0x300; there: nop, ret.
        let write_ex = function(0x100, &[0xe9, 0x7b, 0xff, 0xff, 0xff]);
        let beyond = [function(0x80, &[0xc3, 0xe9, 0x7a, 0x02, 0, 0]), function(0x300, &[0x90, 0xc3])];
        let (probes, skips) = place(&object, &hooks, &BTreeMap::from([("SSL_write_ex".to_owned(), write_ex)]), &beyond);
        let found: Vec<(u64, u64)> = probes.iter().map(|probe| (probe.file_offset, probe.cookie >> 8)).collect();
        let expected = [(0x100, site::ENTRY), (0x80, site::RETURN), (0x301, site::RETURN)];
        assert_eq!((found.iter().copied().collect::<BTreeSet<_>>(), skips), (BTreeSet::from(expected), vec![]));
    }

    #[test]
    fn this_process_libc_shows_results_after_syscall() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps
            .lines()
            .find_map(|line| line.split_whitespace().last().filter(|path| path.contains("libc.so")))
            .unwrap();
        let object = Object { kind: ObjectKind::Libc, path: path.into(), name: path.into(), file: FileId::default() };
        let (probes, skips) = plan(&object, Role::Frontend, true).unwrap();
        assert_eq!(skips, []);
        for hook in LIBC {
            assert!(probes.iter().any(|probe| probe.cookie & 0xff == hook.op), "{}", hook.function);
        }
        let write = probes.iter().find(|probe| probe.function == "write").unwrap();
        assert_eq!(write.cookie >> 8, site::AFTER_SYSCALL);
    }
}
