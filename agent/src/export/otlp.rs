//! Finished requests and snapshots in, OTLP out.
