//! The GPU side against the stub NVML: what is read, what is unknown, and what a failing NVML becomes.

mod events;
mod faults;
mod life;
mod load;
mod machine;
mod namespace;
mod table;
mod watch;
