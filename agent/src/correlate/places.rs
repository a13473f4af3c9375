//! Where processes run in, kept by pid until it is needed for their requests and for the processes of GPUs.
//!
//! What is kept of a process that has left does no harm, for whoever has its pid next is told of before it is traced;
//! and its last requests still need it.

use crate::discover::cgroup::Place;
use crate::ident::Pid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Processes that are held at most.
const PLACES_MAX: usize = 4_096;

/// The places of processes.
#[derive(Debug, Default)]
pub struct Places {
    /// Copied on write: a snapshot that is still read keeps the old one.
    known: Arc<BTreeMap<Pid, Arc<Place>>>,
}

impl Places {
    /// A process runs there, as is now known. Where there is no room, those leave who are not `needed`.
    pub fn set(&mut self, pid: Pid, place: Place, needed: impl Fn(Pid) -> bool) {
        if self.known.get(&pid).is_some_and(|known| **known == place) {
            return;
        }
        let known = Arc::make_mut(&mut self.known);
        if known.len() >= PLACES_MAX {
            known.retain(|pid, _| needed(*pid));
        }
        if place.is_unknown() || known.len() >= PLACES_MAX {
            known.remove(&pid);
        } else {
            known.insert(pid, Arc::new(place));
        }
    }

    /// Where a process runs; unknown where nothing was told.
    pub fn of(&self, pid: Pid) -> Arc<Place> {
        self.known.get(&pid).map(Arc::clone).unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> Arc<BTreeMap<Pid, Arc<Place>>> {
        Arc::clone(&self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> Place {
        Place { unit: Some(name.to_owned()), ..Place::default() }
    }

    #[test]
    fn a_pid_that_is_used_again_has_the_new_place() {
        let mut places = Places::default();
        places.set(Pid(7), unit("a.service"), |_| true);
        places.set(Pid(7), unit("b.service"), |_| true);
        assert_eq!((places.of(Pid(7)), places.of(Pid(8))), (Arc::new(unit("b.service")), Arc::default()));
        places.set(Pid(7), Place::default(), |_| true);
        assert!(places.all().is_empty());
    }

    #[test]
    fn however_many_come_and_go_few_are_kept_and_the_needed_stay() {
        let mut places = Places::default();
        for pid in 0..10_000 {
            places.set(Pid(pid), unit("a.service"), |pid| pid.0 < 5);
        }
        assert!(places.all().len() <= PLACES_MAX);
        assert_eq!(
            (places.of(Pid(4)), places.of(Pid(9_999))),
            (Arc::new(unit("a.service")), Arc::new(unit("a.service")))
        );
    }
}
