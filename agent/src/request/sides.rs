//! The engine requests of one record in, what they come to as a whole out: borders, tokens, and why something
//! is missing.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::request::EngineAt;
use crate::request::EngineRequest;
use crate::request::Incomplete;
use crate::request::engine::Life;
use crate::request::http::Http;
use crate::stream::Operation;
use std::collections::BTreeMap;

/// The engine was not reached.
pub(super) const NOT_REACHED: &str = "not_reached_engine";
/// The engine's messages about it may be among the lost ones.
pub(super) const MESSAGES_LOST: &str = "engine_messages_lost";
/// The HTTP side was not seen.
pub(super) const UNOBSERVED: &str = "unobserved";

/// What the engine side of a record has, and why it lacks what it lacks.
pub(super) struct Sides<'a> {
    pub(super) lives: &'a [Life],
    pub(super) engine_requests: &'a [EngineRequest],
    pub(super) unjoined: &'static str,
}

impl Sides<'_> {
    pub(super) fn earliest(&self, instant: impl Fn(&EngineRequest) -> Option<MonoNs>) -> Option<MonoNs> {
        self.engine_requests.iter().filter_map(instant).min()
    }

    pub(super) fn latest(&self, instant: impl Fn(&EngineRequest) -> Option<MonoNs>) -> Option<MonoNs> {
        self.engine_requests.iter().filter_map(instant).max()
    }

    fn any(&self, test: impl Fn(&Life) -> bool) -> bool {
        self.lives.iter().any(test)
    }

    fn flagged(&self, flag: Incomplete) -> bool {
        self.any(|life| life.flags.contains(&flag))
    }

    /// Whether its engine requests answered without any mark: the engine's statistics are off.
    fn unmarked(&self) -> bool {
        self.any(|life| life.answered() && !life.marked)
    }

    /// Whether nothing the engine said is missing.
    pub(super) fn clear(&self) -> bool {
        !self.lives.is_empty() && !self.unmarked() && !self.any(|life| life.untrusted || !life.flags.is_empty())
    }

    /// The border of frontend and queue: the queue's own mark, which rides on the first output. A request
    /// that has none was queued when the engine read it, to within that reading.
    pub(super) fn entered(&self) -> Result<MonoNs, &'static str> {
        let marked = self.earliest(|request| request.queued);
        match marked {
            Some(queued) => Ok(queued),
            None if self.any(|life| life.untrusted) => Err("clock_untrusted"),
            None => self.earliest(|request| request.added).ok_or(self.no_added()),
        }
    }

    pub(super) fn no_added(&self) -> &'static str {
        if self.lives.is_empty() {
            self.unjoined
        } else if self.flagged(Incomplete::EngineMessagesLost) {
            MESSAGES_LOST
        } else {
            "attached_late"
        }
    }

    pub(super) fn no_scheduled(&self) -> &'static str {
        if self.lives.is_empty() {
            self.unjoined
        } else if self.any(|life| life.untrusted) {
            "clock_untrusted"
        } else if self.flagged(Incomplete::EngineMessagesLost) {
            MESSAGES_LOST
        } else if self.flagged(Incomplete::AttachedLate) {
            "attached_late"
        } else if self.unmarked() {
            "engine_stats_off"
        } else {
            "never_scheduled"
        }
    }

    pub(super) fn no_output(&self) -> &'static str {
        let scheduled = self.earliest(|request| request.scheduled).is_some();
        let in_time = self.engine_requests.iter().any(|request| request.first_output.is_some());
        if self.lives.is_empty() {
            self.unjoined
        } else if in_time || self.any(|life| life.untrusted) {
            "clock_untrusted"
        } else if self.flagged(Incomplete::EngineMessagesLost) {
            MESSAGES_LOST
        } else if scheduled {
            "no_output"
        } else {
            "never_scheduled"
        }
    }

    pub(super) fn no_load(&self) -> &'static str {
        if self.lives.is_empty() { self.unjoined } else { "engine_said_none" }
    }

    pub(super) fn engine_at(&self) -> EngineAt {
        let by = |key: fn(&Life) -> Option<MonoNs>| self.lives.iter().filter(move |life| key(life).is_some());
        EngineAt {
            queued: by(|life| life.added).min_by_key(|life| life.added).and_then(|life| life.load.queued),
            first_token: by(Life::first_sent)
                .min_by_key(|life| life.first_sent())
                .and_then(|life| life.load.first_token),
            finish: by(|life| life.end.map(|(at, _)| at))
                .max_by_key(|life| life.end.map(|(at, _)| at))
                .and_then(|life| life.load.finish),
        }
    }

    pub(super) fn tpot(&self) -> Result<f64, &'static str> {
        if self.lives.is_empty() {
            return Err(self.unjoined);
        }
        let each: Vec<f64> = self
            .engine_requests
            .iter()
            .filter(|request| request.output_tokens >= 2)
            .filter_map(|request| {
                let span = request.last_output?.since(request.first_output?)?;
                Some(seconds(span) / (request.output_tokens - 1) as f64)
            })
            .collect();
        if each.is_empty() {
            let several = self.engine_requests.iter().any(|request| request.output_tokens >= 2);
            return Err(if several { self.no_output() } else { "under_two_tokens" });
        }
        Ok(each.iter().sum::<f64>() / each.len() as f64)
    }
}

/// The token counts of a record, each or why it is missing.
pub(super) struct Tokens {
    pub(super) input: Result<u64, &'static str>,
    pub(super) cached: Result<u64, &'static str>,
    pub(super) output: Result<u64, &'static str>,
    pub(super) reasoning: Result<u64, &'static str>,
    pub(super) engine: Result<u64, &'static str>,
    /// Whether `output` is what the response's usage says.
    pub(super) told: bool,
}

impl Tokens {
    pub(super) fn of(http: &Http, sides: &Sides<'_>, whole: bool) -> Self {
        let usage = http.usage.unwrap_or_default();
        // A usage block in mid-stream counts what was said until then.
        let told = usage.output.filter(|_| whole);
        let generates = match http.head.operation {
            Operation::Chat | Operation::TextCompletion | Operation::Responses | Operation::Messages => true,
            Operation::Embeddings | Operation::Pooling => false,
        };
        let made = |count: fn(&EngineRequest) -> u64| {
            let sum = sides.engine_requests.iter().map(count).sum();
            if sides.lives.is_empty() { Err(sides.unjoined) } else { Ok(sum) }
        };
        let output = match told {
            Some(told) => Ok(told),
            None if generates => made(|request| request.output_tokens),
            None => Err("no_tokens_for_operation"),
        };
        Self {
            input: usage.input.map_or_else(|| once_a_prompt(sides, |life| life.prompt_tokens), Ok),
            cached: usage.cached.map_or_else(|| once_a_prompt(sides, |life| life.cached_tokens), Ok),
            output,
            reasoning: usage.reasoning.ok_or("no_usage"),
            engine: made(|request| request.engine_tokens),
            told: told.is_some(),
        }
    }
}

/// The children of a prompt share it.
fn once_a_prompt(sides: &Sides<'_>, count: fn(&Life) -> Option<u64>) -> Result<u64, &'static str> {
    if sides.lives.is_empty() {
        return Err(sides.unjoined);
    }
    let mut prompts: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for life in sides.lives {
        let known = prompts.entry(life.names.family.as_str()).or_default();
        *known = known.or_else(|| count(life));
    }
    let known: Option<Vec<u64>> = prompts.into_values().collect();
    known.map(|counts| counts.iter().sum()).ok_or(sides.no_output())
}
