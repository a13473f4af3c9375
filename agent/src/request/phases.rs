//! Seven instants in, six phases that sum to their distance out, each missing one with its reason.

use crate::clock::MonoNs;
use crate::request::Phases;
use std::collections::BTreeMap;

/// The names of the phases, in order, as the record's JSON writes them.
const NAMES: [&str; 6] =
    ["phases.receive", "phases.frontend", "phases.queue", "phases.prefill", "phases.decode", "phases.deliver"];

/// The instants between the phases; an unknown one is the reason why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// accepted, received, queued (or added), scheduled, first output, last output, finished.
    pub(super) instants: [Result<MonoNs, &'static str>; 7],
    /// Whether the request was cut off, so that the phase it was in took the rest.
    pub(super) cut: bool,
}

impl Chain {
    /// The phases; reasons for what is missing go into `reasons`.
    pub(super) fn phases(&self, reasons: &mut BTreeMap<&'static str, &'static str>) -> Phases {
        let [.., finished] = self.instants;
        let before = self.instants.iter().take(NAMES.len());
        let reached = before.clone().take_while(|instant| instant.is_ok()).count();
        let cut = self.cut && before.skip(reached).all(Result::is_err);
        let mut spans = [None; NAMES.len()];
        let pairs = self.instants.iter().zip(self.instants.iter().skip(1)).zip(NAMES);
        for (place, (slot, ((from, to), name))) in spans.iter_mut().zip(pairs).enumerate() {
            let to = if cut && place + 1 == reached { &finished } else { to };
            let span = match (from, to) {
                (Ok(from), Ok(to)) => to.since(*from).ok_or("clock_untrusted"),
                (Err(why), _) | (_, Err(why)) => Err(*why),
            };
            match span {
                Ok(span) => *slot = Some(span),
                Err(why) => {
                    reasons.insert(name, why);
                }
            }
        }
        let [receive, frontend, queue, prefill, decode, deliver] = spans;
        Phases { receive, frontend, queue, prefill, decode, deliver }
    }
}
