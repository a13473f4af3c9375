//! Records and truths in; what differs out. Every instant must lie in its bracket, every engine mark be exact.

use crate::record::EngineRecord;
use crate::record::Record;
use crate::truth::Bracket;
use crate::truth::End;
use crate::truth::EngineTruth;
use crate::truth::Truth;
use anyhow::Result;
use anyhow::bail;
use serde::Serialize;
use std::collections::BTreeMap;

/// The engine writes float seconds; both sides round them to nanoseconds.
const ROUNDING_NS: u64 = 1;
const SHOWN: usize = 8;

/// What came of holding all records against all truths.
#[derive(Debug, Default)]
pub struct Report {
    /// Records that are right.
    pub right: usize,
    /// Records that say of themselves that they could not tell their engine requests.
    pub ambiguous: usize,
    /// What is wrong, a line each.
    pub wrong: Vec<String>,
}

impl Report {
    /// An error that shows the first wrong lines, if there are any.
    pub fn verify(&self) -> Result<()> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        let shown = self.wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
        bail!("{} right, {} differences:\n{shown}", self.right, self.wrong.len());
    }
}

/// Holds each record against the truth with its hidden identity; one record each, none too many.
pub fn hold(records: &[Record], truths: &[Truth]) -> Report {
    let mut report = Report::default();
    let mut by_identity: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_identity.entry(identity(record.params.temperature, record.x_request_id.as_ref())).or_default().push(record);
    }
    for truth in truths {
        let name = identity(truth.temperature, truth.x_request_id.as_ref());
        match by_identity.remove(&name).as_deref() {
            Some([record]) => {
                let differences = differences(record, truth);
                report.ambiguous += usize::from(record.join == "ambiguous");
                report.right += usize::from(differences.is_empty());
                report.wrong.extend(differences.iter().map(|difference| format!("{name}: {difference}")));
            }
            Some(several) => report.wrong.push(format!("{name}: {} records of one request", several.len())),
            None => report.wrong.push(format!("{name}: no record")),
        }
    }
    report.wrong.extend(by_identity.keys().map(|name| format!("{name}: a record of no request")));
    report
}

fn identity(temperature: Option<f64>, x_request_id: Option<&String>) -> String {
    match temperature {
        Some(temperature) => format!("temperature {temperature}"),
        None => format!("X-Request-Id {}", x_request_id.map_or("", String::as_str)),
    }
}

/// What differs between a record and the truth, a line each.
pub fn differences(record: &Record, truth: &Truth) -> Vec<String> {
    let mut notes = Notes::default();
    response(&mut notes, record, truth);
    tokens(&mut notes, record, truth);
    wire(&mut notes, record, truth);
    phases(&mut notes, record, truth);
    if record.join == "ambiguous" {
        notes.equal("engine requests of an ambiguous record", &record.engine_requests.len(), &0);
    } else {
        engine(&mut notes, record, truth);
    }
    notes.0
}

fn response(notes: &mut Notes, record: &Record, truth: &Truth) {
    notes.equal("incomplete", &record.incomplete, &None);
    notes.equal("status", &record.status.as_u64(), &truth.status.map(u64::from));
    notes.equal("x_request_id", &record.x_request_id, &truth.x_request_id);
    let failed = truth.error || truth.status.is_some_and(|status| status >= 400);
    match truth.end {
        End::ClientGone => notes.equal("error_type", &record.error_type.as_deref(), &Some("client_disconnect")),
        End::ServerClosed => notes.equal("error_type is given", &record.error_type.is_some(), &true),
        End::Complete => notes.equal("error_type is given", &record.error_type.is_some(), &failed),
    }
    if truth.end == End::Complete && !failed {
        notes.equal("response_id", &record.response_id, &truth.response_id);
        notes.equal("stream", &record.stream, &truth.stream);
        notes.equal("finish_reasons", &record.finish_reasons, &truth.finish_reasons);
    }
}

fn tokens(notes: &mut Notes, record: &Record, truth: &Truth) {
    // What is not claimed from the engine leaves tokens unknown where the response did not tell them.
    if !reached(truth) || (record.join == "ambiguous" && record.output_tokens.is_none()) {
        return;
    }
    let made = truth.engine.iter().filter_map(|engine| engine.engine_tokens).sum();
    let written = truth.output_tokens.unwrap_or(0);
    // A write that crossed the client's leaving reached nobody, or did: it may count or not.
    let crossing: u64 = truth.engine.iter().filter_map(|one| one.taken.last()).map(|(_, tokens)| *tokens).sum();
    let delivered = if truth.end == End::ClientGone { written.saturating_sub(crossing) } else { written };
    notes.between("engine_tokens", record.engine_tokens, delivered, made);
    if truth.end == End::Complete && !truth.error {
        notes.equal("input_tokens", &record.input_tokens, &truth.input_tokens);
        // The engine says with its first output how many it found.
        let told = truth.engine.iter().any(|one| !one.steps.is_empty());
        notes.equal("cached_tokens", &record.cached_tokens, &truth.cached_tokens.filter(|_| told));
        notes.equal("output_tokens", &record.output_tokens, &truth.output_tokens);
    } else {
        notes.between("output_tokens", record.output_tokens, delivered, made);
    }
}

fn wire(notes: &mut Notes, record: &Record, truth: &Truth) {
    let (got, want) = (&record.instants, &truth.instants);
    notes.inside("accepted", got.accepted, Some(want.accepted));
    notes.inside("received", got.received, want.received);
    notes.inside("first_byte", got.first_byte, want.first_byte);
    notes.inside("first_content", got.first_content, want.first_content);
    notes.inside("finished", got.finished, Some(want.finished));
    if let (Some(seconds), Some(waited)) = (record.blocked_seconds, truth.waited) {
        notes.equal("blocked no longer than bytes waited", &((seconds * 1e9).round() <= waited as f64), &true);
    }
}

fn phases(notes: &mut Notes, record: &Record, truth: &Truth) {
    let known: Vec<f64> = record.phases.all().into_iter().flatten().collect();
    notes.equal("phases below zero", &known.iter().filter(|seconds| **seconds < 0.0).count(), &0);
    let whole = known.len() == record.phases.all().len();
    let engine_known = truth.engine.iter().all(|one| one.queued.is_some() && one.first_output().is_some());
    if truth.end == End::Complete && !truth.error && reached(truth) && engine_known && record.join != "ambiguous" {
        notes.equal("all phases are known", &whole, &true);
    }
    let (Some(duration), true) = (record.duration_seconds, whole) else { return };
    // Float seconds hold nanoseconds exactly enough for durations of this size.
    let off = ((known.iter().sum::<f64>() - duration) * 1e9).abs();
    notes.equal("phases sum to the duration", &(off < 0.5), &true);
    if let (Some(accepted), Some(finished)) = (record.instants.accepted, record.instants.finished) {
        let off = (finished as f64 - accepted as f64 - duration * 1e9).abs();
        notes.equal("duration is finished less accepted", &(off < 0.5), &true);
    }
}

fn engine(notes: &mut Notes, record: &Record, truth: &Truth) {
    let joined = matches!(record.join.as_str(), "id" | "x_request_id" | "elimination");
    notes.equal("joined", &joined, &reached(truth));
    let mut records: BTreeMap<&str, &EngineRecord> = BTreeMap::new();
    for one in &record.engine_requests {
        records.insert(&one.id, one);
    }
    for one in truth.engine.iter().filter(|one| one.added.is_some()) {
        match records.remove(one.id.as_str()) {
            Some(record) => engine_request(notes, record, one, truth),
            None => notes.0.push(format!("{}: no engine request", one.id)),
        }
    }
    notes.0.extend(records.keys().map(|id| format!("{id}: an engine request of another")));
    let first = truth.engine.iter().filter_map(EngineTruth::first_output).min();
    notes.exact("first_output", record.instants.first_output, first);
    if truth.end == End::Complete && !truth.error {
        let last = truth.engine.iter().filter_map(EngineTruth::last_output).max();
        notes.exact("last_output", record.instants.last_output, last);
    } else {
        let steps: Vec<(u64, u64)> = truth.engine.iter().flat_map(|one| &one.steps).copied().collect();
        notes.among("last_output", record.instants.last_output, &steps);
    }
}

fn engine_request(notes: &mut Notes, record: &EngineRecord, truth: &EngineTruth, whole: &Truth) {
    let own = &record.instants;
    let name = |field: &str| format!("{} {field}", truth.id);
    notes.equal(&name("external_id"), &record.external_id.as_deref(), &Some(truth.external_id.as_str()));
    notes.inside(&name("added"), own.added, truth.added);
    if own.aborted.is_some() && truth.aborted.is_some() {
        notes.inside(&name("aborted"), own.aborted, truth.aborted);
    }
    // The marks ride on the first output: without one they are not known.
    let told = !truth.steps.is_empty();
    notes.exact(&name("queued"), own.queued, truth.queued.filter(|_| told));
    notes.exact(&name("scheduled"), own.scheduled, truth.scheduled.filter(|_| told));
    notes.exact(&name("first_output"), own.first_output, truth.first_output());
    if whole.end == End::Complete && !whole.error {
        notes.exact(&name("last_output"), own.last_output, truth.last_output());
    } else {
        notes.among(&name("last_output"), own.last_output, &truth.steps);
    }
}

fn reached(truth: &Truth) -> bool {
    truth.engine.iter().any(|one| one.added.is_some())
}

/// Differences, a line each.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn equal<T: PartialEq + Serialize>(&mut self, what: &str, got: &T, want: &T) {
        if got != want {
            self.0.push(format!("{what}: {} instead of {}", shown(got), shown(want)));
        }
    }

    fn inside(&mut self, what: &str, got: Option<u64>, want: Option<Bracket>) {
        match (got, want) {
            (Some(at), Some(bracket)) if !bracket.holds(at) => {
                let (early, late) = (bracket.0.saturating_sub(at), at.saturating_sub(bracket.1));
                self.0.push(format!("{what}: {early} ns before or {late} ns after its bracket"));
            }
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some(_)) => self.0.push(format!("{what}: null, and it happened")),
            (Some(_), None) => self.0.push(format!("{what}: given, and it never happened")),
        }
    }

    fn exact(&mut self, what: &str, got: Option<u64>, want: Option<u64>) {
        let around = |at: u64| Bracket(at.saturating_sub(ROUNDING_NS), at.saturating_add(ROUNDING_NS));
        self.inside(what, got, want.map(around));
    }

    fn among(&mut self, what: &str, got: Option<u64>, steps: &[(u64, u64)]) {
        let Some(got) = got else { return };
        let known = steps.iter().any(|(at, tokens)| *tokens > 0 && at.abs_diff(got) <= ROUNDING_NS);
        self.equal(&format!("{what} is a step of it"), &known, &true);
    }

    fn between(&mut self, what: &str, got: Option<u64>, least: u64, most: u64) {
        let inside = got.is_some_and(|count| (least..=most).contains(&count));
        if !inside {
            self.0.push(format!("{what}: {} instead of {least} to {most}", shown(&got)));
        }
    }
}

fn shown<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
