//! The operating system, where no library covers it: numbers in, numbers out. The crate's only unsafe.

#![expect(unsafe_code, reason = "the one room that calls libc")]

use std::os::fd::AsRawFd as _;

pub mod bpf;

/// The two clocks that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockId {
    /// Does not jump; the clock of every probe.
    Monotonic,
    /// Unix time.
    Realtime,
}

/// Nanoseconds of a clock, from clock_gettime(2).
pub fn clock_ns(clock: ClockId) -> u64 {
    let id = match clock {
        ClockId::Monotonic => libc::CLOCK_MONOTONIC,
        ClockId::Realtime => libc::CLOCK_REALTIME,
    };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    unsafe {
        libc::clock_gettime(id, &raw mut time);
    }
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The effective user id, from geteuid(2).
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Moves this thread, and no other, into the network namespace of a process, by setns(2).
///
/// # Errors
///
/// The process is gone, or this one lacks CAP_SYS_ADMIN.
pub fn enter_network(pid: u32) -> std::io::Result<()> {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    // SAFETY: the descriptor is open for the whole call, which keeps nothing of it.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if entered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
