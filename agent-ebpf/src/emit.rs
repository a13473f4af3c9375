//! A header and user memory in, ring records out; each loss counted where it happens.

use crate::maps;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use agent_ebpf::event::Loss;
use agent_ebpf::limits;
use agent_ebpf::map::count;
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::bpf_probe_read_user as safe_read_user;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ffi::c_void;

#[repr(C)]
struct Record<const CAP: usize> {
    header: Header,
    payload: [u8; CAP],
}

/// A header for what the current thread does now.
#[inline(always)]
pub(crate) fn header(kind: Kind) -> Header {
    let thread = bpf_get_current_pid_tgid();
    Header {
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_ns() },
        opened_ns: 0,
        pid: (thread >> 32) as u32,
        tid: thread as u32,
        fd: -1,
        seq: 0,
        offset: 0,
        len: 0,
        total: 0,
        missing: 0,
        result: 0,
        kind,
        flags: 0,
        pad: [0; 2],
    }
}

#[inline(always)]
fn lost(header: &Header) {
    maps::count(count::LOST + header.kind as u32, 1);
    if maps::keeps_losses() {
        let fd_or_tid = if header.fd >= 0 { header.fd } else { header.tid.cast_signed() };
        let key = Loss { pid: header.pid, fd_or_tid, opened_ns: header.opened_ns };
        match maps::LOSSES.get_ptr_mut(&key) {
            // SAFETY: a live map value; tests tolerate a race of two CPUs.
            Some(n) => unsafe { *n += 1 },
            None => {
                let _full = maps::LOSSES.insert(&key, &1, 0);
            }
        }
    }
}

/// One record without payload.
#[inline(always)]
pub(crate) fn bare(header: &Header) {
    let Some(mut entry) = maps::EVENTS.reserve::<Header>(0) else { return lost(header) };
    entry.write(*header);
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// Whether there was room for a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Found,
    Lost,
}

/// A length below `CAP`. The mask is for the verifier; the volatile read keeps the compiler from
/// knowing it needless.
#[inline(always)]
fn below<const CAP: usize>(len: u32) -> u32 {
    // SAFETY: a reference is a valid pointer.
    unsafe { core::ptr::read_volatile(&raw const len) & (CAP as u32 - 1) }
}

/// One record with `len` bytes from user memory, at most `CAP`.
///
/// Without a branch on the copy's outcome: in a loop the verifier would follow each combination.
#[inline(always)]
fn piece<const CAP: usize>(header: &mut Header, from: u64, len: u32) -> Room {
    let Some(mut entry) = maps::EVENTS.reserve::<Record<CAP>>(0) else { return Room::Lost };
    let record = entry.as_mut_ptr();
    // SAFETY: the payload has CAP bytes and `len` is at most that; the helper checks the user address.
    let outcome = unsafe { bpf_probe_read_user((&raw mut (*record).payload).cast(), len, from as *const _) };
    let failed = (outcome >> 63) as u32;
    header.len = len & !failed;
    header.missing = len & failed;
    // SAFETY: the record is ours until it is submitted.
    unsafe { (&raw mut (*record).header).write(*header) };
    entry.submit(BPF_RB_NO_WAKEUP.into());
    Room::Found
}

/// `len` bytes at `from` in numbered pieces, at most `most` large ones; `header.offset` moves on.
///
/// `beyond` more bytes of the call are known not to be copied at all; a record of its own says so. Where
/// there is no room the rest is given up: the missing number tells.
#[inline(always)]
pub(crate) fn pieces(header: &mut Header, seq: &mut u32, from: u64, len: u32, beyond: u32, most: u32) {
    const SMALL: u32 = limits::SMALL as u32;
    const MEDIUM: u32 = limits::MEDIUM as u32;
    const LARGE: u32 = limits::LARGE as u32;
    let mut at = from;
    let mut left = len;
    let mut room = Room::Found;
    for _ in 0..most {
        if left < LARGE || room == Room::Lost {
            break;
        }
        header.seq = *seq;
        *seq += 1;
        room = piece::<{ limits::LARGE }>(header, at, LARGE);
        left -= LARGE;
        header.offset += LARGE;
        at += u64::from(LARGE);
    }
    if room == Room::Found && left > 0 && left < LARGE {
        header.seq = *seq;
        *seq += 1;
        room = if left < SMALL {
            piece::<{ limits::SMALL }>(header, at, below::<{ limits::SMALL }>(left))
        } else if left < MEDIUM {
            piece::<{ limits::MEDIUM }>(header, at, below::<{ limits::MEDIUM }>(left))
        } else {
            piece::<{ limits::LARGE }>(header, at, below::<{ limits::LARGE }>(left))
        };
        header.offset += left;
        left = 0;
    }
    if room == Room::Lost {
        return lost(header);
    }
    let missing = left + beyond;
    if missing > 0 {
        cut(header, seq, missing);
    }
}

/// Says that `missing` more bytes of the call are not copied.
#[inline(always)]
pub(crate) fn cut(header: &mut Header, seq: &mut u32, missing: u32) {
    maps::count(count::TRUNCATED, missing.into());
    header.seq = *seq;
    *seq += 1;
    header.len = 0;
    header.missing = missing;
    bare(header);
}

/// A place in the elements of a vector (`struct iovec`), and what is to be copied from there on.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Cursor {
    pub(crate) header: Header,
    pub(crate) seq: u32,
    /// Bytes still to copy, over all elements.
    pub(crate) left: u32,
    /// The next element.
    pub(crate) next: u64,
    /// Elements after those that were looked at.
    pub(crate) elements: u64,
    /// Where the present element goes on.
    pub(crate) from: u64,
    /// Bytes that the present element still has.
    pub(crate) element_left: u64,
}

/// Copies what the elements hold, as far as `left` goes; gives the next number back.
///
/// The cursor lies in a map: there the verifier knows nothing of its values, so that one turn of the
/// loop looks to it like any other. `bpf_loop` came with 5.17: an older kernel refuses the program that
/// calls this, and keeps the others.
#[inline(always)]
pub(crate) fn vector(cursor: &Cursor) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let seq = cursor.seq;
    if maps::CURSORS.insert(&thread, cursor, 0).is_err() {
        maps::count(count::MAP_FULL, 1);
        lost(&cursor.header);
        return seq + 1;
    }
    // SAFETY: the callback has the shape that the helper asks for, and needs no context.
    unsafe { bpf_loop(limits::VECTOR_STEPS, step as *mut _, core::ptr::null_mut(), 0) };
    let Some(cursor) = maps::CURSORS.get_ptr_mut(&thread) else { return seq };
    // SAFETY: a live map value, used by this very thread.
    let cursor = unsafe { &mut *cursor };
    if cursor.left > 0 {
        let left = cursor.left;
        let mut seq = cursor.seq;
        cut(&mut cursor.header, &mut seq, left);
        cursor.seq = seq;
    }
    let seq = cursor.seq;
    let _gone = maps::CURSORS.remove(&thread);
    seq
}

/// One element looked up, or one piece copied; 1 ends the loop.
extern "C" fn step(_index: u32, _context: *mut c_void) -> i64 {
    const SMALL: u32 = limits::SMALL as u32;
    const MEDIUM: u32 = limits::MEDIUM as u32;
    const LARGE: u32 = limits::LARGE as u32;
    let Some(cursor) = maps::CURSORS.get_ptr_mut(&bpf_get_current_pid_tgid()) else { return 1 };
    // SAFETY: a live map value, used by this very thread.
    let cursor = unsafe { &mut *cursor };
    if cursor.left == 0 {
        return 1;
    }
    if cursor.element_left == 0 {
        if cursor.elements == 0 {
            return 1;
        }
        // SAFETY: the helper checks the user address.
        cursor.from = unsafe { safe_read_user(cursor.next as *const u64) }.unwrap_or(0);
        // SAFETY: as above.
        cursor.element_left = unsafe { safe_read_user((cursor.next + 8) as *const u64) }.unwrap_or(0);
        cursor.next += 16;
        cursor.elements -= 1;
        return 0;
    }
    let left = if cursor.element_left > u64::from(cursor.left) { cursor.left } else { cursor.element_left as u32 };
    let mut header = cursor.header;
    header.seq = cursor.seq;
    cursor.seq += 1;
    let (room, len) = if left < SMALL {
        (piece::<{ limits::SMALL }>(&mut header, cursor.from, below::<{ limits::SMALL }>(left)), left)
    } else if left < MEDIUM {
        (piece::<{ limits::MEDIUM }>(&mut header, cursor.from, below::<{ limits::MEDIUM }>(left)), left)
    } else if left < LARGE {
        (piece::<{ limits::LARGE }>(&mut header, cursor.from, below::<{ limits::LARGE }>(left)), left)
    } else {
        (piece::<{ limits::LARGE }>(&mut header, cursor.from, LARGE), LARGE)
    };
    if room == Room::Lost {
        lost(&header);
        cursor.left = 0;
        return 1;
    }
    cursor.header.offset += len;
    cursor.from += u64::from(len);
    cursor.element_left -= u64::from(len);
    cursor.left -= len;
    0
}
