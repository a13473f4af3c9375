//! Steps in, what a tick says of an engine's pace out.

use super::ID;
use crate::clock::MonoNs;
use crate::request::Steps;
use crate::request::Update;
use crate::request::tests::story::CORE;
use crate::request::tests::story::Story;
use crate::request::tests::story::ms;
use crate::stream::Load;
use crate::stream::Message;
use crate::stream::Step;

/// What a story's last tick said of the engine's steps, with `usual_ns` to the nearest millisecond.
fn steps(story: &Story) -> (Option<MonoNs>, Option<u64>, Option<MonoNs>, Option<MonoNs>) {
    let updates = story.run().updates;
    let last = updates.iter().rev().find_map(|update| match update {
        Update::Engine { steps, .. } => Some(*steps),
        Update::Ended(_) | Update::Worked { .. } | Update::InFlight { .. } | Update::Gone(_) => None,
    });
    let Steps { last, usual_ns, work_since, asleep_since, longest_prompt: _ } = last.unwrap();
    (last, usual_ns.map(|ns| (ns + 500_000) / 1_000_000), work_since, asleep_since)
}

#[test]
fn the_usual_step_is_that_of_a_busy_engine() {
    let mut story = Story::vllm();
    story.add(10.0, ID, 7);
    for step in 0..200_u32 {
        // One in ten is long; the messages of one step count as one.
        let at = 20.0 + f64::from(step) * 20.0 + f64::from(step / 10) * 500.0;
        story.step(at, &[&format!("{ID} 1")]).step(at, &[&format!("{ID} 0")]);
    }
    let (last, usual_ms, work_since, _) = steps(&story);
    assert_eq!((last, work_since), (Some(ms(20.0 + 199.0 * 20.0 + 19.0 * 500.0)), Some(ms(10.0))));
    assert!((18..=26).contains(&usual_ms.unwrap()), "{usual_ms:?}");
}

#[test]
fn an_engine_that_says_it_has_no_work_has_none() {
    let idle = |at: f64| {
        let load = Some(Load { running: Some(0), waiting: Some(0), kv_usage: Some(0.0) });
        let step = Box::new(Step { timestamp: Some(ms(at)), load, ..Step::default() });
        (at, Message::Stepped { engine: CORE, at: ms(at), step })
    };
    let mut story = Story::vllm();
    story.add(10.0, ID, 7).step(20.0, &[&format!("{ID} 1")]);
    assert_eq!(steps(&story).2, Some(ms(10.0)));
    story.told.push(idle(30.0));
    assert_eq!(steps(&story).2, Some(ms(10.0)), "it may not have read the request then");
    story.told.push(idle(1_500.0));
    assert_eq!(steps(&story).2, None, "the end of the request was not seen");
    story.add(9_000.0, "chatcmpl-b-00000002", 5).step(9_010.0, &[]);
    assert_eq!((steps(&story).1, steps(&story).2), (Some(10), Some(ms(9_000.0))), "the gap was no step");
}

#[test]
fn an_engine_sleeps_until_it_is_woken_or_steps() {
    let slept = |at: f64, asleep| (at, Message::Slept { engine: CORE, at: ms(at), asleep });
    let mut story = Story::vllm();
    story.told.extend([slept(10.0, true), slept(20.0, true)]);
    assert_eq!(steps(&story).3, Some(ms(10.0)));
    let mut stepped = story.clone();
    stepped.step(30.0, &[]);
    assert_eq!(steps(&stepped).3, None);
    story.told.push(slept(40.0, false));
    story.add(15.0, ID, 7);
    assert_eq!(
        (steps(&story).2, steps(&story).3),
        (Some(ms(40.0)), None),
        "what waited meanwhile is work from then on"
    );
}
