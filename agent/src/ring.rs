//! Kernel bytes in, [`Event`]s out: what the probes saw, in the order in which they saw it.

pub mod tape;

use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::Pid;

/// Which way bytes moved, seen from the traced process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The process received them.
    In,
    /// The process sent them.
    Out,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// A read returned 0: the peer sent its end.
    Peer,
    /// A read or write failed for good.
    Error {
        /// The positive errno.
        errno: i32,
    },
    /// The process closed or shut down its descriptor.
    Local,
    /// The descriptor was handed out again, so it had been closed unseen.
    Replaced,
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// It made a child.
    Forked,
    /// It became another program.
    Execed,
    /// Its last thread left.
    Exited,
    /// Its dynamic loader mapped or unmapped libraries.
    Loaded,
}

/// One thing a probe saw. `at` is always the instant at which the call returned, but for engine
/// frames and TLS writes where it is the instant named at the probe (`agent-ebpf/src/probes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A connection was accepted.
    Opened {
        /// The new connection.
        conn: Conn,
        /// When accept returned.
        at: MonoNs,
    },
    /// A piece of what one call moved, in stream order.
    Data {
        /// The connection.
        conn: Conn,
        /// Which way.
        way: Way,
        /// When the call returned; the same for all pieces of one call.
        at: MonoNs,
        /// The bytes.
        bytes: &'a [u8],
        /// Bytes that follow `bytes` in the stream and were not copied (a cap, a fault, a level).
        missing: u32,
    },
    /// A write was refused or cut short because the peer reads slowly.
    Blocked {
        /// The connection.
        conn: Conn,
        /// When the call returned.
        at: MonoNs,
    },
    /// A connection ended.
    Closed {
        /// The connection.
        conn: Conn,
        /// When it was seen to end.
        at: MonoNs,
        /// How.
        how: Close,
    },
    /// Records of this connection were lost just before the event that follows.
    Lost {
        /// The connection.
        conn: Conn,
        /// When the gap was noticed: the instant of the record after it.
        at: MonoNs,
        /// How many.
        records: u32,
    },
    /// Records of connections were lost, perhaps all of some connection.
    ConnectionsLost {
        /// When it was noticed.
        at: MonoNs,
    },
    /// A piece of one ZeroMQ frame of an engine core.
    Frame {
        /// The engine core process.
        engine: Pid,
        /// The thread; one thread sends, another receives, each in order.
        tid: u32,
        /// `In` for what the front end asks, `Out` for what the engine answers.
        way: Way,
        /// When the probe fired; the same for all pieces of one frame.
        at: MonoNs,
        /// The piece.
        bytes: &'a [u8],
        /// Where in the frame it starts.
        offset: u32,
        /// Bytes of the whole frame; pieces end where a cap ends them.
        total: u32,
        /// Whether the sender announced another frame of the same message.
        more: bool,
    },
    /// Frame records of this engine thread were lost just before the event that follows.
    FramesLost {
        /// The engine core process.
        engine: Pid,
        /// The thread.
        tid: u32,
        /// When the gap was noticed.
        at: MonoNs,
        /// How many records.
        records: u32,
    },
    /// A process changed.
    Process {
        /// The process.
        pid: Pid,
        /// When.
        at: MonoNs,
        /// What happened.
        change: ProcessChange,
    },
}

impl Event<'_> {
    /// When it happened, or was noticed.
    pub const fn at(&self) -> MonoNs {
        match *self {
            Self::Opened { at, .. }
            | Self::Data { at, .. }
            | Self::Blocked { at, .. }
            | Self::Closed { at, .. }
            | Self::Lost { at, .. }
            | Self::ConnectionsLost { at }
            | Self::Frame { at, .. }
            | Self::FramesLost { at, .. }
            | Self::Process { at, .. } => at,
        }
    }
}

pub mod decode;
pub mod read;
