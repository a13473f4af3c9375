//! Exposition text in, samples out.
