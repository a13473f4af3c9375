//! Injected causes and found ones in; the matrix of both out, and whether it is good enough.

use anyhow::Result;
use anyhow::ensure;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

/// What stands for no cause.
pub const NONE: &str = "none";
/// Requests that missed an objective without an injected trouble, since the machine was busy: what they suffered from
/// is not known, so they are shown and not held against any cause.
pub const BY_ITSELF: &str = "missed by itself";
/// The share of them above which a run says nothing.
const NOISE: f64 = 0.1;
/// Affected requests of each cause at least.
const ENOUGH: u32 = 100;
/// Of them, the share that must get their cause.
const RIGHT: f64 = 0.95;
/// Of all others, the share that must not reach it.
const WRONG: f64 = 0.01;

/// How many requests of which cause got which.
#[derive(Debug, Clone, Default)]
pub struct Confusion {
    rows: BTreeMap<&'static str, BTreeMap<String, u32>>,
}

impl Confusion {
    /// One request.
    pub fn count(&mut self, injected: Option<&'static str>, found: Option<&str>) {
        let row = self.rows.entry(injected.unwrap_or(NONE)).or_default();
        *row.entry(found.unwrap_or(NONE).to_owned()).or_default() += 1;
    }

    /// All of another one too.
    pub fn add(&mut self, other: &Self) {
        for (injected, row) in &other.rows {
            for (found, count) in row {
                *self.rows.entry(injected).or_default().entry(found.clone()).or_default() += count;
            }
        }
    }

    /// One request of which it is known what it suffered from, if anything, and whether it missed an objective.
    pub fn judge(&mut self, injected: Option<&'static str>, missed: bool, found: Option<&str>) {
        let row = if missed { Some(injected.unwrap_or(BY_ITSELF)) } else { None };
        self.count(row, found);
    }

    /// The injected causes that were seen often enough, found where they were and nowhere else.
    ///
    /// # Errors
    /// The first that was not.
    pub fn verify(&self, causes: &[&'static str]) -> Result<()> {
        let sum = |row: &BTreeMap<String, u32>| row.values().sum::<u32>();
        let (noise, all) = (self.rows.get(BY_ITSELF).map_or(0, sum), self.rows.values().map(sum).sum::<u32>());
        ensure!(f64::from(noise) <= NOISE * f64::from(all), "the machine was too busy\n{self}");
        for cause in causes {
            let of = |row: &BTreeMap<String, u32>| row.get(*cause).copied().unwrap_or(0);
            let row = self.rows.get(cause).cloned().unwrap_or_default();
            let (all, right): (u32, u32) = (row.values().sum(), of(&row));
            ensure!(all >= ENOUGH, "{cause}: {all} affected requests are too few\n{self}");
            ensure!(f64::from(right) >= RIGHT * f64::from(all), "{cause}: {right} right of {all}\n{self}");
            let others = self
                .rows
                .iter()
                .filter(|(injected, _)| *injected != cause && **injected != BY_ITSELF)
                .map(|(_, row)| row);
            let (all, wrong) =
                others.fold((0, 0), |(all, wrong), row| (all + row.values().sum::<u32>(), wrong + of(row)));
            ensure!(f64::from(wrong) < WRONG * f64::from(all), "{cause}: given to {wrong} of {all} others\n{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: BTreeSet<&str> = self.rows.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        write!(f, "{:>20}", "injected \\ found")?;
        for column in &columns {
            write!(f, " {column:>18}")?;
        }
        for (injected, row) in &self.rows {
            write!(f, "\n{injected:>20}")?;
            for column in &columns {
                write!(f, " {:>18}", row.get(*column).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(Option<&'static str>, Option<&str>, u32)]) -> Confusion {
        let mut confusion = Confusion::default();
        for (injected, found, count) in counts {
            (0..*count).for_each(|_| confusion.count(*injected, *found));
        }
        confusion
    }

    #[test]
    fn a_matrix_is_good_when_causes_are_found_where_they_were_and_only_there() {
        let (queue, error) = (Some("queue"), Some("error"));
        for (counts, good) in [
            (vec![(queue, queue, 95), (queue, None, 5), (None, None, 101), (None, queue, 1)], true),
            (vec![(queue, queue, 94), (queue, None, 6), (None, None, 200)], false),
            (vec![(queue, queue, 99), (None, None, 200)], false),
            (vec![(queue, queue, 100), (None, None, 99), (error, queue, 1)], false),
            (vec![(queue, queue, 100), (None, None, 99), (Some(BY_ITSELF), queue, 5)], true),
            (vec![(queue, queue, 100), (None, None, 99), (Some(BY_ITSELF), None, 50)], false),
        ] {
            assert_eq!(of(&counts).verify(&["queue"]).is_ok(), good, "{counts:?}");
        }
    }
}
