//! Plaintext at the TLS library: `int SSL_read_ex(SSL *, void *, size_t, size_t *)`,
//! `int SSL_read(SSL *, void *, int)`, `SSL_write_ex`, `SSL_write`, `int SSL_do_handshake(SSL *)`,
//! `void SSL_free(SSL *)`. `int SSL_get_error(const SSL *, int)` is where a peer's farewell shows, and
//! `int SSL_shutdown(SSL *)` is the server's own: the sockets tell of either only later.
//!
//! Entry keeps the arguments, the `ret` instructions emit; no return probe. Which connection a session
//! belongs to is learnt from the socket that its thread read last: inside the very call where the
//! library reads itself; before each step of the handshake where it is fed (memory BIOs, uvloop), for
//! later reads may be put off until the thread has read from others. Seen in OpenSSL 3.0.

use super::socket::Done;
use super::socket::Moving;
use super::socket::done;
use super::socket::over;
use crate::emit;
use crate::maps;
use agent_ebpf::event::Kind;
use agent_ebpf::event::closed;
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

/// The peer has said that it sends no more.
const SSL_ERROR_ZERO_RETURN: i64 = 6;

#[uprobe]
pub(crate) fn tls(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, entered_ns }) = done(&ctx) else { return 0 };
    let thread = bpf_get_current_pid_tgid();
    let session = TlsKey { ssl: args.a, pid: (thread >> 32) as u32, pad: 0 };
    if op == op::TLS_FREE {
        let _gone = maps::SESSIONS.remove(&session);
        return 0;
    }
    if op == op::TLS_HANDSHAKE {
        learn(&session, thread, 0);
        return 0;
    }
    if op == op::TLS_ERROR || op == op::TLS_SHUTDOWN {
        let how = if op == op::TLS_SHUTDOWN { closed::LOCAL } else { closed::PEER };
        if (op == op::TLS_SHUTDOWN || result == SSL_ERROR_ZERO_RETURN)
            && let Some((fd, _)) = known(&session)
        {
            over(fd, how);
        }
        return 0;
    }
    let moved = match op {
        op::TLS_READ_EX | op::TLS_WRITE_EX if result == 1 => {
            // SAFETY: the helper checks the user address.
            unsafe { bpf_probe_read_user(args.d as *const i64) }.unwrap_or(0)
        }
        // Of an `int` the upper half of the register is left over.
        op::TLS_READ | op::TLS_WRITE => (result as i32).into(),
        _ => 0,
    };
    if moved <= 0 {
        return 0;
    }
    let reads = op == op::TLS_READ_EX || op == op::TLS_READ;
    if reads {
        learn(&session, thread, entered_ns);
    }
    let mut found = known(&session);
    if found.is_none() && reads {
        learn(&session, thread, 0);
        found = known(&session);
    }
    let Some((fd, state)) = found else { return 0 };
    let header = emit::header(if reads { Kind::Received } else { Kind::Sent });
    if let Some(mut moving) = Moving::new(header, fd, state) {
        moving.copy(args.b, moved);
    }
    0
}

/// The connection that a session was tied to, while that one lives.
#[inline(always)]
fn known(session: &TlsKey) -> Option<(i32, *mut ConnState)> {
    // SAFETY: a live map value.
    let TlsConn { opened_ns, fd, .. } = unsafe { *maps::SESSIONS.get_ptr(session)? };
    let state = maps::CONNS.get_ptr_mut(&ConnKey { pid: session.pid, fd })?;
    // SAFETY: a live map value. Another opening means that the descriptor was used again.
    (unsafe { (*state).opened_ns } == opened_ns).then_some((fd, state))
}

/// Ties a session to the connection that its thread read from last, if it did so after `since_ns`.
#[inline(always)]
fn learn(session: &TlsKey, thread: u64, since_ns: u64) {
    let Some(last) = maps::LAST_READ.get_ptr(&thread) else { return };
    // SAFETY: a live map value, written by this very thread.
    let last = unsafe { *last };
    if last.at_ns < since_ns {
        return;
    }
    let Some(state) = maps::CONNS.get_ptr(&ConnKey { pid: session.pid, fd: last.fd }) else { return };
    // SAFETY: a live map value.
    if unsafe { (*state).carries } != carries::TLS {
        return;
    }
    // SAFETY: as above.
    let opened_ns = unsafe { (*state).opened_ns };
    if maps::SESSIONS.insert(session, &TlsConn { opened_ns, fd: last.fd, pad: 0 }, 0).is_err() {
        maps::count(count::MAP_FULL, 1);
    }
}
