//! The snapshot in, JSON out.
