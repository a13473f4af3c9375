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
use agent_ebpf::event::flags;
use agent_ebpf::limits;
use agent_ebpf::map::Call;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::carries;
use agent_ebpf::map::count;
use agent_ebpf::map::op;
use agent_ebpf::map::site;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_attach_cookie;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const MSG_PEEK: u64 = 2;
const SYS_CLOSE: u64 = if cfg!(bpf_target_arch = "aarch64") { 57 } else { 3 };

/// A call with its result; a failure is a negative errno, EAGAIN where libc hid which.
pub(super) struct Done {
    pub(super) op: u64,
    pub(super) args: Args,
    pub(super) result: i64,
    pub(super) flags: u8,
}

/// Brings the three kinds of places together: `None` while the call is under way.
#[inline(always)]
pub(super) fn done(ctx: &ProbeContext) -> Option<Done> {
    maps::count(count::HITS_WIRE, 1);
    // SAFETY: the context is the one that the kernel handed over.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let op = cookie & 0xff;
    match cookie >> 8 {
        site::AFTER_SYSCALL => Some(Done { op, args: regs::syscall_args(ctx), result: regs::result(ctx), flags: 0 }),
        site::ENTRY => {
            let Args { a, b, c, d } = regs::args(ctx);
            if maps::CALLS.insert(&bpf_get_current_pid_tgid(), &Call { a, b, c, d }, 0).is_err() {
                maps::count(count::MAP_FULL, 1);
            }
            None
        }
        site::ENTRY_ONLY => {
            let args = regs::args(ctx);
            let result = args.c.cast_signed();
            Some(Done { op, args, result, flags: flags::ASKED })
        }
        end => {
            let thread = bpf_get_current_pid_tgid();
            let call = maps::CALLS.get_ptr(&thread)?;
            // SAFETY: a live map value, written by this very thread.
            let Call { a, b, c, d } = unsafe { *call };
            let _ = maps::CALLS.remove(&thread);
            let result = if end == site::TAIL_JUMP {
                regs::args(ctx).a.cast_signed()
            } else {
                let result = regs::result(ctx);
                if result == -1 { EAGAIN } else { result }
            };
            Some(Done { op, args: Args { a, b, c, d }, result, flags: 0 })
        }
    }
}

#[uprobe]
pub(crate) fn socket_flat(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, flags }) = done(&ctx) else { return 0 };
    match op {
        op::RECV if args.d & MSG_PEEK != 0 => {}
        op::READ | op::RECV => {
            if let Some(mut moving) = received(args.a as i32, args.b, result) {
                moving.header.flags = flags;
                moving.copy(args.b, result);
            }
        }
        _ => {
            if let Some(mut moving) = sent(args.a as i32, result) {
                moving.header.flags = flags;
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
    let Some(Done { op, args, result, flags }) = done(&ctx) else { return 0 };
    if op == op::RECVMSG && args.c & MSG_PEEK != 0 {
        return 0;
    }
    let (vector, len) = match op {
        op::READV | op::WRITEV => (args.b, args.c),
        _ => message(args.b),
    };
    let moving = match op {
        op::READV | op::RECVMSG => received(args.a as i32, first_element(vector), result),
        _ => sent(args.a as i32, result),
    };
    if let Some(mut moving) = moving {
        moving.header.flags = flags;
        moving.copy_vector(vector, len, result);
    }
    0
}

#[uprobe]
pub(crate) fn socket_life(ctx: ProbeContext) -> u32 {
    let Some(Done { op, args, result, .. }) = done(&ctx) else { return 0 };
    match op {
        op::ACCEPT if result >= 0 => opened(result as i32),
        op::CLOSE | op::SHUTDOWN if op == op::CLOSE || args.b != 0 => ended(args.a as i32, closed::LOCAL),
        op::SYSCALL if args.a == SYS_CLOSE => ended(args.b as i32, closed::LOCAL),
        _ => {}
    }
    0
}

/// `struct msghdr`: the vector and its length.
#[inline(always)]
fn message(at: u64) -> (u64, u64) {
    // SAFETY: the helper checks the user address.
    let vector = unsafe { bpf_probe_read_user((at + 16) as *const u64) }.unwrap_or(0);
    // SAFETY: as above.
    let len = unsafe { bpf_probe_read_user((at + 24) as *const u64) }.unwrap_or(0);
    (vector, len)
}

#[inline(always)]
fn first_element(vector: u64) -> u64 {
    // SAFETY: the helper checks the user address.
    unsafe { bpf_probe_read_user(vector as *const u64) }.unwrap_or(0)
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
    let mut header = emit::header(Kind::Closed);
    header.fd = fd;
    header.result = result;
    // SAFETY: a live map value; one connection is used by one thread at a time.
    header.opened_ns = unsafe { (*state).opened_ns };
    // SAFETY: as above.
    header.seq = unsafe { (*state).seq };
    let _ = maps::CONNS.remove(&key);
    emit::bare(&header);
}

/// A connection with bytes to copy.
pub(super) struct Moving {
    pub(super) header: Header,
    state: *mut ConnState,
    turn_bytes: u64,
}

/// Looks up a connection for bytes that came in, and learns what it carries from the first of them.
#[inline(always)]
fn received(fd: i32, buffer: u64, result: i64) -> Option<Moving> {
    let key = key(fd);
    let mut state = maps::CONNS.get_ptr_mut(&key);
    let header = emit::header(Kind::Received);
    if result <= 0 {
        if state.is_some() && result != EAGAIN && result != EINTR {
            ended(fd, if result == 0 { closed::PEER } else { (-result) as i32 });
        }
        return None;
    }
    // SAFETY: a live map value.
    let known = state.map_or(carries::UNKNOWN, |state| unsafe { (*state).carries });
    let mut carried = known;
    if known == carries::UNKNOWN {
        carried = first_bytes(buffer, result as u64, state.is_some());
        if carried == carries::UNKNOWN {
            ended(fd, closed::LOCAL);
            return None;
        }
        match state {
            // SAFETY: a live map value.
            Some(state) => unsafe { (*state).carries = carried },
            None => {
                if maps::CONNS.insert(&key, &fresh(&header, carried), 0).is_err() {
                    maps::count(count::MAP_FULL, 1);
                    return None;
                }
                state = maps::CONNS.get_ptr_mut(&key);
            }
        }
    }
    if carried == carries::TLS {
        let _ = maps::LAST_READ.insert(&bpf_get_current_pid_tgid(), &fd, 0);
        return None;
    }
    Moving::new(header, fd, state?)
}

/// Looks up a connection for bytes that went out.
#[inline(always)]
fn sent(fd: i32, result: i64) -> Option<Moving> {
    let state = maps::CONNS.get_ptr_mut(&key(fd))?;
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
    // Cut short, an accepted connection's first word may still become a method.
    if method(u64::from_le_bytes(bytes)) || (accepted && n < 8 && bytes[0].is_ascii_uppercase()) {
        carries::PLAIN
    } else {
        carries::UNKNOWN
    }
}

/// Whether eight bytes begin with an HTTP method and a space, or with the HTTP/2 preface.
#[inline(always)]
fn method(bytes: u64) -> bool {
    const fn starts(word: &[u8]) -> (u64, u64) {
        let mut value = 0;
        let mut mask = 0;
        let mut i = 0;
        while i < word.len() {
            value |= (word[i] as u64) << (8 * i);
            mask |= 0xff << (8 * i);
            i += 1;
        }
        (value, mask)
    }
    const POST: (u64, u64) = starts(b"POST ");
    const GET: (u64, u64) = starts(b"GET ");
    const HEAD: (u64, u64) = starts(b"HEAD ");
    const PUT: (u64, u64) = starts(b"PUT ");
    const PATCH: (u64, u64) = starts(b"PATCH ");
    const DELETE: (u64, u64) = starts(b"DELETE ");
    const OPTIONS: (u64, u64) = starts(b"OPTIONS ");
    const CONNECT: (u64, u64) = starts(b"CONNECT ");
    const PREFACE: (u64, u64) = starts(b"PRI * ");
    bytes & POST.1 == POST.0
        || bytes & GET.1 == GET.0
        || bytes & HEAD.1 == HEAD.0
        || bytes & PUT.1 == PUT.0
        || bytes & PATCH.1 == PATCH.0
        || bytes & DELETE.1 == DELETE.0
        || bytes & OPTIONS.1 == OPTIONS.0
        || bytes & CONNECT.1 == CONNECT.0
        || bytes & PREFACE.1 == PREFACE.0
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
        let turn_bytes = if state_ref.turn_bytes < cap { cap - state_ref.turn_bytes } else { 0 };
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
        if u64::from(total) > self.turn_bytes && !end {
            maps::count(count::TRUNCATED, u64::from(total) - self.turn_bytes);
            self.turn_bytes as u32
        } else {
            total
        }
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
