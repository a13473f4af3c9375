//! What lies in the ring: one [`Header`], then `len` bytes of payload; anything after that is noise.

use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;
use zerocopy::TryFromBytes;

/// What a record is about. Zero was never written by a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u8)]
pub enum Kind {
    /// A connection was accepted.
    Opened = 1,
    /// Bytes the process received on a connection.
    Received = 2,
    /// Bytes the process sent on a connection.
    Sent = 3,
    /// A send was refused or cut short.
    Blocked = 4,
    /// A connection ended; `result` says how, see [`closed`].
    Closed = 5,
    /// A ZeroMQ frame that an engine core received.
    FrameIn = 6,
    /// A ZeroMQ frame that an engine core sent.
    FrameOut = 7,
    /// A traced process made a child or a thread.
    Forked = 8,
    /// A process became another program.
    Execed = 9,
    /// A traced process left.
    Exited = 10,
    /// A traced process's loader changed its libraries.
    Loaded = 11,
}

/// Numbers of kinds, for tables indexed by kind.
pub const KINDS: u32 = 12;

/// `result` of a [`Kind::Closed`] record; a positive value is an errno.
pub mod closed {
    /// A read returned 0.
    pub const PEER: i32 = 0;
    /// close(2) or shutdown(2) by the process.
    pub const LOCAL: i32 = -1;
    /// accept(2) gave the descriptor out again.
    pub const REPLACED: i32 = -2;
}

/// Bits of `flags`.
pub mod flags {
    /// Another frame of the same message follows.
    pub const MORE: u8 = 1;
}

/// Head of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// CLOCK_MONOTONIC nanoseconds at the probe; the same for all pieces of one call.
    pub at_ns: u64,
    /// When the connection was first seen; 0 where there is none.
    pub opened_ns: u64,
    /// The process (thread group) as the host numbers it.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The connection's descriptor; -1 where there is none.
    pub fd: i32,
    /// Position in its connection, or in its engine thread and direction; taken before there was room.
    pub seq: u32,
    /// Where in what the call moved this piece starts.
    pub offset: u32,
    /// Payload bytes in this record.
    pub len: u32,
    /// Bytes that the call moved.
    pub total: u32,
    /// Bytes after this piece that no later piece of the call carries: a cap or a fault.
    pub missing: u32,
    /// See [`closed`].
    pub result: i32,
    /// What it is about.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<Header>() == 56);

/// A loss, kept by connection or engine thread where a test asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Loss {
    /// The process.
    pub pid: u32,
    /// The connection's descriptor, or the engine thread.
    pub fd_or_tid: i32,
    /// When the connection was first seen; 0 for engine threads.
    pub opened_ns: u64,
}
