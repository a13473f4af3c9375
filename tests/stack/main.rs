//! Programs of other people against the agent and its kit: Prometheus, an OTLP receiver, another server.

#![expect(clippy::indexing_slicing, reason = "JSON that lacks a key gives null, which the tests then do not accept")]
#![expect(clippy::float_cmp, reason = "counts and copied values are exact, or wrong")]

mod caller;
mod evaluated;
mod gated;
mod kit;
mod llama;
mod otlp;
mod outage;
mod programs;
mod prometheus;
mod stored;
