//! Pods as they come and go in, an immutable map of them out; those that were deleted stay in it for a while.

use crate::clock::MonoNs;
use crate::cluster::Identity;
use crate::cluster::Pod;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a deleted pod is known: the last of its requests may still be on their way.
pub const KEPT: Duration = Duration::from_mins(5);
/// Pods of one node that are held at most, and as many that were deleted. A kubelet runs 110 unless told otherwise.
pub const PODS: usize = 1_024;

/// The pods of a node, found by what a process tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    by_uid: BTreeMap<String, Arc<Pod>>,
    by_container: BTreeMap<String, (Arc<Pod>, usize)>,
    here: usize,
}

impl Pods {
    /// Who a process is, by the id of its container or else by that of its pod.
    pub fn find(&self, container: Option<&str>, pod: Option<&str>) -> Option<Identity> {
        if let Some((pod, nth)) = container.and_then(|id| self.by_container.get(id)) {
            return Some(Identity { pod: Arc::clone(pod), container: pod.containers.get(*nth).cloned() });
        }
        let pod = pod.and_then(|uid| self.by_uid.get(uid))?;
        Some(Identity { pod: Arc::clone(pod), container: None })
    }

    /// How many are here; not those that were deleted.
    pub fn here(&self) -> usize {
        self.here
    }

    /// What was deleted first, so that what is here counts where both claim an id.
    fn of(gone: impl Iterator<Item = Arc<Pod>>, here: impl Iterator<Item = Arc<Pod>>) -> Self {
        let mut pods = Self::default();
        gone.for_each(|pod| pods.add(&pod));
        here.for_each(|pod| {
            pods.add(&pod);
            pods.here += 1;
        });
        pods
    }

    fn add(&mut self, pod: &Arc<Pod>) {
        for uid in std::iter::once(&pod.uid).chain(&pod.mirror) {
            self.by_uid.insert(uid.clone(), Arc::clone(pod));
        }
        for (nth, container) in pod.containers.iter().enumerate() {
            for id in &container.ids {
                self.by_container.insert(id.clone(), (Arc::clone(pod), nth));
            }
        }
    }
}

/// The pods so far.
#[derive(Debug, Default)]
pub struct Store {
    here: BTreeMap<String, Arc<Pod>>,
    /// The one deleted first stands first.
    gone: VecDeque<(MonoNs, Arc<Pod>)>,
    evicted: u64,
}

impl Store {
    /// A pod is new, or has changed.
    pub fn put(&mut self, pod: Pod) {
        if self.here.len() >= PODS && !self.here.contains_key(&pod.uid) {
            self.evicted += 1;
            return;
        }
        self.gone.retain(|(_, gone)| gone.uid != pod.uid);
        self.here.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// A pod was deleted; `last` is how it was at the end.
    pub fn delete(&mut self, last: Pod, now: MonoNs) {
        if let Some(known) = self.here.remove(&last.uid) {
            // The last state of a pod may name no container any more.
            let pod = if last.containers.iter().all(|it| it.ids.is_empty()) { known } else { Arc::new(last) };
            self.bury(pod, now);
        }
    }

    /// These are all pods that there are.
    pub fn replace(&mut self, all: Vec<Pod>, now: MonoNs) {
        let mut before = std::mem::take(&mut self.here);
        for pod in all {
            before.remove(&pod.uid);
            self.put(pod);
        }
        for (_, pod) in before {
            self.bury(pod, now);
        }
    }

    fn bury(&mut self, pod: Arc<Pod>, now: MonoNs) {
        if self.gone.len() >= PODS {
            self.gone.pop_front();
            self.evicted += 1;
        }
        self.gone.push_back((now, pod));
    }

    /// Forgets what was deleted long ago; whether there was any.
    pub fn forget(&mut self, now: MonoNs) -> bool {
        let before = self.gone.len();
        self.gone.retain(|(at, _)| now < at.plus(KEPT));
        self.gone.len() < before
    }

    /// How many are here.
    pub fn here(&self) -> usize {
        self.here.len()
    }

    /// How many found no room since this was last asked.
    pub fn evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// The map of them.
    pub fn view(&self) -> Arc<Pods> {
        let gone = self.gone.iter().map(|(_, pod)| Arc::clone(pod));
        Arc::new(Pods::of(gone, self.here.values().map(Arc::clone)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Container;
    use crate::cluster::Image;

    const NOW: MonoNs = MonoNs(1_000);

    fn pod(uid: &str, ids: &[&str]) -> Pod {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Pod {
            uid: uid.to_owned(),
            name: format!("pod-{uid}"),
            namespace: "default".to_owned(),
            node: None,
            labels: BTreeMap::new(),
            owners: Vec::new(),
            member: None,
            containers: vec![Container { name: "main".to_owned(), ids, image: Image::default() }],
            mirror: None,
        }
    }

    fn name(store: &Store, container: &str, uid: &str) -> Option<(String, bool)> {
        let found = store.view().find(Some(container), Some(uid))?;
        Some((found.pod.name.clone(), found.container.is_some()))
    }

    #[test]
    fn a_container_wins_over_a_pod_and_a_pod_is_better_than_nothing() {
        let mut store = Store::default();
        store.replace(vec![pod("a", &["1", "0"]), pod("b", &[])], NOW);
        assert_eq!(name(&store, "1", "b"), Some(("pod-a".to_owned(), true)));
        assert_eq!(name(&store, "0", "x"), Some(("pod-a".to_owned(), true)), "the container before a restart");
        assert_eq!(name(&store, "9", "b"), Some(("pod-b".to_owned(), false)));
        assert_eq!(name(&store, "9", "x"), None);
    }

    #[test]
    fn a_static_pod_is_found_by_the_id_that_the_kubelet_gives_it() {
        let mut store = Store::default();
        store.put(Pod { mirror: Some("hash".to_owned()), ..pod("a", &[]) });
        assert_eq!(name(&store, "", "hash"), Some(("pod-a".to_owned(), false)));
    }

    #[test]
    fn a_deleted_pod_is_known_for_a_while() {
        let mut store = Store::default();
        store.replace(vec![pod("a", &["1"]), pod("b", &["2"])], NOW);
        store.delete(pod("a", &[]), NOW);
        store.replace(Vec::new(), NOW.plus(KEPT / 2));
        let known = |store: &mut Store, now| {
            store.forget(now);
            [("1", "a"), ("2", "b")].map(|(container, uid)| name(store, container, uid).is_some())
        };
        assert_eq!(store.view().here(), 0);
        assert_eq!(known(&mut store, NOW.plus(KEPT / 2)), [true, true]);
        assert_eq!(known(&mut store, NOW.plus(KEPT)), [false, true]);
        assert_eq!(known(&mut store, NOW.plus(KEPT * 2)), [false, false]);
    }

    #[test]
    fn a_pod_that_is_back_is_not_gone() {
        let mut store = Store::default();
        store.put(pod("a", &["1"]));
        store.delete(pod("a", &["1"]), NOW);
        store.put(pod("a", &["2"]));
        assert_eq!((name(&store, "1", ""), name(&store, "2", "")), (None, Some(("pod-a".to_owned(), true))));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut store = Store::default();
        let many = |from: usize| (from..from + PODS + 3).map(|n| pod(&n.to_string(), &[])).collect();
        store.replace(many(0), NOW);
        assert_eq!((store.view().here(), store.evicted()), (PODS, 3));
        store.replace(Vec::new(), NOW);
        store.replace(many(PODS * 2), NOW);
        store.replace(Vec::new(), NOW);
        assert_eq!((store.gone.len(), store.evicted()), (PODS, 3 + PODS as u64));
    }
}
