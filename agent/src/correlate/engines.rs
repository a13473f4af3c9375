//! What engines say of themselves, and what their messages said meanwhile, in; the [`EngineView`] of each out.

use crate::clock::MonoNs;
use crate::correlate::CoreView;
use crate::engine::Facts;
use crate::engine::Sample;
use crate::engine::scrape::Outcome;
use crate::ident::EngineId;
use crate::request::Request;
use gauges::Gauges;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokens::Tokens;

mod gauges;
mod tokens;

#[cfg(test)]
mod tests;

/// What is compared, by its name in JSON and on metrics.
pub const COMPARED: [&str; 5] = ["running", "waiting", "kv_usage", "prompt_tokens", "generation_tokens"];

/// Scraped engines that are held at most.
const ENGINES_MAX: usize = 4_096;

/// An engine as its own HTTP server tells.
#[derive(Debug, Clone)]
pub struct EngineView {
    /// The engine.
    pub engine: EngineId,
    /// Where it was asked.
    pub url: Option<String>,
    /// Its numbers; `None` while it does not tell them.
    pub sample: Option<Arc<Sample>>,
    /// Why there are no numbers.
    pub closed: Option<String>,
    /// What is known of it beside.
    pub facts: Arc<Facts>,
    /// How its numbers agree with its messages.
    pub checks: Checks,
}

/// How an engine's own numbers agree with its messages, which win.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Checks {
    /// How often each agreed and disagreed, of the times when the two could be compared.
    pub tallies: BTreeMap<&'static str, Tally>,
    /// Gauges that stand still while the messages say otherwise.
    pub stale: Vec<&'static str>,
    /// The last disagreement.
    pub last: Option<Disagreement>,
}

/// Comparisons of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Agreed.
    pub agreed: u64,
    /// Disagreed.
    pub disagreed: u64,
}

/// Two words on one thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Disagreement {
    /// What it is of.
    pub what: &'static str,
    /// When the engine's own metrics said so.
    pub at: MonoNs,
    /// What the engine's messages say.
    pub messages: f64,
    /// What its own metrics say.
    pub scraped: f64,
}

impl Checks {
    fn agreed(&mut self, what: &'static str) {
        self.tallies.entry(what).or_default().agreed += 1;
    }

    fn disagreed(&mut self, disagreement: Disagreement) {
        self.tallies.entry(disagreement.what).or_default().disagreed += 1;
        self.last = Some(disagreement);
    }
}

/// What the messages of an engine's cores last said, over all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// When each core's scheduler last spoke.
    at: Vec<MonoNs>,
    /// Running, waiting and KV usage.
    gauges: [Option<f64>; 3],
    /// Whether no request is under way, in any core or front end.
    quiet: bool,
}

impl Word {
    /// Over the cores of one engine; `in_flight` are the HTTP requests under way in its front ends.
    pub fn of(cores: &[&CoreView], in_flight: u32) -> Option<Self> {
        let sum = |get: fn(&CoreView) -> Option<u32>| {
            let counts: Option<Vec<u32>> = cores.iter().map(|core| get(core)).collect();
            counts.map(|counts| counts.into_iter().map(f64::from).sum())
        };
        let usage: Option<Vec<f64>> = cores.iter().map(|core| core.load.kv_usage).collect();
        let gauges = [
            sum(|core| core.load.running),
            sum(|core| core.load.waiting),
            usage.and_then(|usage| usage.into_iter().reduce(f64::max)),
        ];
        let quiet = in_flight == 0 && cores.iter().all(|core| core.live == 0);
        (!cores.is_empty()).then(|| Self { at: cores.iter().map(|core| core.at).collect(), gauges, quiet })
    }
}

/// One engine and its checks.
#[derive(Debug)]
struct Engine {
    view: EngineView,
    gauges: Gauges,
    tokens: Tokens,
}

/// Every engine that was asked.
#[derive(Debug, Default)]
pub struct Engines {
    engines: BTreeMap<EngineId, Engine>,
}

impl Engines {
    /// What asking an engine gave, beside what its messages last said. Whether there was room for it. `losses`
    /// counts what may be missing in records.
    pub fn asked(&mut self, outcome: Outcome, word: Option<&Word>, losses: u64) -> bool {
        let Outcome { engine, url, scraped, facts } = outcome;
        if self.engines.len() >= ENGINES_MAX && !self.engines.contains_key(&engine) {
            return false;
        }
        let known = self.engines.entry(engine).or_insert_with(|| Engine {
            view: EngineView {
                engine,
                url: None,
                sample: None,
                closed: None,
                facts: Arc::clone(&facts),
                checks: Checks::default(),
            },
            gauges: Gauges::default(),
            tokens: Tokens::default(),
        });
        known.view.url = url;
        known.view.facts = facts;
        match scraped {
            Ok(sample) => {
                let sample = Arc::new(sample);
                if let Some(word) = word {
                    known.gauges.sampled(&sample, word, &mut known.view.checks);
                    known.tokens.sampled(&sample, word.quiet, losses);
                }
                known.view.sample = Some(sample);
                known.view.closed = None;
            }
            Err(error) => {
                known.view.sample = None;
                known.view.closed = Some(error.to_string());
                known.view.checks.stale.clear();
                known.gauges = Gauges::default();
            }
        }
        true
    }

    /// A core of this engine has spoken, or was silent for another tick.
    pub fn ticked(&mut self, engine: EngineId, word: &Word, now: MonoNs, losses: u64) {
        let Some(known) = self.engines.get_mut(&engine) else { return };
        known.gauges.ticked(word, &mut known.view.checks);
        known.tokens.ticked(word.quiet, now, losses, &mut known.view.checks);
    }

    /// A request of an engine has ended.
    pub fn ended(&mut self, request: &Request) {
        if let Some(known) = request.engine.and_then(|engine| self.engines.get_mut(&engine)) {
            known.tokens.ended(request);
        }
    }

    /// The engine's view.
    pub fn get(&self, engine: EngineId) -> Option<&EngineView> {
        self.engines.get(&engine).map(|known| &known.view)
    }

    /// Keeps those that fit.
    pub fn retain(&mut self, fits: impl Fn(EngineId) -> bool) {
        self.engines.retain(|engine, _| fits(*engine));
    }

    /// All of them.
    pub fn views(&self) -> Vec<EngineView> {
        self.engines.values().map(|known| known.view.clone()).collect()
    }
}
