//! Keys and values of the maps, and what an attachment's cookie says.

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ConnKey {
    /// The process.
    pub pid: u32,
    /// The descriptor.
    pub fd: i32,
}

/// What a connection turned out to carry.
pub mod carries {
    /// Nothing was read yet.
    pub const UNKNOWN: u32 = 0;
    /// Plain HTTP/1 as far as the first bytes tell.
    pub const PLAIN: u32 = 1;
    /// TLS: its plaintext comes from the TLS library's probes.
    pub const TLS: u32 = 2;
    /// Nothing more: the process shut it down, and what it still reads it throws away.
    pub const OVER: u32 = 3;
}

/// A connection that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ConnState {
    /// When it was first seen, CLOCK_MONOTONIC nanoseconds.
    pub opened_ns: u64,
    /// Bytes copied since the direction last changed.
    pub turn_bytes: u64,
    /// The next record's number.
    pub seq: u32,
    /// See [`carries`].
    pub carries: u32,
    /// The direction of the last copy: 0 none, else the kind's number.
    pub turn: u32,
    /// Zero.
    pub pad: u32,
}

/// How a process is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TargetState {
    /// Bytes copied of what it receives before it answers.
    pub in_bytes: u64,
    /// Bytes copied of what it sends before it is spoken to again; short writes, which end a response,
    /// are copied even so.
    pub out_bytes: u64,
}

/// Set in the thread's key of a call into the TLS library: it may hold a socket call inside it.
pub const TLS_CALL: u64 = 1 << 63;

/// The process of a thread's key.
pub const fn pid_of_thread(thread: u64) -> u32 {
    ((thread & !TLS_CALL) >> 32) as u32
}

/// The thread of a thread's key.
pub const fn tid_of_thread(thread: u64) -> u32 {
    (thread & 0xffff_ffff) as u32
}

/// The arguments of a call between its entry and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
    /// First argument.
    pub a: u64,
    /// Second argument.
    pub b: u64,
    /// Third argument.
    pub c: u64,
    /// Fourth argument.
    pub d: u64,
    /// When it was entered, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
}

/// The TLS connection that a thread last read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct LastRead {
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// Its descriptor.
    pub fd: i32,
    /// Zero.
    pub pad: u32,
}

/// Which TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TlsKey {
    /// `SSL *`, unique in its process while it lives.
    pub ssl: u64,
    /// The process.
    pub pid: u32,
    /// Zero.
    pub pad: u32,
}

/// The connection behind a TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct TlsConn {
    /// The connection's opening; another one means that the session's address was used again.
    pub opened_ns: u64,
    /// Its descriptor.
    pub fd: i32,
    /// Zero.
    pub pad: u32,
}

/// An engine thread that uses ZeroMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ZmqThread {
    /// The message last reported since the last receive.
    pub reported: u64,
    /// The next outgoing record's number.
    pub seq_out: u32,
    /// The next incoming record's number.
    pub seq_in: u32,
    /// 1 once the thread has received.
    pub receives: u32,
    /// Zero.
    pub pad: u32,
}

/// The function that an attachment hooks: the low byte of its cookie.
pub mod op {
    /// read(2).
    pub const READ: u64 = 1;
    /// recv(2), recvfrom(2): flags in the fourth argument.
    pub const RECV: u64 = 2;
    /// readv(2).
    pub const READV: u64 = 3;
    /// recvmsg(2): flags in the third argument.
    pub const RECVMSG: u64 = 4;
    /// write(2), send(2), sendto(2).
    pub const WRITE: u64 = 5;
    /// writev(2).
    pub const WRITEV: u64 = 6;
    /// sendmsg(2).
    pub const SENDMSG: u64 = 7;
    /// accept(2), accept4(2).
    pub const ACCEPT: u64 = 8;
    /// shutdown(2).
    pub const SHUTDOWN: u64 = 9;
    /// close(2).
    pub const CLOSE: u64 = 10;
    /// syscall(2) of libc: only close is looked at.
    pub const SYSCALL: u64 = 11;
    /// `SSL_read_ex`, and `SSL_read` whose result is the length.
    pub const TLS_READ_EX: u64 = 20;
    /// `SSL_read`.
    pub const TLS_READ: u64 = 21;
    /// `SSL_write_ex`.
    pub const TLS_WRITE_EX: u64 = 22;
    /// `SSL_write`.
    pub const TLS_WRITE: u64 = 23;
    /// `SSL_free`.
    pub const TLS_FREE: u64 = 24;
    /// `SSL_do_handshake`.
    pub const TLS_HANDSHAKE: u64 = 25;
    /// `SSL_get_error`.
    pub const TLS_ERROR: u64 = 26;
    /// `SSL_shutdown`.
    pub const TLS_SHUTDOWN: u64 = 27;
}

/// Where in the function an attachment sits: the second byte of its cookie.
pub mod site {
    /// Its first instruction: arguments, no result.
    pub const ENTRY: u64 = 1;
    /// The instruction after `syscall`: arguments and result.
    pub const AFTER_SYSCALL: u64 = 2;
    /// A `ret`: the result; the arguments come from the entry.
    pub const RETURN: u64 = 3;
    /// A jump out of the function with the raw result as first argument (musl).
    pub const TAIL_JUMP: u64 = 4;
    /// Its first instruction alone: nobody asks for its result.
    pub const ENTRY_ONLY: u64 = 5;
}

/// The cookie of an attachment.
pub const fn cookie(op: u64, site: u64) -> u64 {
    op | site << 8
}

/// Places in the array of counts.
pub mod count {
    /// Records lost, by kind: this plus the kind's number.
    pub const LOST: u32 = 0;
    /// Failed inserts into a map.
    pub const MAP_FULL: u32 = 16;
    /// Bytes not copied because of a cap or a fault.
    pub const TRUNCATED: u32 = 17;
    /// Hits of the probes on sockets and TLS.
    pub const HITS_WIRE: u32 = 18;
    /// Hits of the probes on ZeroMQ.
    pub const HITS_ENGINE: u32 = 19;
    /// Places in all.
    pub const LEN: u32 = 32;
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya asks for a promise about layout")]
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for crate::event::Loss {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::ConnKey {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::ConnState {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::TargetState {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::Call {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::LastRead {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::TlsKey {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::TlsConn {}
    // SAFETY: repr(C), integers only, no padding.
    unsafe impl aya::Pod for super::ZmqThread {}
}
