//! The snapshot and finished requests in, metrics and spans out.
