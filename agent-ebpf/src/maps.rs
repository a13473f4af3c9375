//! Every map of the kernel side.

use crate::emit::Cursor;
use agent_ebpf::event::Loss;
use agent_ebpf::limits;
use agent_ebpf::map::Call;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::LastRead;
use agent_ebpf::map::TargetState;
use agent_ebpf::map::TlsConn;
use agent_ebpf::map::TlsKey;
use agent_ebpf::map::ZmqThread;
use agent_ebpf::map::count;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::RingBuf;

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(count::LEN, 0);

#[map]
pub(crate) static TARGETS: HashMap<u32, TargetState> = HashMap::with_max_entries(limits::TARGETS, 0);

#[map]
pub(crate) static CONNS: HashMap<ConnKey, ConnState> = HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// Calls under way, by thread; those into the TLS library beside those to sockets.
#[map]
pub(crate) static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(limits::THREADS, 0);

/// Vectors being copied, by thread.
#[map]
pub(crate) static CURSORS: HashMap<u64, Cursor> = HashMap::with_max_entries(limits::THREADS, 0);

/// The TLS connection that a thread last read from, by thread.
#[map]
pub(crate) static LAST_READ: HashMap<u64, LastRead> = HashMap::with_max_entries(limits::THREADS, 0);

/// The connection behind a TLS session.
#[map]
pub(crate) static SESSIONS: HashMap<TlsKey, TlsConn> = HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// Engine threads, by thread.
#[map]
pub(crate) static ZMQ_THREADS: HashMap<u64, ZmqThread> = HashMap::with_max_entries(limits::THREADS, 0);

/// What was lost, by connection or engine thread; filled only when `KEEP_LOSSES` is set, which tests do.
#[map]
pub(crate) static LOSSES: HashMap<Loss, u64> = HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// Set at load: 1 keeps [`LOSSES`].
#[unsafe(no_mangle)]
static KEEP_LOSSES: u8 = 0;

/// Whether losses are kept one by one.
#[inline(always)]
pub(crate) fn keeps_losses() -> bool {
    // SAFETY: a global that the loader may overwrite before load, never after.
    unsafe { core::ptr::read_volatile(&raw const KEEP_LOSSES) != 0 }
}

/// Whether a process is traced: for what is not, nothing is kept.
#[inline(always)]
pub(crate) fn traced(pid: u32) -> bool {
    TARGETS.get_ptr(&pid).is_some()
}

/// Adds to one place of [`COUNTS`].
#[inline(always)]
pub(crate) fn count(place: u32, n: u64) {
    if let Some(value) = COUNTS.get_ptr_mut(place) {
        // SAFETY: a per-CPU slot; the pointer was checked.
        unsafe { *value += n };
    }
}
