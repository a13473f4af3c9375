//! Changes in, what is asked of the kernel and announced out, in order.

use super::*;
use crate::discover::cgroup::Place;
use std::sync::Arc;
use std::sync::Mutex;

type Log = Arc<Mutex<Vec<String>>>;

fn say(log: &Log, words: impl Into<String>) {
    log.lock().unwrap().push(words.into());
}

/// Says when it is let go of.
struct Link(Log);

impl Drop for Link {
    fn drop(&mut self) {
        say(&self.0, "detach");
    }
}

struct Fake(Log);

impl Kernel for Fake {
    type Link = Link;

    fn follow(&mut self, pid: u32, _: TargetState) -> Result<(), String> {
        say(&self.0, format!("follow {pid}"));
        Ok(())
    }

    fn unfollow(&mut self, pid: u32) {
        say(&self.0, format!("unfollow {pid}"));
    }

    fn free(&mut self, pid: u32) {
        say(&self.0, format!("free {pid}"));
    }

    fn attach<'a>(&mut self, _: u32, probes: &'a [Probe]) -> Outcome<'a, Link> {
        say(&self.0, "attach");
        Outcome { links: probes.iter().map(|_| Link(Arc::clone(&self.0))).collect(), refused: Vec::new() }
    }
}

/// A target with this test's own loader, which has one place for a probe.
fn target(pid: u32, start_ticks: u64, role: Role) -> Target {
    let process = ProcessId { pid: Pid(pid), start_ticks };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let loader = maps.split_whitespace().find(|word| word.contains("/ld-")).unwrap();
    let file = File { kind: ObjectKind::Loader, path: loader.into(), name: loader.to_owned(), file: FileId::default() };
    Target {
        process,
        engine: EngineId(process),
        kind: EngineKind::Vllm,
        role,
        objects: BTreeSet::from([file]),
        closes: Closes::ByClose,
        place: Place::default(),
        late: false,
    }
}

/// What the changes make of an empty [`Attach`]; equal words in a row are given once.
fn told(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    let log = Log::default();
    let mut attach = Attach::new(Fake(Arc::clone(&log)), TargetState { in_bytes: 1, out_bytes: 1 });
    for change in changes {
        attach.apply(change, &Vitals::default(), &mut |attached| match attached {
            Attached::Follows { process, .. } => say(&log, format!("new {} of {}", process.pid, process.start_ticks)),
            Attached::Left(pid) => say(&log, format!("left {pid}")),
        });
    }
    let mut told = log.lock().unwrap().clone();
    told.dedup();
    told
}

#[test]
fn a_process_is_new_once_whatever_it_has_mapped() {
    let whole = target(7, 1, Role::Core);
    let bare = Target { objects: BTreeSet::new(), ..whole.clone() };
    let said = told([bare.clone(), bare, whole].map(Change::Appeared));
    assert_eq!(said, ["new 7 of 1", "follow 7", "attach", "follow 7"]);
}

#[test]
fn what_lives_on_is_not_copied_then_not_probed_then_freed() {
    let said = told([Change::Appeared(target(7, 1, Role::Core)), Change::Dropped(Pid(7))]);
    assert_eq!(said, ["attach", "new 7 of 1", "follow 7", "unfollow 7", "detach", "left 7", "free 7"]);
}

#[test]
fn a_new_role_waits_for_the_probes_of_the_old_one() {
    let said = told([target(7, 1, Role::Frontend), target(7, 1, Role::Core)].map(Change::Appeared));
    let left = ["unfollow 7", "detach", "left 7", "free 7"];
    assert_eq!(
        said,
        [&["attach", "new 7 of 1", "follow 7"][..], &left, &["attach", "new 7 of 1", "follow 7"]].concat()
    );
}

#[test]
fn whoever_has_the_id_next_does_not_wait_for_the_probes_of_the_last() {
    let mut said = told([target(7, 1, Role::Core), target(7, 2, Role::Core)].map(Change::Appeared));
    said.retain(|words| words != "detach");
    let left = ["unfollow 7", "left 7", "free 7"];
    assert_eq!(
        said,
        [&["attach", "new 7 of 1", "follow 7"][..], &left, &["attach", "new 7 of 2", "follow 7"]].concat()
    );
}
