//! Critical errors: counted by code, with the time last seen, also when their GPU is gone.

use crate::gpu::machine::Machine;
use crate::gpu::machine::TWO;
use crate::gpu::machine::two_with;
use std::collections::BTreeMap;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::MonoNs;
use tachograph::clock::System;
use tachograph::gpu::State;
use tachograph::gpu::Xid;
use tachograph::gpu::sampler::Session;

/// Codes of the second GPU, present or lost.
fn codes(state: State) -> BTreeMap<u64, Xid> {
    let State::Present { gpus, lost, .. } = state else { panic!("absent") };
    let present = gpus.into_iter().find(|gpu| gpu.uuid == "GPU-b").map(|gpu| gpu.more.xids);
    let lost = || lost.into_iter().find(|gpu| gpu.uuid.as_deref() == Some("GPU-b")).map(|gpu| gpu.xids);
    present.or_else(lost).map(|xids| (*xids).clone()).unwrap_or_default()
}

/// Steps until there are so many events.
fn until(session: &mut Session<'_>, count: u64) -> BTreeMap<u64, Xid> {
    let deadline = System.now().plus(Duration::from_mins(1));
    loop {
        let codes = codes(session.step(System.now()));
        if codes.values().map(|xid| xid.count).sum::<u64>() >= count || System.now() > deadline {
            return codes;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn counts(codes: &BTreeMap<u64, Xid>) -> Vec<(u64, u64)> {
    codes.iter().map(|(code, xid)| (*code, xid.count)).collect()
}

#[test]
fn a_repeat_shows_and_a_lost_gpu_keeps_its_errors() {
    let machine = Machine::new(TWO);
    let mut session = Session::new(&machine.config);
    assert_eq!(counts(&codes(session.step(System.now()))), []);
    machine.becomes(&format!("{TWO}xids = [31, 79]\n"));
    let first = until(&mut session, 2);
    assert_eq!(counts(&first), [(31, 1), (79, 1)]);
    machine.becomes(&format!("{TWO}xids = [31, 79, 31]\n"));
    let second = until(&mut session, 3);
    assert_eq!(counts(&second), [(31, 2), (79, 1)]);
    assert!(second[&31].last > first[&31].last && second[&79].last == first[&79].last);
    machine.becomes(&format!("{}xids = [31, 79, 31]\n", two_with("all = \"gpu_is_lost\"")));
    assert_eq!(codes(session.step(MonoNs(System.now().0 + 2_000_000_000))), second);
    drop(session);
}

/// A GPU whose events cannot be had does not cost those of the others.
#[test]
fn a_refused_registration_costs_that_gpu_only() {
    let first = TWO.replace("name = \"Stub H100\"", "answers = { register_events = \"unknown\" }\nxids = [13]");
    let machine = Machine::new(&format!("{first}xids = [31]\n"));
    let mut session = Session::new(&machine.config);
    assert_eq!(counts(&until(&mut session, 1)), [(31, 1)]);
    let State::Present { gpus, .. } = session.step(System.now()) else { panic!("absent") };
    assert!(gpus[0].more.xids.is_empty());
}
