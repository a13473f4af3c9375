//! Process numbers as NVML tells them in; processes of this host out.
//!
//! Drivers give the host's number, or that of the process's own pid namespace. A number that fits several processes
//! belongs to the one that has a GPU open; where that does not settle it, it belongs to nobody.

use crate::ident::Pid;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A process and its numbers in each of its pid namespaces, the host's first.
pub type Chain = (Pid, Vec<u32>);

/// For each number told, the process that it must be.
pub fn resolve(told: &BTreeSet<u32>, chains: &[Chain], holds_gpu: impl Fn(Pid) -> bool) -> BTreeMap<u32, Pid> {
    let mut candidates: BTreeMap<u32, BTreeSet<Pid>> = BTreeMap::new();
    for (pid, numbers) in chains {
        for number in numbers.iter().chain([&pid.0]).filter(|number| told.contains(number)) {
            candidates.entry(*number).or_default().insert(*pid);
        }
    }
    let only = |pids: &mut dyn Iterator<Item = Pid>| match (pids.next(), pids.next()) {
        (Some(pid), None) => Some(pid),
        _ => None,
    };
    let settle = |(number, pids): (u32, BTreeSet<Pid>)| {
        let one = only(&mut pids.iter().copied());
        let pid = one.or_else(|| only(&mut pids.iter().copied().filter(|pid| holds_gpu(*pid))))?;
        Some((number, pid))
    };
    candidates.into_iter().filter_map(settle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains() -> Vec<Chain> {
        vec![(Pid(500), vec![500]), (Pid(900), vec![900, 7]), (Pid(901), vec![901, 500]), (Pid(902), vec![902, 7])]
    }

    fn resolved(told: &[u32], holders: &[u32]) -> Vec<(u32, u32)> {
        let told = told.iter().copied().collect();
        let pids = resolve(&told, &chains(), |pid| holders.contains(&pid.0));
        pids.into_iter().map(|(number, pid)| (number, pid.0)).collect()
    }

    #[test]
    fn a_number_of_one_process_needs_no_evidence() {
        assert_eq!(resolved(&[900, 901, 4], &[]), [(900, 900), (901, 901)]);
    }

    #[test]
    fn a_number_of_several_belongs_to_the_one_with_a_gpu() {
        assert_eq!(resolved(&[7, 500], &[900, 901]), [(7, 900), (500, 901)]);
        assert_eq!(resolved(&[7, 500], &[500]), [(500, 500)]);
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        assert_eq!(resolved(&[7], &[]), []);
        assert_eq!(resolved(&[7], &[900, 902]), []);
    }
}
