//! A map with a bound: entries in; when it is full, one entry out for one in, the idle and old first.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::Hash;

/// How many entries are looked at for an idle one.
const LOOK: usize = 64;

/// A map of at most so many entries, in rough order of insertion.
#[derive(Debug)]
pub struct Table<K, V> {
    bound: usize,
    entries: HashMap<K, V>,
    /// Every key in `entries`, and keys that have left.
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash + Ord, V> Table<K, V> {
    /// An empty table; a bound of 0 is taken for 1.
    pub fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), entries: HashMap::new(), order: VecDeque::new() }
    }

    /// The entry of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    /// Takes every entry out whose key fits, in the order of the keys.
    pub fn remove_where(&mut self, fits: impl Fn(&K) -> bool) -> Vec<V> {
        let mut gone: Vec<(K, V)> = self.entries.extract_if(|key, _| fits(key)).collect();
        gone.sort_unstable_by_key(|(key, _)| *key);
        gone.into_iter().map(|(_, value)| value).collect()
    }

    /// Puts an entry in, and the entry out that had to make room for it.
    pub fn insert(&mut self, key: K, value: V, idle: impl Fn(&V) -> bool) -> Option<V> {
        let full = self.entries.len() >= self.bound && !self.entries.contains_key(&key);
        let evicted = if full { self.evict(idle) } else { None };
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > 2 * self.bound.max(LOOK) {
            self.tidy();
        }
        evicted
    }

    fn evict(&mut self, idle: impl Fn(&V) -> bool) -> Option<V> {
        let mut first = None;
        for _ in 0..LOOK {
            let Some(key) = self.next_in_order() else { break };
            if self.entries.get(&key).is_some_and(&idle) {
                return self.entries.remove(&key);
            }
            self.order.push_back(key);
            if first == Some(key) {
                break;
            }
            first = first.or(Some(key));
        }
        let key = first?;
        self.entries.remove(&key)
    }

    fn next_in_order(&mut self) -> Option<K> {
        while let Some(key) = self.order.pop_front() {
            if self.entries.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }

    /// Forgets keys that have left, and all but the first mention of the others.
    fn tidy(&mut self) {
        let mut seen = HashSet::with_capacity(self.entries.len());
        let entries = &self.entries;
        self.order.retain(|key| entries.contains_key(key) && seen.insert(*key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_go_first_then_the_oldest() {
        let mut table = Table::new(3);
        for (key, busy) in [(1, true), (2, false), (3, true)] {
            assert_eq!(table.insert(key, busy, |busy| !busy), None);
        }
        assert_eq!(table.insert(4, true, |busy| !busy), Some(false));
        assert!(table.get_mut(&2).is_none() && table.get_mut(&4).is_some());
        assert_eq!(table.insert(5, true, |busy| !busy), Some(true));
        assert_eq!(table.entries.len(), 3);
    }

    #[test]
    fn neither_entries_nor_their_order_outgrow_the_bound() {
        let mut table = Table::new(8);
        for key in 0..10_000_u32 {
            table.insert(key % 1_000, (), |()| true);
            table.remove(&(key % 7));
            assert!(table.entries.len() <= 8 && table.order.len() <= 2 * LOOK);
        }
    }

    #[test]
    fn what_leaves_together_leaves_in_order() {
        let mut table = Table::new(10);
        for key in [5, 3, 9, 1] {
            table.insert(key, key, |_| true);
        }
        assert_eq!(table.remove_where(|key| *key > 2), [3, 5, 9]);
        assert_eq!(table.get_mut(&1), Some(&mut 1));
    }
}
