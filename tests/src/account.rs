//! Records of an agent that missed something in; how each request stands in them out. A record may lack what
//! was lost, but it must say so: one that does not must be right.

use crate::compare::differences;
use crate::record::Record;
use crate::truth::Truth;
use anyhow::Result;
use anyhow::bail;
use std::collections::BTreeMap;

const SHOWN: usize = 8;

/// How a request stands in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// One record, and it is right.
    Right,
    /// One record or more, and each says that it is incomplete.
    Marked,
    /// No record.
    Missing,
}

/// A request and what there is of it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What was true.
    pub truth: &'a Truth,
    /// Its records.
    pub records: Vec<&'a Record>,
    /// How it stands.
    pub standing: Standing,
}

/// Every request with its records.
///
/// # Errors
/// A record that is wrong and does not say that it is incomplete, or has a second beside it.
pub fn account<'a>(records: &'a [Record], truths: &'a [Truth]) -> Result<Vec<Entry<'a>>> {
    let names = Names::of(truths);
    let mut found: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in records {
        match names.find(record) {
            Some(place) => found.entry(place).or_default().push(record),
            None if record.incomplete.is_none() => wrong.push(format!("a record of no request: {record:?}")),
            None => {}
        }
    }
    let mut entries = Vec::new();
    for (place, truth) in truths.iter().enumerate() {
        let records = found.remove(&place).unwrap_or_default();
        let standing = match records.as_slice() {
            [] => Standing::Missing,
            all if all.iter().all(|record| record.incomplete.is_some()) => Standing::Marked,
            [record] => {
                let lines = differences(record, truth);
                wrong.extend(lines.iter().map(|line| format!("{:?}: {line}", truth.temperature)));
                Standing::Right
            }
            several => {
                let marks = several.iter().map(|record| (&record.join, &record.incomplete)).collect::<Vec<_>>();
                wrong.push(format!("{:?}: {marks:?}", truth.temperature));
                Standing::Right
            }
        };
        entries.push(Entry { truth, records, standing });
    }
    if wrong.is_empty() {
        return Ok(entries);
    }
    let shown = wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    bail!("{} wrong and not marked:\n{shown}", wrong.len())
}

/// What requests are known by: their hidden identity, their engine requests, their response.
struct Names<'a> {
    temperatures: BTreeMap<u64, usize>,
    texts: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn of(truths: &'a [Truth]) -> Self {
        let mut names = Self { temperatures: BTreeMap::new(), texts: BTreeMap::new() };
        for (place, truth) in truths.iter().enumerate() {
            names.temperatures.extend(truth.temperature.map(|temperature| (temperature.to_bits(), place)));
            names.texts.extend(truth.engine.iter().map(|engine| (engine.id.as_str(), place)));
            names.texts.extend(truth.response_id.as_deref().map(|id| (id, place)));
        }
        names
    }

    fn find(&self, record: &Record) -> Option<usize> {
        let identity = record.params.temperature.and_then(|it| self.temperatures.get(&it.to_bits()));
        let engine = record.engine_requests.iter().find_map(|engine| self.texts.get(engine.id.as_str()));
        let response = record.response_id.as_deref().and_then(|id| self.texts.get(id));
        identity.or(engine).or(response).copied()
    }
}
