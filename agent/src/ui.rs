//! The snapshot in, JSON out.

pub mod api;
pub mod gpus;
pub mod record;
