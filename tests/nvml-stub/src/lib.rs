//! Test equipment: NVML's C functions in, a scenario file's answers out.
//!
//! It proves what a client of NVML makes of answers, refusals and silence. It proves nothing about sensors or drivers.
//! One file per area of NVML; each function says by which name the scenario can make it fail (see [`scenario`]).
#![expect(unsafe_code, reason = "it is a C library: exported symbols, and pointers that the caller hands over")]

mod abi;
mod device;
mod events;
mod fields;
mod gpm;
pub mod load;
mod memory;
mod mig;
mod numbers;
mod processes;
pub mod scenario;
mod session;
mod texts;
mod utilization;
