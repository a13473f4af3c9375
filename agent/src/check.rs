//! Prerequisites in, one line each out.
