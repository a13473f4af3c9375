//! Suites that need neither root nor an engine.

#[cfg(test)]
mod apiserver;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod gpu;
