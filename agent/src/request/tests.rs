//! Stories in, records out: what each kind of request must come to, and laws that hold for all of them.

use crate::ident::EngineKind;
use crate::ident::Role;
use crate::request::Config;
use crate::request::Incomplete;
use crate::request::Join;
use crate::request::Request;
use crate::request::Update;
use crate::request::tests::story::CORE;
use crate::request::tests::story::CORE_2;
use crate::request::tests::story::FRONT;
use crate::request::tests::story::Story;
use crate::request::tests::story::chat;
use crate::request::tests::story::ms;
use crate::request::tests::story::run;
use crate::stream::Break;
use crate::stream::Message;
use crate::stream::Operation;

mod laws;
mod pace;
mod story;

const ID: &str = "chatcmpl-a-00000001";

/// A streamed chat whose engine side makes three tokens.
fn streamed() -> Story {
    let mut story = Story::vllm();
    story
        .ask(1, 10.0, &chat())
        .add(12.0, ID, 7)
        .reply(1, 12.5, 200, true)
        .step(20.1, &[&format!("{ID} 1 q@12.1 s@15 cached=4")])
        .say(1, 20.4, "id=chatcmpl-a")
        .say(1, 20.5, "text")
        .step(30.1, &[&format!("{ID} 1")])
        .say(1, 30.5, "text")
        .step(40.1, &[&format!("{ID} 1 fin=length")])
        .say(1, 40.5, "text finish=length")
        .say(1, 40.6, "done")
        .end(1, 40.7);
    story
}

fn phases_ms(record: &Request) -> [Option<f64>; 6] {
    let phases = record.phases;
    [phases.receive, phases.frontend, phases.queue, phases.prefill, phases.decode, phases.deliver]
        .map(|phase| phase.map(|ns| ns as f64 / 1e6))
}

fn why(record: &Request, name: &str) -> &'static str {
    record.null_reasons.get(name).copied().unwrap_or("no reason")
}

#[test]
fn a_stream_is_known_to_the_nanosecond() {
    let record = streamed().record();
    assert_eq!(record.join, Join::Id);
    assert_eq!(phases_ms(&record), [0.5, 1.6, 2.9, 5.0, 20.0, 0.7].map(Some));
    assert_eq!(record.ttft_ns(), Some(10_500_000));
    assert_eq!((record.input_tokens, record.cached_tokens, record.output_tokens), (Some(7), Some(4), Some(3)));
    assert_eq!((record.engine_tokens, record.output_tokens_estimated), (Some(3), false));
    assert_eq!(record.tpot_seconds, Some(0.01));
    assert_eq!(record.itl.as_ref().map(|itl| (itl.count, itl.sum_ns, itl.max_ns)), Some((2, 20_000_000, 10_000_000)));
    assert_eq!((record.finish_reasons, record.error_type), (vec!["length".to_owned()], None));
    assert!(record.incomplete.is_empty() && record.engine_at.first_token.is_some());
    assert_eq!(record.null_reasons.get("reasoning_tokens"), Some(&"no_usage"));
}

#[test]
fn a_complete_record_is_made_at_its_last_message() {
    let mut story = streamed();
    story.ask(2, 50.0, &chat());
    let updates = story.run().updates;
    let first = updates.iter().find(|update| matches!(update, Update::Ended(_) | Update::InFlight { requests: 1, .. }));
    assert!(matches!(first, Some(Update::Ended(_))), "{updates:?}");
}

#[test]
fn usage_wins_over_the_engines_count() {
    let mut story = streamed();
    story.say(1, 40.55, "usage=9/2");
    let record = story.record();
    assert_eq!((record.input_tokens, record.output_tokens, record.engine_tokens), (Some(9), Some(2), Some(3)));
    assert_eq!(record.engine_requests[0].overrun_tokens, 1);
    assert_eq!(record.last_output, Some(ms(30.0)));
}

#[test]
fn without_statistics_the_marks_are_missing_and_the_outputs_are_not() {
    let mut story = streamed();
    for (_, message) in &mut story.told {
        if let Message::Stepped { step, .. } = message {
            step.outputs[0].marks.clear();
            step.load = None;
        }
    }
    let record = story.record();
    assert_eq!(phases_ms(&record), [Some(0.5), Some(1.5), None, None, Some(20.0), Some(0.7)]);
    assert_eq!(why(&record, "phases.queue"), "engine_stats_off");
    assert_eq!(why(&record, "engine_at.queued"), "engine_said_none");
}

#[test]
fn a_mark_that_contradicts_its_probe_is_not_used() {
    for marks in ["q@11 s@15", "q@12.1 s@25"] {
        let mut story = streamed();
        story.told.retain(|(_, message)| !matches!(message, Message::Stepped { at, .. } if at.0 < 25_000_000));
        story.step(20.1, &[&format!("{ID} 1 {marks}")]);
        let outcome = story.run();
        assert_eq!(why(&outcome.records[0], "phases.queue"), "clock_untrusted");
        assert_eq!(outcome.vitals.clock_untrusted.get(), 1);
    }
}

#[test]
fn preempted_time_is_counted_inside_its_phase() {
    let mut story = streamed();
    story.told.retain(|(_, message)| !matches!(message, Message::Stepped { at, .. } if at.0 == 30_100_000));
    story.step(30.1, &[&format!("{ID} 1 p@22 s@27")]);
    let record = story.record();
    assert_eq!((record.preemptions, record.engine_requests[0].preempted_ns), (Some(1), 5_000_000));
    assert_eq!(record.engine_requests[0].scheduled, Some(ms(15.0)));
}

#[test]
fn two_children_are_one_record() {
    let mut story = Story::vllm();
    story
        .ask(1, 10.0, &chat().with(|_, body| body.params.n = Some(2)))
        .add(12.0, "0_chatcmpl-a-00000001", 7)
        .add(12.1, "1_chatcmpl-a-00000001", 7)
        .reply(1, 12.5, 200, true)
        .step(20.1, &["0_chatcmpl-a-00000001 1 q@12.5 s@15", "1_chatcmpl-a-00000001 1 q@12.6 s@16"])
        .say(1, 20.5, "id=chatcmpl-a text")
        .step(30.1, &["0_chatcmpl-a-00000001 1 fin=stop"])
        .step(40.1, &["1_chatcmpl-a-00000001 2 fin=length"])
        .say(1, 40.5, "text done")
        .end(1, 41.0);
    let record = story.record();
    assert_eq!((record.join, record.engine_requests.len()), (Join::Id, 2));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(7), Some(5)), "the prompt counts once");
    assert_eq!(phases_ms(&record), [0.5, 2.0, 2.5, 5.0, 20.0, 1.0].map(Some));
    assert_eq!(record.tpot_seconds, Some(0.01));
    assert_eq!(record.finish_reasons, ["stop", "length"]);
}

#[test]
fn two_prompts_are_one_record_and_both_count() {
    let mut story = Story::vllm();
    story
        .ask(1, 10.0, &chat().completion(2))
        .add(12.0, "cmpl-a-0-00000001", 7)
        .add(12.1, "cmpl-a-1-00000002", 8)
        .reply(1, 12.5, 200, true)
        .step(20.1, &["cmpl-a-0-00000001 2 q@12.1 s@15 fin=stop", "cmpl-a-1-00000002 1 q@12.2 s@15 fin=stop"])
        .say(1, 20.5, "id=cmpl-a text done")
        .end(1, 21.0);
    let record = story.record();
    assert_eq!((record.join, record.input_tokens, record.output_tokens), (Join::Id, Some(15), Some(3)));
}

/// A stop string after the second token: the front end aborts, a third and a fourth come all the same.
fn stopped() -> Story {
    let mut story = Story::vllm();
    story
        .ask(1, 10.0, &chat().with(|_, body| body.stop = true))
        .add(12.0, ID, 7)
        .reply(1, 12.5, 200, true)
        .step(20.1, &[&format!("{ID} 1 q@12.1 s@15")])
        .say(1, 20.5, "id=chatcmpl-a text")
        .step(30.1, &[&format!("{ID} 1")])
        .say(1, 30.5, "text finish=stop")
        .say(1, 30.6, "done")
        .end(1, 30.7)
        .abort(30.8, ID)
        .step(40.1, &[&format!("{ID} 2")]);
    story
}

#[test]
fn a_stop_string_leaves_the_engine_running_on() {
    let record = stopped().record();
    assert_eq!((record.output_tokens, record.output_tokens_estimated, record.engine_tokens), (Some(2), true, Some(4)));
    assert_eq!((record.last_output, record.engine_requests[0].overrun_tokens), (Some(ms(30.0)), 2));
    assert_eq!((record.error_type, record.finish_reasons), (None, vec!["stop".to_owned()]));

    let mut told = stopped();
    told.say(1, 30.55, "usage=7/2");
    let record = told.record();
    assert_eq!((record.output_tokens, record.output_tokens_estimated), (Some(2), false));
    assert_eq!(record.phases.decode, Some(10_000_000));
}

#[test]
fn a_client_that_leaves_in_mid_stream_got_what_was_written() {
    let mut story = streamed();
    story.told.retain(|(at, _)| *at < 35.0);
    story.step(34.1, &[&format!("{ID} 1")]).cut(1, 35.0, Break::ClientGone).abort(35.5, ID);
    story.step(44.1, &[&format!("{ID} 1")]);
    let record = story.record();
    assert_eq!(record.error_type.as_deref(), Some("client_disconnect"));
    assert_eq!((record.output_tokens, record.engine_tokens), (Some(2), Some(4)));
    assert_eq!((record.output_tokens_estimated, record.engine_requests[0].overrun_tokens), (true, 1));
    assert_eq!(phases_ms(&record), [0.5, 1.6, 2.9, 5.0, 10.0, 5.0].map(Some));
}

#[test]
fn a_client_that_leaves_before_the_first_token_takes_its_phase_along() {
    let mut story = Story::vllm();
    story.ask(1, 10.0, &chat()).add(12.0, ID, 7).cut(1, 25.0, Break::ClientGone).abort(25.5, ID);
    story.step(30.1, &[&format!("{ID} 1 q@12.1 s@15")]);
    let record = story.record();
    assert_eq!((record.join, record.status, why(&record, "status")), (Join::Elimination, None, "unobserved"));
    assert_eq!(phases_ms(&record), [Some(0.5), Some(1.6), Some(2.9), Some(10.0), None, None]);
    assert_eq!(why(&record, "phases.decode"), "no_output");
    assert_eq!((record.output_tokens, record.output_tokens_estimated, record.engine_tokens), (Some(0), false, Some(1)));
}

#[test]
fn an_abort_in_the_queue_is_joined_without_any_id() {
    let mut story = streamed();
    story.ask(2, 11.0, &chat()).add(13.0, "chatcmpl-b-00000002", 9).cut(2, 33.0, Break::ClientGone);
    story.abort(33.4, "chatcmpl-b-00000002");
    let outcome = story.run();
    let [_, record] = outcome.records.as_slice() else { panic!("{:?}", outcome.records) };
    assert_eq!((record.join, record.engine_requests[0].id.as_str()), (Join::Elimination, "chatcmpl-b-00000002"));
    assert_eq!(phases_ms(record), [Some(0.5), Some(1.5), Some(20.0), None, None, None]);
    assert_eq!(why(record, "phases.prefill"), "never_scheduled");
    assert_eq!((outcome.vitals.engine_unmatched.get(), outcome.vitals.joins_ambiguous.get()), (0, 0));
}

#[test]
fn sixteen_queued_and_aborted_one_after_the_other_are_all_joined() {
    let mut story = Story::vllm();
    for n in 0..16_u32 {
        let (x, t) = (u64::from(n) + 1, f64::from(n));
        let id = format!("chatcmpl-r{n}-0000000{n:x}");
        story.ask(x, 10.0, &chat()).add(12.0 + t / 100.0, &id, 7);
        story.cut(x, 50.0 + 3.0 * t, Break::ClientGone).abort(51.0 + 3.0 * t, &id);
    }
    let outcome = story.run();
    assert_eq!(outcome.records.len(), 16);
    for record in &outcome.records {
        let served =
            format!("chatcmpl-r{}-", record.accepted.map_or(0, |_| (record.finished.0 - 50_000_000) / 3_000_000));
        assert_eq!(record.join, Join::Elimination);
        assert!(record.engine_requests[0].id.starts_with(&served), "{record:?}");
    }
}

#[test]
fn aborts_that_cannot_be_told_apart_are_ambiguous_and_counted_once() {
    let mut story = Story::vllm();
    for (x, id) in [(1, "chatcmpl-a-00000001"), (2, "chatcmpl-b-00000002")] {
        story.ask(x, 10.0, &chat()).add(12.0, id, 7).cut(x, 20.0, Break::ClientGone).abort(21.0, id);
    }
    let outcome = story.run();
    assert_eq!(outcome.records.iter().map(|record| record.join).collect::<Vec<_>>(), [Join::Ambiguous; 2]);
    assert_eq!((outcome.vitals.joins_ambiguous.get(), outcome.vitals.engine_unmatched.get()), (2, 2));
    assert_eq!(why(&outcome.records[0], "phases.queue"), "ambiguous");
}

#[test]
fn an_engine_request_that_was_there_first_is_not_the_later_callers() {
    let mut story = Story::vllm();
    for (x, begun, id) in [(1, 10.0, "chatcmpl-a-00000001"), (2, 14.0, "chatcmpl-b-00000002")] {
        story.ask(x, begun, &chat()).add(begun + 2.0, id, 7).cut(x, 20.0, Break::ClientGone).abort(21.0, id);
    }
    let ids: Vec<String> = story.run().records.iter().map(|record| record.engine_requests[0].id.clone()).collect();
    assert_eq!(ids, ["chatcmpl-a-00000001", "chatcmpl-b-00000002"]);
}

#[test]
fn just_after_attaching_late_nothing_is_joined_by_elimination() {
    let mut story = Story::vllm();
    for (_, message) in &mut story.told {
        if let Message::Appeared { late, .. } = message {
            *late = true;
        }
    }
    story.ask(1, 10.0, &chat()).add(12.0, ID, 7).cut(1, 20.0, Break::ClientGone).abort(21.0, ID);
    assert_eq!(story.record().join, Join::Ambiguous);
}

#[test]
fn an_x_request_id_names_what_has_not_answered() {
    let mut story = Story::vllm();
    for (x, name) in [(1, "a"), (2, "b")] {
        let id = format!("chatcmpl-{name}-00000001");
        story.ask(x, 10.0, &chat().named(name)).add(12.0, &id, 7).cut(x, 20.0, Break::ClientGone).abort(21.0, &id);
    }
    let outcome = story.run();
    assert_eq!(outcome.records.iter().map(|record| record.join).collect::<Vec<_>>(), [Join::XRequestId; 2]);
    assert!(outcome.records.iter().all(|r| r.engine_requests[0].id.contains(r.x_request_id.as_deref().unwrap())));
}

#[test]
fn a_suffix_is_never_taken_for_another_callers_id() {
    // Without an external id: `a` with a suffix, or the whole of the other's `a-1b2c3d4e`.
    let mut story = Story::vllm();
    for (x, name, id) in [(1, "a", "chatcmpl-a"), (2, "a-1b2c3d4e", "chatcmpl-a-1b2c3d4e")] {
        story.ask(x, 10.0, &chat().named(name)).add_with(12.0, CORE, |added| added.id = id.to_owned());
        story.reply(x, 13.0, 200, true).step(20.1, &[&format!("{id} 1 fin=stop")]);
        story.say(x, 21.0, &format!("id={id} text finish=stop done")).end(x, 22.0);
    }
    for record in story.run().records {
        assert_eq!(Some(record.engine_requests[0].id.clone()), record.response_id);
    }
    // A caller's `a-0` against the first prompt of `a`.
    let mut story = Story::vllm();
    for (x, name) in [(1, "a"), (2, "a-0")] {
        let id = format!("cmpl-{name}-0-0000000{x}");
        story.ask(x, 10.0, &chat().completion(1).named(name)).add(12.0, &id, 7).reply(x, 13.0, 200, true);
        story
            .step(20.1, &[&format!("{id} 1 fin=stop")])
            .say(x, 21.0, &format!("id=cmpl-{name} text done"))
            .end(x, 22.0);
    }
    for record in story.run().records {
        assert_eq!(record.engine_requests.len(), 1);
        assert_eq!(record.engine_requests[0].external_id, record.response_id.map(|id| format!("{id}-0")));
    }
}

#[test]
fn a_refused_request_spent_its_time_in_the_front_end() {
    let mut story = Story::vllm();
    story.ask(1, 10.0, &chat()).reply(1, 11.0, 400, false).say(1, 11.0, "error=BadRequestError").end(1, 12.0);
    let record = story.record();
    assert_eq!((record.join, record.error_type.as_deref()), (Join::None, Some("400")));
    assert_eq!(phases_ms(&record), [Some(0.5), Some(1.5), None, None, None, None]);
    for name in ["phases.queue", "engine_requests", "input_tokens", "output_tokens", "preemptions"] {
        assert_eq!(why(&record, name), "not_reached_engine", "{name}");
    }
}

#[test]
fn an_answer_that_blames_nobody_leaves_the_engine_request_its_owner() {
    let mut timeout = Story::vllm();
    timeout.ask(1, 10.0, &chat()).add(12.0, ID, 7).reply(1, 20.0, 408, false).end(1, 20.5).abort(21.0, ID);
    let mut rubbish = Story::vllm();
    rubbish.ask(1, 10.0, &chat()).reply_to_rubbish(1, 11.0).end(1, 11.5).add(12.0, ID, 7).abort(13.0, ID);
    for (story, status) in [(timeout, "408"), (rubbish, "400")] {
        let record = story.record();
        assert_eq!((record.join, record.error_type.as_deref()), (Join::Elimination, Some(status)));
        assert_eq!((record.input_tokens, record.engine_requests.len()), (Some(7), 1));
    }
}

#[test]
fn what_cannot_be_seen_says_why() {
    let untapped: Vec<(EngineKind, &str)> =
        vec![(EngineKind::Vllm, "engine_not_tapped"), (EngineKind::Other, "engine_kind_unsupported")];
    for (kind, reason) in untapped {
        let mut story = Story::default();
        story.process(FRONT, Role::Frontend, kind).ask(1, 10.0, &chat()).reply(1, 12.0, 200, true);
        story.say(1, 20.0, "id=x text").say(1, 24.0, "text finish=stop usage=3/5 done").end(1, 25.0);
        let record = story.record();
        assert_eq!((why(&record, "phases.queue"), record.phases.receive), (reason, Some(500_000)));
        assert_eq!((record.output_tokens, record.tpot_seconds), (Some(5), Some(0.001)));
    }
}

#[test]
fn who_was_asked_before_the_engine_was_followed_is_marked() {
    let mut story = Story::vllm();
    story.told[1].0 = 11.0;
    story
        .ask(1, 10.0, &chat())
        .reply(1, 12.0, 200, true)
        .say(1, 20.0, "id=x text")
        .say(1, 24.0, "text finish=stop usage=3/5 done")
        .end(1, 25.0);
    let record = story.record();
    assert_eq!(
        (why(&record, "phases.queue"), &record.incomplete[..]),
        ("engine_not_tapped", &[Incomplete::AttachedLate][..])
    );
}

#[test]
fn an_engine_request_without_http_is_a_record_of_its_own() {
    let mut story = Story::vllm();
    story.add_with(12.0, CORE, |added| added.id = "grpc-1".to_owned());
    story.step(20.1, &["grpc-1 1 q@12.1 s@15"]).step(30.1, &["grpc-1 1 fin=stop"]);
    let record = story.record();
    assert_eq!((record.join, record.pid, record.status), (Join::EngineOnly, CORE, None));
    assert_eq!((record.phases.queue, record.phases.decode), (Some(2_900_000), Some(10_000_000)));
    assert!(record.incomplete.is_empty());
}

#[test]
fn one_that_began_before_is_marked() {
    let mut story = Story::vllm();
    story.step(20.1, &[&format!("{ID} 1")]).step(30.1, &[&format!("{ID} 1 fin=stop")]);
    let record = story.record();
    assert_eq!((record.join, record.incomplete.as_slice()), (Join::EngineOnly, &[Incomplete::AttachedLate][..]));
}

#[test]
fn equal_names_on_two_cores_are_told_apart_by_when_they_ended() {
    let mut story = Story::vllm();
    story.process(CORE_2, Role::Core, EngineKind::Vllm);
    for (x, core, id, end) in [(1, CORE, "chatcmpl-a-00000001", 30.0), (2, CORE_2, "chatcmpl-a-00000002", 60.0)] {
        story.ask(x, 10.0, &chat().named("a")).reply(x, 13.0, 200, true);
        story.add_with(12.0, core, |added| {
            added.id = id.to_owned();
            added.external_id = Some("chatcmpl-a".to_owned());
        });
        story.step_of(core, 20.1, &[&format!("{id} 1 q@12.5 s@13")]).say(x, 21.0, "id=chatcmpl-a text");
        story.step_of(core, end, &[&format!("{id} 1 fin=stop")]);
        story.say(x, end + 1.0, "text finish=stop done").end(x, end + 2.0);
    }
    let outcome = story.run();
    let cores: Vec<_> =
        outcome.records.iter().map(|record| (record.finished, record.engine_requests[0].engine)).collect();
    assert_eq!(cores, [(ms(32.0), CORE), (ms(62.0), CORE_2)]);
}

#[test]
fn an_engine_that_dies_ends_what_it_had() {
    let mut story = streamed();
    story.told.retain(|(at, _)| *at < 35.0);
    story.tell(35.0, Message::Died { engine: CORE, at: ms(35.0) }).cut(1, 36.0, Break::ServerClosed);
    let record = story.record();
    assert_eq!((record.join, record.error_type.as_deref()), (Join::Id, Some("engine_dead")));
    assert_eq!((record.output_tokens, record.status), (Some(2), Some(200)));
}

#[test]
fn losses_mark_what_they_touch() {
    let mut story = streamed();
    story.lose(1, 21.0).tell(21.0, Message::EngineLost { engine: CORE, at: ms(21.0) });
    let record = story.record();
    assert_eq!(record.incomplete, [Incomplete::RecordsLost, Incomplete::EngineMessagesLost]);

    let mut story = streamed();
    story.tell(45.0, Message::EngineLost { engine: CORE, at: ms(45.0) });
    assert!(story.record().incomplete.is_empty(), "it had ended");
}

#[test]
fn an_engine_request_whose_exchange_may_be_lost_says_so() {
    let alone = |lost: Option<f64>| {
        let mut story = Story::vllm();
        story.add(2_000.0, ID, 9).step(2_020.1, &[&format!("{ID} 1 fin=stop")]);
        if let Some(at) = lost {
            story.tell(at, Message::ExchangesLost { at: ms(at) });
        }
        story.record().incomplete
    };
    assert_eq!((alone(None), alone(Some(900.0))), (vec![], vec![]));
    assert_eq!(alone(Some(2_030.0)), [Incomplete::RecordsLost]);
}

#[test]
fn an_embedding_has_no_output_tokens() {
    let mut story = Story::vllm();
    story.ask(
        1,
        10.0,
        &chat().with(|head, body| {
            head.operation = Operation::Embeddings;
            body.stream = None;
        }),
    );
    story.add(12.0, "embd-a-0-00000001", 7).step(20.1, &["embd-a-0-00000001 0 q@12.1 s@15 fin=stop"]);
    story.reply(1, 21.0, 200, false).say(1, 21.0, "id=embd-a").end(1, 22.0);
    let record = story.record();
    assert_eq!((record.join, record.input_tokens, record.output_tokens), (Join::Id, Some(7), None));
    assert_eq!(why(&record, "output_tokens"), "no_tokens_for_operation");
    assert_eq!(phases_ms(&record), [0.5, 1.6, 2.9, 5.0, 0.0, 2.0].map(Some));
}

#[test]
fn full_tables_end_the_oldest_early_and_count_it() {
    let mut story = streamed();
    story.ask(2, 50.0, &chat()).ask(3, 51.0, &chat());
    let outcome = run(&story.sorted(), Config { requests: 1, engine_requests: 1, ..Config::default() });
    let evicted = outcome.records.iter().filter(|record| record.incomplete.contains(&Incomplete::Evicted)).count();
    assert_eq!((outcome.records.len(), evicted, outcome.vitals.evicted.get()), (3, 1, 1));
}

#[test]
fn gauges_are_read_off_on_a_tick() {
    let mut story = Story::vllm();
    story.ask(1, 10.0, &chat()).add(12.0, ID, 7).add(13.0, "chatcmpl-b-00000002", 5);
    story.step(20.1, &[&format!("{ID} 1")]).ask(2, 150.0, &chat());
    let updates = story.run().updates;
    let engine = updates.iter().find_map(|update| {
        let Update::Engine { queued_tokens, live: 2, load, .. } = update else { return None };
        Some((*queued_tokens, load.running))
    });
    assert_eq!(engine, Some((5, Some(1))));
    assert!(updates.contains(&Update::InFlight { pid: FRONT, requests: 2 }));
}
