//! Suites that need neither root nor an engine.

#[cfg(test)]
mod engine;
#[cfg(test)]
mod gpu;
