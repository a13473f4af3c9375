//! An engine's token counters and the requests that ended, in; whether both counted the same, out.
//!
//! Compared are two instants at which nothing was under way: between them the counters rose by what the requests
//! that ended between them took and made. Requests that were aborted leave room: how many of their tokens the
//! engine's front end counted depends on when it learned of it.

use crate::clock::MonoNs;
use crate::correlate::engines::Checks;
use crate::correlate::engines::Disagreement;
use crate::engine::Sample;
use crate::request::EngineRequest;
use crate::request::Request;

/// Around a sample, how long nothing may be under way.
const AROUND_NS: u64 = 300_000_000;
/// After a sample, how long records of requests that had ended may still come.
const LATE_NS: u64 = 4_000_000_000;

/// Prompt tokens, and tokens made.
type Pair<T> = [T; 2];
const WHAT: Pair<&str> = ["prompt_tokens", "generation_tokens"];

/// What requests took and made: at least, and at most.
#[derive(Debug, Clone, Copy, Default)]
struct Ours {
    least: Pair<u64>,
    most: Pair<u64>,
    /// Whether something is missing in it.
    spoiled: bool,
}

/// A sample at which nothing was under way.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    asked: MonoNs,
    at: MonoNs,
    counters: Pair<Option<f64>>,
    /// The losses known then.
    losses: u64,
}

/// What is remembered between samples.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The last quiet sample whose records have all come.
    base: Option<Quiet>,
    /// A later one, whose records may not all have come.
    next: Option<Quiet>,
    /// Of requests that ended between the two.
    between: Ours,
    /// Of requests that ended after `next`.
    after: Ours,
    /// When the last request that is known ended.
    last_end: MonoNs,
}

impl Tokens {
    pub(super) fn sampled(&mut self, sample: &Sample, quiet: bool, losses: u64) {
        let near = self.last_end.0.saturating_add(AROUND_NS) > sample.asked.0;
        if quiet && !near && self.next.is_none() {
            let counters = [sample.prompt_tokens, sample.generation_tokens];
            self.next = Some(Quiet { asked: sample.asked, at: sample.at, counters, losses });
        }
    }

    pub(super) fn ended(&mut self, request: &Request) {
        self.last_end = self.last_end.max(request.finished);
        let earlier = match self.next {
            Some(next) if request.finished.0.saturating_add(AROUND_NS) < next.asked.0 => true,
            Some(next) if begins(request).0 > next.at.0.saturating_add(AROUND_NS) => false,
            // Something was under way after all.
            Some(_) => {
                self.forget_next();
                true
            }
            None => true,
        };
        let ours = if earlier { &mut self.between } else { &mut self.after };
        ours.spoiled |= !request.incomplete.is_empty();
        for engine in &request.engine_requests {
            add(ours, engine);
        }
    }

    pub(super) fn ticked(&mut self, quiet: bool, now: MonoNs, losses: u64, checks: &mut Checks) {
        let Some(next) = self.next else { return };
        let age = now.since(next.at).unwrap_or(0);
        if !quiet && age < AROUND_NS {
            self.forget_next();
        } else if age >= LATE_NS {
            if let Some(base) = self.base
                && base.losses == losses
                && !self.between.spoiled
            {
                compare(&base, &next, &self.between, checks);
            }
            self.base = Some(next);
            self.next = None;
            self.between = std::mem::take(&mut self.after);
        }
    }

    /// Everything counts towards the next one that is found.
    fn forget_next(&mut self) {
        self.next = None;
        let after = std::mem::take(&mut self.after);
        self.between.spoiled |= after.spoiled;
        for (sum, more) in self.between.least.iter_mut().zip(after.least) {
            *sum += more;
        }
        for (sum, more) in self.between.most.iter_mut().zip(after.most) {
            *sum += more;
        }
    }
}

fn begins(request: &Request) -> MonoNs {
    let added = request.engine_requests.iter().filter_map(|engine| engine.added.or(engine.queued)).min();
    request.accepted.or(added).unwrap_or(request.finished)
}

fn add(ours: &mut Ours, engine: &EngineRequest) {
    let Some(prompt) = engine.prompt_tokens else {
        ours.spoiled = true;
        return;
    };
    let whole = engine.aborted.is_none() && engine.first_output.is_some();
    let least = if whole { [prompt, engine.output_tokens] } else { [0, 0] };
    for ((sum, sum_most), (least, most)) in
        ours.least.iter_mut().zip(&mut ours.most).zip(least.into_iter().zip([prompt, engine.engine_tokens]))
    {
        *sum += least;
        *sum_most += most.max(least);
    }
}

fn compare(base: &Quiet, next: &Quiet, ours: &Ours, checks: &mut Checks) {
    for (((what, before), after), (least, most)) in
        WHAT.into_iter().zip(base.counters).zip(next.counters).zip(ours.least.into_iter().zip(ours.most))
    {
        let Some(rise) = before.zip(after).map(|(before, after)| after - before).filter(|rise| *rise >= 0.0) else {
            continue;
        };
        let (least, most) = (least as f64, most as f64);
        if (least..=most).contains(&rise) {
            checks.agreed(what);
        } else {
            let messages = if rise < least { least } else { most };
            checks.disagreed(Disagreement { what, at: next.at, messages, scraped: rise });
        }
    }
}
