//! Every bound of the kernel side, each with one home.

/// Payload of the smallest record: an SSE event of one token fits.
pub const SMALL: usize = 512;
/// Payload of the middle record: a request head, an engine step of a small batch.
pub const MEDIUM: usize = 4096;
/// Payload of the largest record; what is longer is cut into pieces of this size.
pub const LARGE: usize = 32_768;
/// Pieces of one contiguous buffer: 4 MiB.
pub const PIECES: u32 = 128;
/// Elements looked up and pieces copied of one vector: 1,024 elements and some 16 MiB.
pub const VECTOR_STEPS: u32 = 2_048;
/// Bytes of the ring when nothing else is asked for.
pub const RING_BYTES: u32 = 16 * 1024 * 1024;
/// Connections followed at a time.
pub const CONNECTIONS: u32 = 65_536;
/// Processes traced at a time.
pub const TARGETS: u32 = 4_096;
/// Threads inside a probed call, and engine threads, at a time.
pub const THREADS: u32 = 16_384;
/// Frames shorter than this are notifications between an engine and its workers.
pub const FRAME_OUT_MIN: u64 = 8;
/// A write shorter than this is copied whatever the response has used up: it may be its end.
pub const SHORT: u32 = 64;
