//! The words that both sides of the ring speak: records, maps and limits. No code that runs.

#![no_std]

#[cfg(all(feature = "bpf", feature = "user"))]
compile_error!("one face at a time: `bpf` builds the programs, `user` serves the agent");

pub mod event;
pub mod limits;
pub mod map;
