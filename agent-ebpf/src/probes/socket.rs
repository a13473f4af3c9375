//! libc's socket calls, hooked after their `syscall` instruction: one hit has arguments and result.
//!
//! `ssize_t read(int fd, void *buf, size_t n)`, `recv(fd, buf, n, flags)`, `recvfrom(fd, buf, n, flags, …)`,
//! `readv(fd, const struct iovec *, int)`, `recvmsg(fd, struct msghdr *, flags)`, and their sending twins;
//! `accept(fd, addr *, len *)`, `accept4(…, flags)`, `shutdown(fd, how)`, `close(fd)`,
//! `syscall(number, …)`, by which libuv closes. Seen in glibc 2.36.
//!
//! The instant is that of the return, but for close and shutdown, which are taken at their entry: after
//! it another thread may already have been given the descriptor.

use crate::emit;
use crate::emit::Cursor;
use crate::maps;
use crate::regs;
use crate::regs::Args;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use agent_ebpf::event::closed;
use agent_ebpf::limits;
use agent_ebpf::map::Call;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::LastRead;
use agent_ebpf::map::TLS_CALL;
use agent_ebpf::map::carries;
use agent_ebpf::map::count;
use agent_ebpf::map::op;
use agent_ebpf::map::site;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_attach_cookie;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
/// MSG_OOB, MSG_ERRQUEUE: what such a read gives is none of the stream's bytes.
const BESIDE_THE_STREAM: u64 = 0x1 | 0x2000;
const MSG_PEEK: u64 = 0x2;
/// Where `struct msghdr` holds its vector.
const MSGHDR_IOV: u64 = 16;
const SYS_CLOSE: u64 = if cfg!(bpf_target_arch = "aarch64") { 57 } else { 3 };

/// A call with its result; a failure is a negative errno, EAGAIN where libc hid which.
pub(super) struct Done {
    pub(super) op: u64,
    pub(super) args: Args,
    pub(super) result: i64,
    /// When the call was entered, where its entry was seen; else 0.
    pub(super) entered_ns: u64,
}

/// Brings the three kinds of places together: `None` while the call is under way.
#[inline(always)]
pub(super) fn done(ctx: &ProbeContext) -> Option<Done> {
    maps::count(count::HITS_WIRE, 1);
    // SAFETY: the context is the one that the kernel handed over.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let op = cookie & 0xff;
    match cookie >> 8 {
        site::AFTER_SYSCALL => {
            let (args, result) = (regs::syscall_args(ctx), regs::result(ctx));
            Some(Done { op, args, result, entered_ns: 0 })
        }
        site::ENTRY => {
            let Args { a, b, c, d } = regs::args(ctx);
            // SAFETY: a helper without arguments.
            let at_ns = unsafe { bpf_ktime_get_ns() };
            if maps::CALLS.insert(&slot(op), &Call { a, b, c, d, at_ns }, 0).is_err() {
                maps::count(count::MAP_FULL, 1);
            }
            None
        }
        site::ENTRY_ONLY => Some(Done { op, args: regs::args(ctx), result: 0, entered_ns: 0 }),
        end => {
            let slot = slot(op);
            let call = maps::CALLS.get_ptr(&slot)?;
            // SAFETY: a live map value, written by this very thread.
            let Call { a, b, c, d, at_ns } = unsafe { *call };
            let _gone = maps::CALLS.remove(&slot);
            let result = if end == site::TAIL_JUMP {
                regs::args(ctx).a.cast_signed()
            } else {
                let result = regs::result(ctx);
                if result == -1 { EAGAIN } else { result }
            };
            Some(Done { op, args: Args { a, b, c, d }, result, entered_ns: at_ns })
        }
    }
}

/// Where the arguments of this thread's call lie between its entry and its end.
#[inline(always)]
fn slot(op: u64) -> u64 {
    let thread = bpf_get_current_pid_tgid();
    if op >= op::TLS_READ_EX { thread | TLS_CALL } else { thread }
}

#[uprobe]
pub(crate) fn socket_flat(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, .. }) = done(&ctx) else { return 0 };
    match op {
        op::RECV if args.d & BESIDE_THE_STREAM != 0 => {}
        // Nothing was asked for: 0 is no end.
        op::READ | op::RECV if args.c == 0 => {}
        op::RECV if args.d & MSG_PEEK != 0 => looked(args.a as i32, result),
        op::READ | op::RECV => {
            if let Some(mut moving) = received(args.a as i32, args.b, result as u64, result) {
                moving.copy(args.b, result);
            }
        }
        _ => {
            if let Some(mut moving) = sent(args.a as i32, result) {
                moving.copy(args.b, result);
                if result < args.c.cast_signed() {
                    moving.blocked();
                }
            }
        }
    }
    0
}

#[uprobe]
pub(crate) fn socket_vector(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, .. }) = done(&ctx) else { return 0 };
    if op == op::RECVMSG && args.c & BESIDE_THE_STREAM != 0 {
        return 0;
    }
    if op == op::RECVMSG && args.c & MSG_PEEK != 0 {
        looked(args.a as i32, result);
        return 0;
    }
    let (vector, len) = match op {
        op::READV | op::WRITEV => (args.b, args.c),
        _ => pair(args.b + MSGHDR_IOV),
    };
    let moving = match op {
        op::READV | op::RECVMSG => {
            let (first, room) = pair(vector);
            received(args.a as i32, first, room.min(result as u64), result)
        }
        _ => sent(args.a as i32, result),
    };
    if let Some(mut moving) = moving {
        moving.copy_vector(vector, len, result);
    }
    0
}

#[uprobe]
pub(crate) fn socket_life(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, .. }) = done(&ctx) else { return 0 };
    match op {
        op::ACCEPT if result as i32 >= 0 => opened(result as i32),
        op::CLOSE => ended(args.a as i32, closed::LOCAL),
        op::SHUTDOWN if args.b != 0 => over(args.a as i32, closed::LOCAL),
        op::SYSCALL if args.a == SYS_CLOSE => ended(args.b as i32, closed::LOCAL),
        _ => {}
    }
    0
}

/// An address and a length, as `struct iovec` and the vector of `struct msghdr` have them.
#[inline(always)]
fn pair(at: u64) -> (u64, u64) {
    // SAFETY: the helper checks the user address.
    let start = unsafe { bpf_probe_read_user(at as *const u64) }.unwrap_or(0);
    // SAFETY: as above.
    let len = unsafe { bpf_probe_read_user((at + 8) as *const u64) }.unwrap_or(0);
    (start, len)
}

#[inline(always)]
fn key(fd: i32) -> ConnKey {
    ConnKey { pid: (bpf_get_current_pid_tgid() >> 32) as u32, fd }
}

#[inline(always)]
fn fresh(header: &Header, carries: u32) -> ConnState {
    ConnState { opened_ns: header.at_ns, turn_bytes: 0, seq: 0, carries, turn: 0, pad: 0 }
}

#[inline(always)]
fn opened(fd: i32) {
    ended(fd, closed::REPLACED);
    let mut header = emit::header(Kind::Opened);
    if !maps::traced(header.pid) {
        return;
    }
    header.fd = fd;
    header.opened_ns = header.at_ns;
    let mut state = fresh(&header, carries::UNKNOWN);
    state.seq = 1;
    if maps::CONNS.insert(&key(fd), &state, 0).is_err() {
        maps::count(count::MAP_FULL, 1);
        return;
    }
    emit::bare(&header);
}

/// Forgets a connection and says so.
#[inline(always)]
fn ended(fd: i32, result: i32) {
    let key = key(fd);
    let Some(state) = maps::CONNS.get_ptr_mut(&key) else { return };
    // SAFETY: a live map value.
    let over = unsafe { (*state).carries } == carries::OVER;
    if !over {
        say_closed(fd, state, result);
    }
    let _gone = maps::CONNS.remove(&key);
}

/// The end of a connection whose descriptor stays in use: some servers then read and discard what still comes.
#[inline(always)]
pub(super) fn over(fd: i32, how: i32) {
    let Some(state) = maps::CONNS.get_ptr_mut(&key(fd)) else { return };
    // SAFETY: a live map value.
    if unsafe { (*state).carries } != carries::OVER {
        say_closed(fd, state, how);
        // SAFETY: as above.
        unsafe { (*state).carries = carries::OVER };
    }
}

/// A look at what came in takes nothing, but it shows when the peer has gone.
#[inline(always)]
fn looked(fd: i32, result: i64) {
    if result <= 0 {
        nothing_came(fd, result);
    }
}

/// A read that brought nothing: what it says of the peer.
#[inline(always)]
fn nothing_came(fd: i32, result: i64) {
    if result != EAGAIN && result != EINTR {
        ended(fd, if result == 0 { closed::PEER } else { (-result) as i32 });
    }
}

#[inline(always)]
fn say_closed(fd: i32, state: *mut ConnState, result: i32) {
    let mut header = emit::header(Kind::Closed);
    header.fd = fd;
    header.result = result;
    // SAFETY: a live map value; one connection is used by one thread at a time.
    header.opened_ns = unsafe { (*state).opened_ns };
    // SAFETY: as above.
    header.seq = unsafe { (*state).seq };
    emit::bare(&header);
}

/// A connection with bytes to copy.
pub(super) struct Moving {
    pub(super) header: Header,
    state: *mut ConnState,
    turn_bytes: u64,
}

/// Looks up a connection for bytes that came in, and learns what it carries from the first of them:
/// `len` at `buffer`.
#[inline(always)]
fn received(fd: i32, buffer: u64, len: u64, result: i64) -> Option<Moving> {
    let key = key(fd);
    let mut state = maps::CONNS.get_ptr_mut(&key);
    let header = emit::header(Kind::Received);
    if result <= 0 {
        nothing_came(fd, result);
        return None;
    }
    // SAFETY: a live map value.
    let known = state.map_or(carries::UNKNOWN, |state| unsafe { (*state).carries });
    let mut carried = known;
    if known == carries::UNKNOWN {
        carried = first_bytes(buffer, len, state.is_some());
        if carried == carries::UNKNOWN {
            ended(fd, closed::LOCAL);
            return None;
        }
        if let Some(state) = state {
            // SAFETY: a live map value.
            unsafe { (*state).carries = carried };
        } else {
            if !maps::traced(key.pid) {
                return None;
            }
            if maps::CONNS.insert(&key, &fresh(&header, carried), 0).is_err() {
                maps::count(count::MAP_FULL, 1);
                return None;
            }
            state = maps::CONNS.get_ptr_mut(&key);
        }
    }
    if carried == carries::OVER {
        return None;
    }
    if carried == carries::TLS {
        let last = LastRead { at_ns: header.at_ns, fd, pad: 0 };
        if maps::LAST_READ.insert(&bpf_get_current_pid_tgid(), &last, 0).is_err() {
            maps::count(count::MAP_FULL, 1);
        }
        return None;
    }
    Moving::new(header, fd, state?)
}

/// Looks up a connection for bytes that went out.
#[inline(always)]
fn sent(fd: i32, result: i64) -> Option<Moving> {
    let state = maps::CONNS.get_ptr_mut(&key(fd))?;
    // SAFETY: a live map value.
    if unsafe { (*state).carries } == carries::OVER {
        return None;
    }
    let mut moving = Moving::new(emit::header(Kind::Sent), fd, state)?;
    if result > 0 {
        // SAFETY: a live map value.
        let plain = unsafe { (*state).carries } == carries::PLAIN;
        return plain.then_some(moving);
    }
    if result == EAGAIN {
        moving.blocked();
    } else if result != 0 && result != EINTR {
        ended(fd, (-result) as i32);
    }
    None
}

/// Whether the first bytes read are HTTP/1 or TLS. What was open before it was followed must show more.
#[inline(always)]
fn first_bytes(buffer: u64, len: u64, accepted: bool) -> u32 {
    let mut bytes = [0_u8; 8];
    let n = if len < 8 { len as u32 } else { 8 };
    // SAFETY: at most eight bytes into eight; the helper checks the user address.
    if unsafe { generated::bpf_probe_read_user((&raw mut bytes).cast(), n, buffer as *const _) } != 0 {
        return carries::UNKNOWN;
    }
    if bytes[1] == 3 && (bytes[0] == 22 || (bytes[0] == 23 && !accepted)) {
        return carries::TLS;
    }
    // Cut short, an accepted connection's first word may still become a method; an empty line may come before it.
    let begins = bytes[0] == b'\r' || bytes[0] == b'\n' || (n < 8 && bytes[0].is_ascii_uppercase());
    if method(u64::from_le_bytes(bytes)) || (accepted && begins) { carries::PLAIN } else { carries::UNKNOWN }
}

/// Whether eight bytes begin with an HTTP method and a space, or with the HTTP/2 preface.
#[inline(always)]
fn method(bytes: u64) -> bool {
    let starts = |word: [u8; 8], len: u32| bytes & (u64::MAX >> (64 - 8 * len)) == u64::from_le_bytes(word);
    starts(*b"POST \0\0\0", 5)
        || starts(*b"GET \0\0\0\0", 4)
        || starts(*b"HEAD \0\0\0", 5)
        || starts(*b"PUT \0\0\0\0", 4)
        || starts(*b"PATCH \0\0", 6)
        || starts(*b"DELETE \0", 7)
        || starts(*b"OPTIONS ", 8)
        || starts(*b"CONNECT ", 8)
        || starts(*b"PRI * \0\0", 6)
}

impl Moving {
    /// Counts the bytes of this turn: those of one direction until the other speaks.
    #[inline(always)]
    pub(super) fn new(mut header: Header, fd: i32, state: *mut ConnState) -> Option<Self> {
        let cap = match maps::TARGETS.get_ptr(&header.pid) {
            // SAFETY: a live map value.
            Some(target) => unsafe {
                if header.kind as u32 == Kind::Received as u32 { (*target).in_bytes } else { (*target).out_bytes }
            },
            None => return None,
        };
        header.fd = fd;
        // SAFETY: a live map value; one connection is used by one thread at a time.
        let state_ref = unsafe { &mut *state };
        header.opened_ns = state_ref.opened_ns;
        let turn = header.kind as u32;
        if state_ref.turn != turn {
            state_ref.turn = turn;
            state_ref.turn_bytes = 0;
        }
        let turn_bytes = cap.saturating_sub(state_ref.turn_bytes);
        Some(Self { header, state, turn_bytes })
    }

    #[inline(always)]
    fn seq(&mut self) -> &mut u32 {
        // SAFETY: a live map value; one connection is used by one thread at a time.
        unsafe { &mut (*self.state).seq }
    }

    /// Copies what one flat buffer holds.
    #[inline(always)]
    pub(super) fn copy(&mut self, from: u64, result: i64) {
        let total = result as u32;
        self.header.total = total;
        let len = self.allowed(total);
        let beyond = total - len;
        let mut seq = *self.seq();
        emit::pieces(&mut self.header, &mut seq, from, len, beyond, limits::PIECES);
        *self.seq() = seq;
    }

    /// Copies what the elements of a vector hold, as far as the call got.
    #[inline(always)]
    fn copy_vector(&mut self, vector: u64, elements: u64, result: i64) {
        let total = result as u32;
        self.header.total = total;
        let left = self.allowed(total);
        let header = self.header;
        let seq = *self.seq();
        let mut seq = emit::vector(&Cursor { header, seq, left, next: vector, elements, from: 0, element_left: 0 });
        if total > left {
            emit::cut(&mut self.header, &mut seq, total - left);
        }
        *self.seq() = seq;
    }

    /// How many of `total` bytes may still be copied in this turn.
    #[inline(always)]
    fn allowed(&mut self, total: u32) -> u32 {
        // SAFETY: a live map value; one connection is used by one thread at a time.
        unsafe { (*self.state).turn_bytes += u64::from(total) };
        let end = self.header.kind as u32 == Kind::Sent as u32 && total < limits::SHORT;
        if u64::from(total) > self.turn_bytes && !end { self.turn_bytes as u32 } else { total }
    }

    /// Says that a send was refused or cut short.
    #[inline(always)]
    fn blocked(&mut self) {
        self.header.kind = Kind::Blocked;
        self.header.len = 0;
        self.header.missing = 0;
        self.header.seq = *self.seq();
        *self.seq() += 1;
        emit::bare(&self.header);
    }
}
