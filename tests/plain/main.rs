//! Suites that need neither root nor an engine.

mod gpu;
