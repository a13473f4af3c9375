//! The snapshot and finished requests in, metrics and spans out.

pub mod catalog;
pub mod collect;
pub mod openmetrics;
pub mod otlp;
pub mod prometheus;
