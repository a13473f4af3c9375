//! The steps of one engine core in; each engine request's share of the core's time, by slots, out.
//!
//! A step's time goes to the requests in it by tokens: those it made, and of a prompt those it computed (not
//! the cached ones), spread evenly from scheduling to first output. A prompt under way shows in no message,
//! so a step is held while the scheduler runs more requests than have answered, but not for ever.

use crate::clock::MonoNs;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// The length of a slot, nanoseconds. Slot `n` begins at `n × SLOT_NS` of CLOCK_MONOTONIC.
pub const SLOT_NS: u64 = 100_000_000;

/// Messages of one step, one for each front end, are no further apart.
const ONE_STEP: Duration = Duration::from_millis(1);
/// How long after a step another message of it may still come.
const STEP_SETTLES: Duration = Duration::from_millis(50);
/// How long a step is held for prompts that may be under way in it.
const HOLD: Duration = Duration::from_secs(5);
/// Steps held at most.
const HELD: usize = 512;
/// How long a request may be under way without a step before its time is given away.
const LONGEST_STEP: Duration = Duration::from_secs(30);

/// What a step did for one engine request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) key: u64,
    /// Tokens made; with the first output, those of the prompt that were computed.
    pub(super) tokens: u64,
    /// When its prompt was begun, with its first output.
    pub(super) begun: Option<Begun>,
}

/// When work on a prompt began.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begun {
    /// The scheduler said so.
    At(MonoNs),
    /// Nobody said; it was after this, and is taken to be in the last step.
    After(MonoNs),
}

impl Begun {
    fn at(self, last: MonoNs) -> MonoNs {
        match self {
            Self::At(scheduled) => scheduled,
            Self::After(added) => added.max(last),
        }
    }
}

/// Shares of one slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Its number.
    pub number: u64,
    /// Engine requests by key, and the nanoseconds of the slot that each had. The rest was nobody's.
    pub shares: BTreeMap<u64, f64>,
}

#[derive(Debug)]
struct Step {
    from: MonoNs,
    to: MonoNs,
    weights: BTreeMap<u64, f64>,
    /// Requests that ran and have not answered yet.
    unseen: u32,
}

impl Step {
    fn overlap_ns(&self, from: MonoNs, to: MonoNs) -> u64 {
        self.to.min(to).since(self.from.max(from)).unwrap_or(0)
    }
}

/// The time of one engine core.
#[derive(Debug, Default)]
pub(super) struct Work {
    held: VecDeque<Step>,
    /// The end of the newest step.
    last: Option<MonoNs>,
    /// Everything before is shared out.
    upto: MonoNs,
    slots: BTreeMap<u64, BTreeMap<u64, f64>>,
}

impl Work {
    /// A step ended at `to`; `unseen` requests ran in it and have not answered.
    pub(super) fn step(&mut self, to: MonoNs, parts: &[Part], unseen: u32) {
        let to = self.last.map_or(to, |last| to.max(last));
        let since_last = self.last.unwrap_or(to);
        let own = |step: &Step| parts.iter().any(|part| step.weights.contains_key(&part.key));
        let open = self.held.back_mut().filter(|step| to < step.to.plus(ONE_STEP) && !own(step));
        if let Some(step) = open {
            step.to = to;
            step.unseen = step.unseen.min(unseen);
        } else if !parts.is_empty() || unseen > 0 {
            let since = |part: &Part| part.begun.map_or(since_last, |begun| begun.at(since_last));
            let begun = parts.iter().map(since).min().unwrap_or(since_last);
            self.held.push_back(Step { from: self.free(begun).min(to), to, weights: BTreeMap::new(), unseen });
        }
        self.last = Some(to);
        for part in parts {
            match part.begun {
                Some(begun) => self.prompt(part.key, begun.at(since_last), to, part.tokens),
                None => {
                    if let Some(step) = self.held.back_mut() {
                        *step.weights.entry(part.key).or_default() += part.tokens as f64;
                    }
                }
            }
        }
    }

    /// A request that never answered left at `to`; `before` others that had not answered came before it.
    pub(super) fn left(&mut self, key: u64, added: MonoNs, to: MonoNs, prompt_tokens: u64, before: u32, alone: bool) {
        let ran = |step: &Step| step.unseen > before && step.overlap_ns(added, to) > 0;
        if let Some(from) = self.held.iter().find(|step| ran(step)).map(|step| step.from) {
            self.prompt(key, from.max(added), to, prompt_tokens);
        } else if alone && self.free(added) < to {
            let weights = BTreeMap::from([(key, prompt_tokens.max(1) as f64)]);
            self.held.push_back(Step { from: self.free(added), to, weights, unseen: 0 });
            self.last = Some(to);
        }
    }

    /// The first instant from `from` on that is in no step.
    fn free(&self, from: MonoNs) -> MonoNs {
        from.max(self.upto).max(self.last.unwrap_or_default())
    }

    /// Spreads a prompt over the steps since it was scheduled.
    fn prompt(&mut self, key: u64, scheduled: MonoNs, to: MonoNs, tokens: u64) {
        // Before the first step of another it ran alone.
        if let Some(place) = self.held.iter().position(|step| step.to > scheduled) {
            let before = place.checked_sub(1).and_then(|place| self.held.get(place)).map(|step| step.to);
            let from = scheduled.max(before.unwrap_or(self.upto));
            let until = self.held.get(place).map_or(from, |step| step.from);
            if from < until {
                self.held.insert(place, Step { from, to: until, weights: BTreeMap::new(), unseen: 0 });
            }
        }
        let over: u64 = self.held.iter().map(|step| step.overlap_ns(scheduled, to)).sum();
        for step in self.held.iter_mut().filter(|_| over > 0) {
            let overlap = step.overlap_ns(scheduled, to);
            if overlap > 0 {
                *step.weights.entry(key).or_default() += tokens.max(1) as f64 * overlap as f64 / over as f64;
                // In the step of its first output it is no longer unseen.
                step.unseen = step.unseen.saturating_sub(u32::from(step.to < to));
            }
        }
    }

    /// Shares out what is decided by `now`; `live` says whether requests are under way. Gives the instant
    /// before which all is shared out, on a slot's bound, and the slots until there.
    pub(super) fn settle(&mut self, now: MonoNs, live: bool) -> (MonoNs, Vec<Slot>) {
        while let Some(step) = self.held.front() {
            let newest = self.held.len() == 1 && now < step.to.plus(STEP_SETTLES);
            let waits = step.unseen > 0 && self.last < Some(step.to.plus(HOLD)) && self.held.len() <= HELD;
            if newest || (waits && live) {
                break;
            }
            if let Some(step) = self.held.pop_front() {
                self.share(&step);
            }
        }
        let quiet =
            if live { self.last.unwrap_or(self.upto) } else { MonoNs(now.0.saturating_sub(nanos(STEP_SETTLES))) };
        let bound = self.held.front().map_or(quiet, |step| step.from);
        let longest = MonoNs(now.0.saturating_sub(nanos(LONGEST_STEP)));
        let number = bound.max(longest).0 / SLOT_NS;
        self.upto = self.upto.max(MonoNs(number * SLOT_NS));
        let open = self.slots.split_off(&(self.upto.0 / SLOT_NS));
        let done = std::mem::replace(&mut self.slots, open);
        (self.upto, done.into_iter().map(|(number, shares)| Slot { number, shares }).collect())
    }

    fn share(&mut self, step: &Step) {
        let whole: f64 = step.weights.values().sum();
        let mut from = step.from.max(self.upto).0;
        while from < step.to.0 && whole > 0.0 {
            let number = from / SLOT_NS;
            let to = step.to.0.min((number + 1) * SLOT_NS);
            let slot = self.slots.entry(number).or_default();
            for (key, weight) in &step.weights {
                *slot.entry(*key).or_default() += (to - from) as f64 * weight / whole;
            }
            from = to;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> MonoNs {
        MonoNs(at * 1_000_000)
    }

    fn makes(key: u64) -> Part {
        Part { key, tokens: 1, begun: None }
    }

    fn answers(key: u64, scheduled: u64, tokens: u64) -> Part {
        Part { key, tokens, begun: Some(Begun::At(ms(scheduled))) }
    }

    /// Everything that was shared out, by key, milliseconds.
    fn all(work: &mut Work, now: u64) -> BTreeMap<u64, f64> {
        let mut sum = BTreeMap::new();
        for slot in work.settle(ms(now), false).1 {
            for (key, ns) in slot.shares {
                *sum.entry(key).or_default() += (ns / 1e3).round() / 1e3;
            }
        }
        sum
    }

    #[test]
    fn one_alone_has_its_time_from_scheduling_to_the_last_token() {
        let mut work = Work::default();
        work.step(ms(500), &[answers(1, 200, 40)], 0);
        work.step(ms(550), &[makes(1)], 0);
        work.step(ms(600), &[makes(1)], 0);
        assert_eq!(all(&mut work, 2_000), BTreeMap::from([(1, 400.0)]));
    }

    #[test]
    fn a_prompt_of_which_nobody_said_when_it_began_has_the_step_of_its_answer() {
        let mut work = Work::default();
        work.step(ms(100), &[makes(1)], 0);
        let unmarked = |key, added| Part { key, tokens: 1, begun: Some(Begun::After(ms(added))) };
        work.step(ms(900), &[unmarked(2, 800)], 0);
        work.step(ms(1_000), &[makes(2), unmarked(3, 850)], 0);
        assert_eq!(all(&mut work, 2_000), BTreeMap::from([(2, 150.0), (3, 50.0)]));
    }

    #[test]
    fn who_decodes_together_shares_each_step() {
        let mut work = Work::default();
        work.step(ms(100), &[answers(1, 0, 10)], 0);
        work.step(ms(200), &[makes(1), makes(2)], 0);
        work.step(ms(300), &[makes(1), Part { tokens: 3, ..makes(2) }], 0);
        assert_eq!(all(&mut work, 2_000), BTreeMap::from([(1, 175.0), (2, 125.0)]));
    }

    #[test]
    fn a_prompt_in_chunks_takes_its_part_of_the_steps_it_was_in() {
        let mut work = Work::default();
        work.step(ms(0), &[makes(1)], 0);
        work.step(ms(100), &[makes(1)], 0);
        // Scheduled at 100 ms: 198 tokens over two steps, beside one token each of the other.
        work.step(ms(200), &[makes(1)], 1);
        assert_eq!(work.settle(ms(260), true), (ms(100), vec![slot(0, &[(1, 100.0)])]), "it may have run at 150 ms");
        work.step(ms(300), &[makes(1), answers(2, 100, 198)], 0);
        assert_eq!(all(&mut work, 2_000), BTreeMap::from([(1, 2.0), (2, 198.0)]));
    }

    #[test]
    fn time_before_the_first_step_belongs_to_the_prompt_that_ran_then() {
        let mut work = Work::default();
        work.step(ms(400), &[answers(2, 300, 10)], 1);
        work.step(ms(500), &[makes(2), answers(1, 100, 30)], 0);
        // From 100 to 300 ms it ran alone; then 7.5 of its tokens beside 10 of the other's, and beside 1.
        let shares = all(&mut work, 2_000);
        let expected = 200.0 + 100.0 * 7.5 / 17.5 + 100.0 * 7.5 / 8.5;
        assert!(
            (shares[&1] - expected).abs() < 0.1 && (shares.values().sum::<f64>() - 400.0).abs() < 0.1,
            "{shares:?}"
        );
    }

    #[test]
    fn several_messages_of_one_step_are_one_step() {
        let mut work = Work::default();
        work.step(ms(100), &[answers(1, 0, 10)], 0);
        work.step(ms(200), &[makes(1)], 0);
        work.step(MonoNs(200_020_000), &[makes(2)], 0);
        work.step(ms(300), &[makes(1)], 0);
        let shares = all(&mut work, 2_000);
        assert_eq!((shares[&1].round(), shares[&2].round()), (250.0, 50.0));
    }

    #[test]
    fn who_left_before_an_answer_has_what_it_wasted() {
        let mut work = Work::default();
        work.left(7, ms(100), ms(250), 30, 0, true);
        assert_eq!(all(&mut work, 2_000), BTreeMap::from([(7, 150.0)]));
        let mut beside = Work::default();
        beside.step(ms(100), &[makes(1)], 0);
        beside.step(ms(200), &[makes(1)], 1);
        beside.left(8, ms(90), ms(220), 40, 1, false);
        beside.left(9, ms(90), ms(220), 99, 0, false);
        let shares = all(&mut beside, 2_000);
        assert_eq!((shares.get(&8), shares[&9].round()), (None, 99.0), "the one that came first was running");
    }

    #[test]
    fn a_prompt_that_never_answers_holds_nobody_for_ever() {
        let mut work = Work::default();
        for at in 1..=60 {
            work.step(ms(at * 100), &[makes(1)], 1);
        }
        let (upto, slots) = work.settle(ms(6_000), true);
        assert_eq!((upto, slots.len()), (ms(1_000), 9), "before its first message nothing is known");
    }

    /// Whatever the steps, no slot gives away more than it has, and all that lies in steps is given away.
    #[test]
    fn shares_sum_to_the_time_of_the_steps() {
        let mut work = Work::default();
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut at, mut given) = (1_000, 0.0);
        work.step(ms(at), &[makes(0)], 0);
        let mut check = |slots: Vec<Slot>| {
            for slot in slots {
                let sum: f64 = slot.shares.values().sum();
                assert!(sum <= SLOT_NS as f64 + 1.0, "{sum}");
                given += sum;
            }
        };
        for n in 0..2_000_u64 {
            let before = at;
            at += 5 + random(60);
            let parts: Vec<Part> = (0..=random(5)).map(|k| makes(n / 50 * 10 + k)).collect();
            let begins = answers(n + 1_000_000, before.saturating_sub(random(300)), 1 + random(500));
            let parts = if random(4) == 0 { vec![begins] } else { parts };
            work.step(ms(at), &parts, u32::try_from(random(3)).unwrap());
            check(work.settle(ms(at), true).1);
        }
        check(work.settle(ms(at + 1_000), false).1);
        let steps = (at - 1_000) as f64 * 1e6;
        assert!((given - steps).abs() / steps < 0.001, "{given} of {steps}");
    }

    fn slot(number: u64, shares: &[(u64, f64)]) -> Slot {
        Slot { number, shares: shares.iter().map(|(key, ms)| (*key, ms * 1e6)).collect() }
    }
}
