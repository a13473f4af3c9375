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
use aya_ebpf::helpers::generated::bpf_probe_read_user;

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
        _pad: [0; 2],
    }
}

#[inline(always)]
fn lost(header: &Header) {
    maps::count(count::LOST + header.kind as u32, 1);
    if maps::keeps_losses() {
        let fd_or_tid = if header.fd >= 0 { header.fd } else { header.tid as i32 };
        let key = Loss { pid: header.pid, fd_or_tid, opened_ns: header.opened_ns };
        match maps::LOSSES.get_ptr_mut(&key) {
            // SAFETY: a live map value; tests tolerate a race of two CPUs.
            Some(n) => unsafe { *n += 1 },
            None => {
                let _ = maps::LOSSES.insert(&key, &1, 0);
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
        maps::count(count::TRUNCATED, missing.into());
        header.seq = *seq;
        *seq += 1;
        header.len = 0;
        header.missing = missing;
        bare(header);
        header.offset += left;
    }
}
