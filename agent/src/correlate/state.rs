//! What accumulates between snapshots.
