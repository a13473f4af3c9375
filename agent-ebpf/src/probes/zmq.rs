//! An engine core's ZeroMQ frames, both ways.
//!
//! Out: `int zmq_msg_send(zmq_msg_t *, void *socket, int flags)` at its entry. In: after
//! `int zmq_msg_recv(zmq_msg_t *, void *socket, int flags)` the thread asks for each frame's bytes by
//! `void *zmq_msg_data(zmq_msg_t *)`, more than once; the first time since the last receive counts.
//! `zmq_msg_t` has 64 bytes: type at 42, size and data by type. Seen in libzmq 4.3.5.

use crate::emit;
use crate::maps;
use crate::regs;
use agent_ebpf::event::Kind;
use agent_ebpf::event::flags;
use agent_ebpf::limits;
use agent_ebpf::map::ZmqThread;
use agent_ebpf::map::count;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

const SNDMORE: u64 = 2;
const TYPE_SMALL: u8 = 101;
const TYPE_LARGE: u8 = 102;
const TYPE_CONSTANT: u8 = 104;
const TYPE_RECEIVED: u8 = 105;

#[uprobe]
pub(crate) fn zmq_send(ctx: ProbeContext) -> u32 {
    maps::count(count::HITS_ENGINE, 1);
    let args = regs::args(&ctx);
    let Some((data, size)) = contents(args.a) else { return 0 };
    if size < limits::FRAME_OUT_MIN {
        return 0;
    }
    let Some(thread) = thread() else { return 0 };
    let mut header = emit::header(Kind::FrameOut);
    if args.c & SNDMORE != 0 {
        header.flags = flags::MORE;
    }
    header.total = size as u32;
    // SAFETY: a live map value, used by this very thread.
    let mut seq = unsafe { (*thread).seq_out };
    emit::pieces(&mut header, &mut seq, data, size as u32, 0, limits::PIECES);
    // SAFETY: as above.
    unsafe { (*thread).seq_out = seq };
    0
}

#[uprobe]
pub(crate) fn zmq_recv(_ctx: ProbeContext) -> u32 {
    maps::count(count::HITS_ENGINE, 1);
    if let Some(thread) = thread() {
        // SAFETY: a live map value, used by this very thread.
        let thread = unsafe { &mut *thread };
        thread.receives = 1;
        thread.reported = 0;
    }
    0
}

#[uprobe]
pub(crate) fn zmq_data(ctx: ProbeContext) -> u32 {
    maps::count(count::HITS_ENGINE, 1);
    let Some(thread) = maps::ZMQ_THREADS.get_ptr_mut(&bpf_get_current_pid_tgid()) else { return 0 };
    let message = regs::args(&ctx).a;
    // SAFETY: a live map value, used by this very thread.
    let thread = unsafe { &mut *thread };
    if thread.receives == 0 || thread.reported == message {
        return 0;
    }
    let Some((data, size)) = contents(message) else { return 0 };
    if size == 0 {
        return 0;
    }
    thread.reported = message;
    let mut header = emit::header(Kind::FrameIn);
    header.total = size as u32;
    let mut seq = thread.seq_in;
    emit::pieces(&mut header, &mut seq, data, size as u32, 0, limits::PIECES);
    thread.seq_in = seq;
    0
}

#[inline(always)]
fn thread() -> Option<*mut ZmqThread> {
    let id = bpf_get_current_pid_tgid();
    if let Some(thread) = maps::ZMQ_THREADS.get_ptr_mut(&id) {
        return Some(thread);
    }
    if !maps::traced((id >> 32) as u32) {
        return None;
    }
    let new = ZmqThread { reported: 0, seq_out: 0, seq_in: 0, receives: 0, pad: 0 };
    if maps::ZMQ_THREADS.insert(&id, &new, 0).is_err() {
        maps::count(count::MAP_FULL, 1);
    }
    maps::ZMQ_THREADS.get_ptr_mut(&id)
}

/// Where a message's bytes are and how many.
#[inline(always)]
fn contents(message: u64) -> Option<(u64, u64)> {
    // SAFETY: the helper checks the user address.
    let kind = unsafe { bpf_probe_read_user((message + 42) as *const u8) }.ok()?;
    match kind {
        TYPE_SMALL => {
            // SAFETY: as above.
            let size = unsafe { bpf_probe_read_user((message + 41) as *const u8) }.ok()?;
            Some((message + 8, size.into()))
        }
        TYPE_LARGE | TYPE_RECEIVED => {
            // SAFETY: as above.
            let content = unsafe { bpf_probe_read_user((message + 8) as *const u64) }.ok()?;
            pair(content)
        }
        TYPE_CONSTANT => pair(message + 8),
        _ => None,
    }
}

#[inline(always)]
fn pair(at: u64) -> Option<(u64, u64)> {
    // SAFETY: the helper checks the user address.
    let data = unsafe { bpf_probe_read_user(at as *const u64) }.ok()?;
    // SAFETY: as above.
    let size = unsafe { bpf_probe_read_user((at + 8) as *const u64) }.ok()?;
    Some((data, size))
}
