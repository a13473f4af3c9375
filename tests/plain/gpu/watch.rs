//! The real thread and the real watchdog.

use crate::gpu::machine::Machine;
use crate::gpu::machine::TWO;
use crate::gpu::machine::two_with;
use crate::gpu::machine::uuids;
use crate::gpu::machine::why;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tachograph::clock::System;
use tachograph::gpu::State;
use tachograph::gpu::nvml::Config;

/// A call that hangs becomes a reason, and its end becomes readings again.
#[test]
fn a_hanging_call_stalls_nobody() {
    let machine = Machine::new(TWO);
    let (states, seen) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sampling =
        tachograph::gpu::run(machine.config.clone(), Arc::new(System), move |state| drop(states.send(state)));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { () = sampling => {}, _ = ended => {} }
        });
    });
    let next = |wanted: fn(&State) -> bool| {
        std::iter::from_fn(|| seen.recv_timeout(Duration::from_mins(1)).ok()).find(wanted).expect("a state in time")
    };
    let present = |state: &State| matches!(state, State::Present { .. });
    let absent = |state: &State| matches!(state, State::Absent { .. });
    next(present);
    machine.becomes(&two_with("memory = \"hang\""));
    assert!(why(next(absent)).starts_with("NVML has not answered for "));
    machine.becomes(TWO);
    assert_eq!(uuids(next(present)).len(), 2);
    drop(end);
    running.join().unwrap();
}

#[test]
fn switched_off_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (states, seen) = mpsc::channel();
    let config = Config { enabled: false, ..Config::default() };
    runtime.block_on(tachograph::gpu::run(config, Arc::new(System), move |state| drop(states.send(state))));
    assert_eq!(why(seen.recv().unwrap()), "GPU sampling is switched off");
}
