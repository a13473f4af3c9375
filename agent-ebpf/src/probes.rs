//! One file per kind of thing that is hooked; each names the prototypes and the versions seen.

mod empty;
mod sched;
mod socket;
mod tls;
mod zmq;
