//! A bounded GET of an engine's metrics.
