//! Probes and a way to attach several at once in, what is attached out: what is refused together is tried one by one,
//! so that one bad place costs no other.

use super::Outcome;
use super::plan::Probe;
use std::collections::BTreeMap;
use std::path::Path;

/// Attaches the probes of each program and file together.
pub(super) fn attach<L>(probes: &[Probe], mut together: impl FnMut(&[&Probe]) -> Result<L, String>) -> Outcome<'_, L> {
    let mut groups: BTreeMap<(&str, &Path), Vec<&Probe>> = BTreeMap::new();
    for probe in probes {
        groups.entry((probe.program, &probe.path)).or_default().push(probe);
    }
    let mut outcome = Outcome { links: Vec::new(), refused: Vec::new() };
    for group in groups.values() {
        match together(group) {
            Ok(link) => outcome.links.push(link),
            Err(why) if group.len() == 1 => outcome.refused.extend(group.first().map(|probe| (*probe, why))),
            Err(_) => {
                for probe in group {
                    match together(&[probe]) {
                        Ok(link) => outcome.links.push(link),
                        Err(why) => outcome.refused.push((probe, why)),
                    }
                }
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(program: &'static str, path: &str, file_offset: u64) -> Probe {
        Probe { program, function: "f", path: path.into(), object: path.to_owned(), file_offset, cookie: 0 }
    }

    #[test]
    fn a_place_that_is_refused_costs_no_other() {
        let probes = [("a", "x", 1), ("b", "x", 2), ("a", "x", 3), ("a", "y", 4), ("a", "x", 5)]
            .map(|(program, path, at)| probe(program, path, at));
        let offsets = |group: &[&Probe]| group.iter().map(|probe| probe.file_offset).collect::<Vec<_>>();
        let table: [(&[u64], &[&[u64]]); 4] = [
            (&[], &[&[1, 3, 5], &[4], &[2]]),
            (&[4], &[&[1, 3, 5], &[2]]),
            (&[3], &[&[1], &[5], &[4], &[2]]),
            (&[1, 2, 3, 4, 5], &[]),
        ];
        for (bad, links) in table {
            let outcome = attach(&probes, |group| {
                let group = offsets(group);
                if group.iter().any(|at| bad.contains(at)) { Err(format!("not {group:?}")) } else { Ok(group) }
            });
            let mut refused: Vec<_> =
                outcome.refused.iter().map(|(probe, why)| (probe.file_offset, why.as_str())).collect();
            refused.sort_unstable();
            assert_eq!(outcome.links, links, "{bad:?}");
            let expected: Vec<(u64, String)> = bad.iter().map(|at| (*at, format!("not [{at}]"))).collect();
            assert_eq!(refused, expected.iter().map(|(at, why)| (*at, why.as_str())).collect::<Vec<_>>());
        }
    }
}
