//! Who could be whose in, who must be whose out.
//!
//! Only what is forced is joined: an engine request that one exchange alone can have asked for, or an
//! exchange that must have been served and that one engine request alone can have served. Each such pair
//! frees the others from a rival, until nothing more is forced.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// One thing to be assigned: the engine requests of one prompt, or all of one response.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The engine requests.
    pub(super) lives: Vec<u64>,
    /// The exchanges that can have asked for it.
    pub(super) takers: BTreeSet<u64>,
    /// Whether an exchange that could have asked for it is no longer here.
    pub(super) disputed: bool,
}

/// The taker of each group that is forced, by the group's place in `groups`. `served` are the exchanges
/// that must have got a group.
pub(super) fn forced(groups: &[Group], served: &BTreeSet<u64>) -> BTreeMap<usize, u64> {
    let mut open: BTreeMap<usize, BTreeSet<u64>> =
        groups.iter().enumerate().map(|(place, group)| (place, group.takers.clone())).collect();
    let mut taken = BTreeMap::new();
    loop {
        let mut pairs = only_taker(groups, &open);
        if pairs.is_empty() {
            pairs = only_group(&open, served);
        }
        if pairs.is_empty() {
            return taken;
        }
        for (place, taker) in pairs {
            open.remove(&place);
            for takers in open.values_mut() {
                takers.remove(&taker);
            }
            taken.insert(place, taker);
        }
    }
}

/// Groups with one taker. Two groups that only one exchange could have asked for show that another's
/// exchange was never seen: neither is forced.
fn only_taker(groups: &[Group], open: &BTreeMap<usize, BTreeSet<u64>>) -> Vec<(usize, u64)> {
    let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (place, takers) in open {
        if let (1, Some(taker)) = (takers.len(), takers.first()) {
            wanted.entry(*taker).or_default().push(*place);
        }
    }
    let single = wanted.into_iter().filter_map(|(taker, places)| match places.as_slice() {
        [place] => Some((*place, taker)),
        _ => None,
    });
    single.filter(|(place, _)| groups.get(*place).is_some_and(|group| !group.disputed)).collect()
}

/// Exchanges that were served and have one group left.
fn only_group(open: &BTreeMap<usize, BTreeSet<u64>>, served: &BTreeSet<u64>) -> Vec<(usize, u64)> {
    let mut pairs: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for taker in served {
        let mut places = open.iter().filter(|(_, takers)| takers.contains(taker)).map(|(place, _)| *place);
        if let (Some(place), None) = (places.next(), places.next()) {
            pairs.entry(place).or_default().push(*taker);
        }
    }
    pairs
        .into_iter()
        .filter_map(|(place, takers)| match takers.as_slice() {
            [taker] => Some((place, *taker)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solve(groups: &[&[u64]], served: &[u64]) -> Vec<(usize, u64)> {
        let groups: Vec<Group> = groups
            .iter()
            .map(|takers| Group { takers: takers.iter().copied().collect(), ..Group::default() })
            .collect();
        forced(&groups, &served.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn only_what_is_forced_is_joined() {
        assert_eq!(solve(&[&[1]], &[]), [(0, 1)]);
        assert_eq!(solve(&[&[1, 2], &[1, 2]], &[]), [], "either way round");
        assert_eq!(solve(&[&[1], &[1, 2], &[1, 2, 3]], &[]), [(0, 1), (1, 2), (2, 3)], "each frees the next");
        assert_eq!(solve(&[&[1, 2]], &[2]), [(0, 2)], "one of them was served");
        assert_eq!(solve(&[&[1, 2]], &[1, 2]), [], "both were, and one engine request is missing");
        assert_eq!(solve(&[&[1], &[1]], &[]), [], "somebody was not seen");
        assert_eq!(solve(&[&[], &[3]], &[]), [(1, 3)]);
    }

    #[test]
    fn a_disputed_group_is_never_given_to_the_last_one_left() {
        let groups = [Group { takers: [1].into(), disputed: true, ..Group::default() }];
        assert!(forced(&groups, &BTreeSet::new()).is_empty());
        assert_eq!(forced(&groups, &[1].into()).len(), 1, "but to one that was served and has no other");
    }
}
