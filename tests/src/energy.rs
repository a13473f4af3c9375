//! Truths in; the seconds of the engine that each request had by the agent's rule, computed from the truth alone, out.
//!
//! The rule: a step's time goes to the requests in it by tokens; a prompt's tokens (but the cached ones) are spread
//! evenly over the steps from its scheduling to its first output.

use crate::truth::EngineTruth;
use crate::truth::Truth;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

struct Step {
    from: u64,
    to: u64,
    weights: BTreeMap<usize, f64>,
}

impl Step {
    fn overlap(&self, from: u64, to: u64) -> u64 {
        self.to.min(to).saturating_sub(self.from.max(from))
    }
}

/// Seconds by the place of the request in `truths`; each has one engine request, which ended by itself.
pub fn engine_seconds(truths: &[Truth]) -> Vec<f64> {
    let all: Vec<(usize, &Truth, &EngineTruth)> = truths
        .iter()
        .enumerate()
        .flat_map(|(at, truth)| truth.engine.iter().map(move |one| (at, truth, one)))
        .collect();
    let times: BTreeSet<u64> = all.iter().flat_map(|(.., one)| one.steps.iter().map(|(at, _)| *at)).collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut last = 0;
    for to in times {
        let decodes = |one: &EngineTruth| one.first_output().is_some_and(|first| first < to);
        let tokens =
            |one: &EngineTruth| one.steps.iter().filter(|(at, _)| *at == to).map(|(_, tokens)| *tokens).sum::<u64>();
        let weights: BTreeMap<usize, f64> = all
            .iter()
            .filter(|(.., one)| decodes(one))
            .map(|(at, _, one)| (*at, tokens(one) as f64))
            .filter(|(_, tokens)| *tokens > 0.0)
            .collect();
        let prompts = all.iter().filter(|(.., one)| one.first_output() == Some(to));
        let begun = prompts.filter_map(|(.., one)| one.scheduled).min();
        let from = if weights.is_empty() { begun.unwrap_or(to).max(last) } else { last };
        steps.push(Step { from, to, weights });
        last = to;
    }
    for (at, truth, one) in &all {
        let (Some(scheduled), Some(first)) = (one.scheduled, one.first_output()) else { continue };
        let computed = one.prompt_tokens.unwrap_or(0).saturating_sub(truth.cached_tokens.unwrap_or(0)).max(1);
        spread(&mut steps, *at, scheduled, first, computed as f64);
    }
    let mut seconds = vec![0.0; truths.len()];
    for step in &steps {
        let whole: f64 = step.weights.values().sum();
        for (at, weight) in &step.weights {
            if let Some(sum) = seconds.get_mut(*at) {
                *sum += (step.to - step.from) as f64 / 1e9 * weight / whole;
            }
        }
    }
    seconds
}

fn spread(steps: &mut Vec<Step>, at: usize, from: u64, to: u64, tokens: f64) {
    if let Some(place) = steps.iter().position(|step| step.to > from) {
        let free = place.checked_sub(1).and_then(|before| steps.get(before)).map_or(0, |before| before.to);
        let (begins, until) = (from.max(free), steps.get(place).map_or(from, |step| step.from));
        if begins < until {
            steps.insert(place, Step { from: begins, to: until, weights: BTreeMap::new() });
        }
    }
    let whole: u64 = steps.iter().map(|step| step.overlap(from, to)).sum();
    for step in steps {
        let overlap = step.overlap(from, to);
        if overlap > 0 {
            *step.weights.entry(at).or_default() += tokens * overlap as f64 / whole as f64;
        }
    }
}
