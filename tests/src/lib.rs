//! The harness: starts the stand-in engine, its load and the agent; holds the agent's records against the truth.
//!
//! ```text
//! gate ──▶ experiment ── standin (serve, load) ──▶ truth ──┐
//!                     └─ agent (run) ──▶ record ───────────┼─▶ compare ──▶ differences
//!       absence: an agent that comes late, or again        └─▶ account ──▶ right, marked or missing
//! ```
//!
//! A trial injects troubles and holds the causes that the agent gives against them, in a confusion matrix.
//!
//! An experiment has one stand-in, which is there before the agent; on a `stage` the agent is there first, and
//! stand-ins come and go.
//!
//! Every instant of the truth is a bracket of clock readings around the call that makes it, and every instant
//! of a record is taken at the return of that call: so a right record lies inside, on a machine of any noise.

pub mod absence;
pub mod account;
pub mod agent;
pub mod apiserver;
pub mod churn;
pub mod collector;
pub mod compare;
pub mod confusion;
pub mod container;
pub mod energy;
pub mod experiment;
pub mod gate;
pub mod guest;
pub mod held;
pub mod http;
pub mod losses;
pub mod machine;
pub mod nvml;
pub mod process;
pub mod python;
pub mod record;
pub mod scratch;
pub mod stage;
pub mod standin;
pub mod trial;
pub mod truth;
