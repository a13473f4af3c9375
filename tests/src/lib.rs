//! The harness: starts the stand-in engine, its load and the agent; holds the agent's records against the truth.
//!
//! ```text
//! gate ──▶ experiment ── standin (serve, load) ──▶ truth ──┐
//!                     └─ agent (run) ──▶ record ───────────┴─▶ compare ──▶ differences
//! ```
//!
//! Every instant of the truth is a bracket of clock readings around the call that makes it, and every instant
//! of a record is taken at the return of that call: so a right record lies inside, on a machine of any noise.

pub mod agent;
pub mod compare;
pub mod experiment;
pub mod gate;
pub mod guest;
pub mod http;
pub mod process;
pub mod python;
pub mod record;
pub mod scratch;
pub mod standin;
pub mod truth;
