//! Tachograph: kernel bytes in; one record per inference request, metrics and spans out.
//!
//! Rooms in reading order, which is the order in which data flows:
//!
//! ```text
//! discover ──Change──▶ attach ──Attached──▶ ring ═▶ stream ═▶ request ──Update──▶ correlate ──Arc<Snapshot>──▶ export, ui ──▶ serve
//!   (task)              (task)             └──── one thread, plain calls ────┘      ▲    ▲        └──Finished──▶ otlp
//!                                                               gpu::Sample ────────┘    └── engine::Sample, cluster::State
//! ```
//!
//! What is absent, and tested to be so:
//! - `stream`, `request` and `correlate` do no I/O, read no clock and know no exporter: a tape replays them.
//! - Nothing blocks the ring thread; what a full channel drops is counted where it happens.
//! - Readers see the snapshot only; reading changes nothing.
//! - `0` is measured. What is unknown is `None`, and JSON gives the reason beside the null.

pub mod clock;
pub mod ident;
pub mod sys;
pub mod vitals;

pub mod attach;
pub mod cluster;
pub mod correlate;
pub mod discover;
pub mod engine;
pub mod export;
pub mod gpu;
pub mod request;
pub mod ring;
pub mod serve;
pub mod stream;
pub mod ui;

pub mod check;
pub mod config;
pub mod kit;
pub mod run;
