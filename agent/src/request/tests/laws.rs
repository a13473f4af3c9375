//! Random traffic in; laws about its records: one each, none joined wrongly, parts that sum to the whole.

use crate::request::Config;
use crate::request::Join;
use crate::request::Request;
use crate::request::tests::story::CORE;
use crate::request::tests::story::Outcome;
use crate::request::tests::story::Story;
use crate::request::tests::story::chat;
use crate::request::tests::story::run;
use crate::stream::Break;
use crate::stream::Message;
use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;

/// Repeatable chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * (self.below(10_000) as f64 / 10_000.0)
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }
}

/// Concurrent chats, many with the same X-Request-Id, with every kind of end. The temperature of each,
/// which no join reads, is also the suffix of its engine id.
fn traffic(seed: u64, callers: u64) -> Story {
    let mut dice = Dice(seed);
    let mut story = Story::vllm();
    for x in 1..=callers {
        let name = dice.one_of(&[None, None, Some("x"), Some("y")]);
        let stream = dice.below(2) == 0;
        let limit = dice.one_of(&[None, Some(16), Some(32)]);
        let begun = dice.between(10.0, 40.0);
        let mut ask = chat().with(|_, body| {
            body.stream = Some(stream);
            body.params.max_tokens = limit;
            body.params.temperature = Some(x as f64);
        });
        ask.head.x_request_id = name.map(str::to_owned);
        let base = name.map_or(format!("chatcmpl-r{x}"), |name| format!("chatcmpl-{name}"));
        let id = format!("{base}-{x:08x}");
        story.ask(x, begun, &ask);
        let kind = dice.below(6);
        if kind == 0 {
            story.cut(x, begun + dice.between(0.6, 3.0), Break::ClientGone);
            continue;
        }
        if kind == 1 {
            story.reply(x, begun + 1.0, 400, false).end(x, begun + 1.5);
            continue;
        }
        let added = begun + dice.between(1.0, 15.0);
        story.add_with(added, CORE, |request| {
            request.id.clone_from(&id);
            request.external_id = Some(base.clone());
            request.prompt_tokens = Some(10);
            request.params.max_tokens = Some(limit.unwrap_or(1_014));
            request.params.temperature = Some(x as f64);
            request.output_kind = Some(if stream { 1 } else { 2 });
        });
        let mut at = added + dice.between(2.0, 20.0);
        if kind == 2 {
            story.cut(x, at, Break::ClientGone).abort(at + dice.between(0.2, 20.0), &id);
            continue;
        }
        let steps = dice.below(4) + 2;
        if stream {
            story.reply(x, added + 0.5, 200, true);
        }
        for step in 0..steps {
            let marks = if step == 0 { format!(" q@{added} s@{}", added + 0.5) } else { String::new() };
            let last = step + 1 == steps && kind > 3;
            story.step(at, &[&format!("{id} 1{marks}{}", if last { " fin=stop" } else { "" })]);
            if stream {
                let said = if step == 0 { format!("id={base} text") } else { "text".to_owned() };
                story.say(x, at + dice.between(0.1, 5.0), &said);
            }
            at += dice.between(6.0, 15.0);
        }
        if kind == 3 {
            story.cut(x, at, Break::ClientGone).abort(at + dice.between(0.2, 20.0), &id);
        } else if stream {
            story.say(x, at, "finish=stop done").end(x, at + 0.1);
        } else {
            story.reply(x, at, 200, false).say(x, at, &format!("id={base} text finish=stop")).end(x, at + 0.1);
        }
    }
    story
}

/// Whether every engine request of the record is the one that its caller caused.
fn right(record: &Request) -> bool {
    let caused = |id: &str| {
        let (_, suffix) = id.rsplit_once('-')?;
        Some(f64::from(u32::from_str_radix(suffix, 16).ok()?))
    };
    record.engine_requests.iter().all(|request| caused(&request.id) == record.params.temperature)
}

fn sums(record: &Request) -> bool {
    let phases = record.phases;
    let parts = [phases.receive, phases.frontend, phases.queue, phases.prefill, phases.decode, phases.deliver];
    let sum: u64 = parts.iter().flatten().sum();
    let duration = record.duration_ns().unwrap_or(0);
    if record.engine_requests.is_empty() { sum <= duration } else { sum == duration }
}

fn numbered(outcome: &Outcome) -> bool {
    outcome.records.iter().enumerate().all(|(place, record)| record.serial == place as u64 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn traffic_is_recorded_once_and_never_joined_wrongly(seed in any::<u64>(), callers in 1_u64..24) {
        let outcome = traffic(seed, callers).run();
        prop_assert_eq!(outcome.records.len() as u64, callers, "one record each");
        prop_assert_eq!(outcome.vitals.requests_recorded.get(), callers);
        prop_assert!(numbered(&outcome));
        for record in &outcome.records {
            prop_assert!(record.join != Join::EngineOnly && right(record), "{:#?}", record);
            prop_assert!(sums(record), "{:#?}", record);
            let joined = matches!(record.join, Join::Id | Join::XRequestId | Join::Elimination);
            prop_assert_eq!(joined, !record.engine_requests.is_empty());
            let named = record.x_request_id.is_none() && record.response_id.is_some();
            prop_assert!(!named || record.join == Join::Id, "{:#?}", record);
        }
    }

    #[test]
    fn whatever_is_lost_each_exchange_that_began_ends_once(seed in any::<u64>(), keep in 2_u64..20) {
        let mut dice = Dice(seed);
        let mut told = traffic(seed, 16).sorted();
        told.retain(|_| dice.below(keep) > 0);
        for _ in 0..dice.below(8) {
            let (a, b) = (dice.below(told.len() as u64), dice.below(told.len() as u64));
            told.swap(usize::try_from(a).unwrap(), usize::try_from(b).unwrap());
        }
        let begun = told.iter().filter(|(_, message)| matches!(message, Message::Begun { .. })).count();
        for config in [Config::default(), Config { requests: 3, engine_requests: 3, ..Config::default() }] {
            let outcome = run(&told, config);
            prop_assert_eq!(outcome.http().count(), begun);
            prop_assert!(numbered(&outcome));
        }
    }
}
