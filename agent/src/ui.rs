//! The snapshot in, JSON out.

pub mod api;
pub mod record;
