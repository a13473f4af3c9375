//! Targets in, attached probes out.
