//! Metric names by engine.
