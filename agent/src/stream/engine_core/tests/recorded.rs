//! Frames that real vLLMs sent in, what was asked of them out.

use super::Bench;
use crate::clock::MonoNs;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Message;
use crate::stream::Params;
use crate::stream::Step;

/// Later than anything that was recorded.
const LATER: MonoNs = MonoNs(u64::MAX / 2);

/// One request's messages, and those of two others.
struct Recorded {
    version: &'static str,
    add: &'static [u8],
    abort: &'static [u8],
    first: &'static [u8],
    last: &'static [u8],
    logprobs: &'static [u8],
}

macro_rules! frame {
    ($version:literal, $name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/engine_core/",
            $version,
            "/recorded-",
            $name,
            ".bin"
        ))
    };
}

macro_rules! recorded {
    ($($version:literal)*) => {
        &[$(Recorded {
            version: $version,
            add: frame!($version, "add"),
            abort: frame!($version, "abort"),
            first: frame!($version, "first"),
            last: frame!($version, "last"),
            logprobs: frame!($version, "logprobs"),
        }),*]
    };
}

const ALL: &[Recorded] = recorded!("0.16.0" "0.24.0" "0.32.0");

/// The step that a frame is.
fn step(frame: &[u8]) -> Step {
    let bench = Bench::new().at(LATER).sent(frame);
    assert_eq!((bench.vitals.clock_untrusted.get(), bench.vitals.engine_undecoded.get()), (0, 0));
    bench.step().clone()
}

#[test]
fn an_add_says_what_the_caller_asked_for() {
    for Recorded { version, add, .. } in ALL {
        let bench = Bench::new().at(LATER).received(0, add);
        let [Message::Added { request, .. }] = bench.out.as_slice() else { panic!("{version}: no ADD") };
        assert!(request.id.starts_with("chatcmpl-recorded-chat-"), "{version}: {}", request.id);
        assert_eq!(request.external_id.as_deref(), Some("chatcmpl-recorded-chat"), "{version}");
        let counts = (request.prompt_tokens, request.client_index, request.output_kind);
        assert_eq!(counts, (Some(25), Some(0), Some(1)), "{version}");
        let params = Params {
            temperature: Some(0.7),
            top_p: Some(0.9),
            top_k: Some(20),
            seed: None,
            max_tokens: Some(4),
            n: None,
            presence_penalty: Some(0.5),
            frequency_penalty: Some(0.25),
            repetition_penalty: Some(1.5),
        };
        assert_eq!(request.params, params, "{version}");
    }
}

#[test]
fn an_abort_names_the_request_whose_caller_left() {
    for Recorded { version, abort, .. } in ALL {
        let bench = Bench::new().at(LATER).received(1, abort);
        let [Message::Aborted { ids, .. }] = bench.out.as_slice() else { panic!("{version}: no ABORT") };
        let [id] = ids.as_slice() else { panic!("{version}: {ids:?}") };
        assert!(id.starts_with("chatcmpl-recorded-left-"), "{version}: {id}");
    }
}

#[test]
fn the_first_output_carries_events_and_the_last_one_the_finish() {
    for Recorded { version, first, last, logprobs, .. } in ALL {
        let (first, last, logprobs) = (step(first), step(last), step(logprobs));
        let at = first.timestamp.unwrap();
        assert!(last.timestamp.unwrap() > at, "{version}");
        let (Load { running, waiting, kv_usage }, idle) = (first.load.unwrap(), last.load.unwrap());
        assert_eq!((running, waiting), (Some(1), Some(0)), "{version}");
        assert!(kv_usage.unwrap() > 0.0, "{version}");
        assert_eq!(idle, Load { running: Some(0), waiting: Some(0), kv_usage: Some(0.0) }, "{version}");

        let [output] = first.outputs.as_slice() else { panic!("{version}: not one output") };
        assert!(output.id.starts_with("chatcmpl-recorded-chat-"), "{version}: {}", output.id);
        assert_eq!((output.tokens, output.finish, output.cached_tokens), (1, None, Some(0)), "{version}");
        let [(Mark::Queued, queued), (Mark::Scheduled, scheduled)] = output.marks.as_slice() else {
            panic!("{version}: {:?}", output.marks)
        };
        assert!(queued < scheduled && scheduled < &at, "{version}");
        // Up to 0.16 a first output carries a bare count of cached tokens and no prefill facts.
        let prompt_tokens = Some(25).filter(|_| *version != "0.16.0");
        assert_eq!(output.prompt_tokens, prompt_tokens, "{version}");

        let [output] = last.outputs.as_slice() else { panic!("{version}: not one output") };
        assert_eq!((output.tokens, output.finish), (1, Some(Finish::Length)), "{version}");
        assert_eq!(output.marks, [], "{version}");

        let [output] = logprobs.outputs.as_slice() else { panic!("{version}: not one output") };
        assert!(output.id.starts_with("cmpl-recorded-logprobs-0-"), "{version}: {}", output.id);
        assert_eq!((output.tokens, output.marks.len()), (1, 2), "{version}");
    }
}
