//! Plaintext at the TLS library: `int SSL_read_ex(SSL *, void *, size_t, size_t *)`,
//! `int SSL_read(SSL *, void *, int)`, `SSL_write_ex`, `SSL_write`, `void SSL_free(SSL *)`.
//!
//! Entry keeps the arguments, the `ret` instructions emit; no return probe. A session is tied to the
//! connection that its thread read from last, when it first yields bytes, and keeps it while both
//! live: memory BIOs (uvloop) never touch the descriptor inside these calls. Seen in OpenSSL 3.0.

use super::socket::Done;
use super::socket::Moving;
use super::socket::done;
use crate::emit;
use crate::maps;
use agent_ebpf::event::Kind;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::TlsConn;
use agent_ebpf::map::TlsKey;
use agent_ebpf::map::carries;
use agent_ebpf::map::count;
use agent_ebpf::map::op;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

#[uprobe]
pub(crate) fn tls(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, .. }) = done(&ctx) else { return 0 };
    let thread = bpf_get_current_pid_tgid();
    let session = TlsKey { ssl: args.a, pid: (thread >> 32) as u32, pad: 0 };
    if op == op::TLS_FREE {
        let _gone = maps::SESSIONS.remove(&session);
        return 0;
    }
    let moved = match op {
        op::TLS_READ_EX | op::TLS_WRITE_EX if result == 1 => {
            // SAFETY: the helper checks the user address.
            unsafe { bpf_probe_read_user(args.d as *const i64) }.unwrap_or(0)
        }
        op::TLS_READ | op::TLS_WRITE => result,
        _ => 0,
    };
    if moved <= 0 {
        return 0;
    }
    let reads = op == op::TLS_READ_EX || op == op::TLS_READ;
    let Some((fd, state)) = connection(&session, thread, reads) else { return 0 };
    let header = emit::header(if reads { Kind::Received } else { Kind::Sent });
    if let Some(mut moving) = Moving::new(header, fd, state) {
        moving.copy(args.b, moved);
    }
    0
}

/// The connection of a session; learnt while it reads.
#[inline(always)]
fn connection(session: &TlsKey, thread: u64, reads: bool) -> Option<(i32, *mut ConnState)> {
    if let Some(known) = maps::SESSIONS.get_ptr(session) {
        // SAFETY: a live map value.
        let TlsConn { opened_ns, fd, .. } = unsafe { *known };
        if let Some(state) = maps::CONNS.get_ptr_mut(&ConnKey { pid: session.pid, fd }) {
            // SAFETY: a live map value.
            if unsafe { (*state).opened_ns } == opened_ns {
                return Some((fd, state));
            }
        }
    }
    if !reads {
        return None;
    }
    // SAFETY: a live map value, written by this very thread.
    let fd = unsafe { *maps::LAST_READ.get_ptr(&thread)? };
    let state = maps::CONNS.get_ptr_mut(&ConnKey { pid: session.pid, fd })?;
    // SAFETY: a live map value.
    if unsafe { (*state).carries } != carries::TLS {
        return None;
    }
    // SAFETY: as above.
    let opened_ns = unsafe { (*state).opened_ns };
    if maps::SESSIONS.insert(session, &TlsConn { opened_ns, fd, pad: 0 }, 0).is_err() {
        maps::count(count::MAP_FULL, 1);
    }
    Some((fd, state))
}
