//! Frames of several vLLM versions in, the same messages out; broken bytes in, marks and counts out.

mod masked;
mod recorded;

use super::Config;
use super::EngineCore;
use crate::clock::MonoNs;
use crate::ident::Pid;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::Way;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Message;
use crate::stream::Output;
use crate::stream::Params;
use crate::stream::Step;
use crate::vitals::Vitals;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::proptest;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/engine_core/", $name)).as_slice()
    };
}

const ENGINE: Pid = Pid(7);
const AT: MonoNs = MonoNs(1_001_000_000_000);
const ID: &str = "chatcmpl-b04707754be6bc68-9022f83e";
const OLD_ID: &str = "chatcmpl-b04707754be6bc68";
const ADD: &[u8] = fixture!("0.32.0/add.bin");
const ABORT: &[u8] = fixture!("0.32.0/abort.bin");
const OUTPUTS: &[u8] = fixture!("0.32.0/outputs.bin");

/// An engine core's reader with what it made so far.
struct Bench {
    core: EngineCore,
    at: MonoNs,
    vitals: Vitals,
    out: Vec<Message>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self { core: EngineCore::new(config), at: AT, vitals: Vitals::default(), out: Vec::new() }
    }

    fn piece(&mut self, way: Way, bytes: &[u8], offset: usize, total: usize, more: bool) {
        let (offset, total) = (u32::try_from(offset).unwrap(), u32::try_from(total).unwrap());
        let event = Event::Frame { engine: ENGINE, tid: 8, way, at: self.at, bytes, offset, total, more };
        self.core.push(&event, &self.vitals, &mut self.out);
    }

    fn frame(&mut self, way: Way, bytes: &[u8]) {
        self.piece(way, bytes, 0, bytes.len(), false);
    }

    fn sent(mut self, bytes: &[u8]) -> Self {
        self.frame(Way::Out, bytes);
        self
    }

    fn sent_more(mut self, bytes: &[u8]) -> Self {
        self.piece(Way::Out, bytes, 0, bytes.len(), true);
        self
    }

    fn received(mut self, kind: u8, payload: &[u8]) -> Self {
        self.frame(Way::In, &[kind]);
        self.frame(Way::In, payload);
        self
    }

    fn lost(mut self) -> Self {
        let event = Event::FramesLost { engine: ENGINE, tid: 8, at: AT, records: 1 };
        self.core.push(&event, &self.vitals, &mut self.out);
        self
    }

    /// Every message by a letter: Added, aBorted, Stepped, asleep (Z), Woken, Died, Lost.
    fn letters(&self) -> String {
        let letter = |message: &Message| match message {
            Message::Added { .. } => 'A',
            Message::Aborted { .. } => 'B',
            Message::Stepped { .. } => 'S',
            Message::Slept { asleep: true, .. } => 'Z',
            Message::Slept { asleep: false, .. } => 'W',
            Message::Died { .. } => 'D',
            Message::EngineLost { .. } => 'L',
            other => panic!("not an engine's message: {other:?}"),
        };
        self.out.iter().map(letter).collect()
    }

    fn at(mut self, at: MonoNs) -> Self {
        self.at = at;
        self
    }

    fn step(&self) -> &Step {
        let [Message::Stepped { step, .. }] = self.out.as_slice() else { panic!("no single step: {:?}", self.out) };
        step
    }
}

fn ms(ms: u64) -> MonoNs {
    MonoNs(ms * 1_000_000)
}

/// What the outputs of every version say, but for what a version does not send.
fn expected_step(id: &str, prompt_tokens: Option<u32>, later_cached: Option<u32>, waiting: u32) -> Step {
    let first = Output {
        id: id.to_owned(),
        tokens: 2,
        marks: vec![(Mark::Queued, ms(1_000_250)), (Mark::Scheduled, ms(1_000_500))],
        prompt_tokens,
        cached_tokens: Some(16),
        ..Output::default()
    };
    let later = |id: &str, finish| Output {
        id: id.to_owned(),
        tokens: 1,
        finish,
        cached_tokens: later_cached,
        ..Output::default()
    };
    Step {
        index: 1,
        timestamp: Some(ms(1_000_750)),
        outputs: vec![first, later("1_cmpl-x-0", None), later("cmpl-y-0", Some(Finish::Stop))],
        load: Some(Load { running: Some(3), waiting: Some(waiting), kv_usage: Some(0.25) }),
    }
}

#[test]
fn outputs_of_every_version_say_the_same() {
    for (bytes, expected) in [
        (fixture!("0.11.2/outputs.bin"), expected_step(OLD_ID, None, Some(0), 2)),
        (fixture!("0.16.0/outputs.bin"), expected_step(ID, None, Some(0), 2)),
        (fixture!("0.18.0/outputs.bin"), expected_step(ID, None, Some(0), 2)),
        (fixture!("0.24.0/outputs.bin"), expected_step(ID, Some(40), None, 3)),
        (OUTPUTS, expected_step(ID, Some(40), None, 3)),
    ] {
        let bench = Bench::new().sent(bytes);
        assert_eq!(bench.step(), &expected);
        assert_eq!(bench.vitals.engine_messages.get(), 1);
    }
}

#[test]
fn adds_of_every_version_say_the_same() {
    let params = Params {
        temperature: Some(0.7),
        top_p: Some(0.9),
        top_k: Some(20),
        seed: Some(7),
        max_tokens: Some(64),
        n: None,
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.25),
        repetition_penalty: Some(1.5),
    };
    for (bytes, id, external) in [
        (fixture!("0.11.2/add.bin"), OLD_ID, None),
        (fixture!("0.16.0/add.bin"), ID, Some(OLD_ID)),
        (fixture!("0.18.0/add.bin"), ID, Some(OLD_ID)),
        (fixture!("0.24.0/add.bin"), ID, Some(OLD_ID)),
        (ADD, ID, Some(OLD_ID)),
    ] {
        let bench = Bench::new().received(0, bytes);
        let [Message::Added { engine: ENGINE, at: AT, request }] = bench.out.as_slice() else { panic!("no ADD") };
        assert_eq!((request.id.as_str(), request.external_id.as_deref()), (id, external));
        assert_eq!((request.prompt_tokens, request.client_index, request.output_kind), (Some(40), Some(2), Some(1)));
        assert_eq!(request.params, params);
    }
}

#[test]
fn pooling_and_embeddings_have_no_sampling_or_no_count() {
    let bench =
        Bench::new().received(0, fixture!("0.32.0/add_pooling.bin")).received(0, fixture!("0.32.0/add_embeds.bin"));
    let [Message::Added { request: pooling, .. }, Message::Added { request: embeds, .. }] = bench.out.as_slice() else {
        panic!("not two ADDs")
    };
    assert_eq!((pooling.external_id.as_deref(), pooling.prompt_tokens), (Some("embd-1"), Some(3)));
    assert_eq!((&pooling.params, pooling.client_index), (&Params::default(), Some(0)));
    assert_eq!((embeds.external_id.as_deref(), embeds.prompt_tokens), (Some("cmpl-e-0"), None));
    assert_eq!((embeds.params.max_tokens, embeds.params.temperature), (Some(4), Some(0.0)));
    assert_eq!((embeds.client_index, embeds.output_kind), (Some(0), Some(2)));
}

#[test]
fn an_abort_names_its_ids() {
    let bench = Bench::new().received(1, ABORT);
    let ids = vec![ID.to_owned(), "cmpl-y-0".to_owned()];
    assert_eq!(bench.out, [Message::Aborted { engine: ENGINE, at: AT, ids }]);
}

#[test]
fn a_call_puts_an_engine_to_sleep_or_wakes_it() {
    let call =
        |method: &str| [&[0x94, 0, 7, 0xa0 | u8::try_from(method.len()).unwrap()], method.as_bytes(), &[0x90]].concat();
    for (method, letters) in [
        ("sleep", "BZ"),
        ("wake_up", "BW"),
        ("pause_scheduler", "BZ"),
        ("resume_scheduler", "BW"),
        ("is_sleeping", "B"),
        ("add_lora", "B"),
    ] {
        let bench = Bench::new().received(1, ABORT).received(3, &call(method));
        assert_eq!((bench.letters().as_str(), bench.vitals.engine_other.get()), (letters, 1), "{method}");
    }
}

#[test]
fn a_payload_counts_after_its_type_frame_only() {
    let mut bench = Bench::new();
    for frame in [ADD, &[0], &[0], ADD, ADD, &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[0], ADD, &[1], ABORT] {
        bench.frame(Way::In, frame);
    }
    assert_eq!(bench.letters(), "AB", "read before a type, repeated, or a tensor: not said again");
    let bench = bench.received(2, &[0x92, 1, 2]).received(3, &[0x90]).received(5, &[]);
    assert_eq!((bench.letters().as_str(), bench.vitals.engine_other.get()), ("AB", 3));
}

/// As an engine core's main thread receives them while its workers start, seen in 0.32.0.
#[test]
fn greetings_between_an_engine_and_its_workers_are_no_requests() {
    let mut bench = Bench::new();
    for frame in [&[1], [0; 5].as_slice(), b"READY", &[0], &[0; 31]] {
        bench.frame(Way::In, frame);
    }
    assert_eq!((bench.letters().as_str(), bench.vitals.engine_undecoded.get()), ("", 0));
    let bench = bench.received(0, ADD).received(0, &[0; 31]);
    assert_eq!((bench.letters().as_str(), bench.vitals.engine_undecoded.get()), ("AL", 1));
}

#[test]
fn an_id_that_comes_again_is_a_new_request() {
    let mut again = ADD.to_vec();
    let arrival = again.windows(9).position(|bytes| bytes.starts_with(&[0xcb, 0x41, 0xda])).unwrap();
    again[arrival + 8] ^= 1;
    assert_eq!(Bench::new().received(0, ADD).received(0, &again).letters(), "AA");
}

#[test]
fn what_is_no_outputs_is_told_apart() {
    for (bytes, letters, other) in [
        (b"ENGINE_CORE_DEAD".as_slice(), "D", 0),
        (fixture!("0.32.0/utility.bin"), "", 1),
        (fixture!("0.32.0/wave.bin"), "", 1),
        (fixture!("0.32.0/kv_events.bin"), "", 1),
        (b"\x82\xa6status\xa5HELLO\xa5local\xc3", "", 1),
        (b"\x80\x05\x95pickled", "", 1),
        (b"\x07", "", 1),
        (b"", "", 1),
        (b"\xc1", "", 1),
        // A list of lists of statistics, for the coordinator.
        (b"\x93\x92\x01\x02\x03\xc2", "", 1),
        // An output without an id.
        (b"\x92\x00\x91\x92\xc0\x90", "L", 0),
        // One byte after the end.
        (b"\x94\x00\x90\xc0\xcb\x40\x8f\x40\x00\x00\x00\x00\x00\x00", "L", 0),
    ] {
        let bench = Bench::new().sent(bytes);
        assert_eq!((bench.letters().as_str(), bench.vitals.engine_other.get()), (letters, other), "{bytes:x?}");
        assert_eq!(bench.vitals.engine_messages.get(), 1);
        assert_eq!(bench.vitals.engine_undecoded.get(), u64::from(letters == "L"));
    }
}

#[test]
fn a_notice_to_the_coordinator_measures_no_kv_usage() {
    for (running, kv_usage) in [(2, None), (0, Some(0.0))] {
        let stats = [b"\x82\xb0num_running_reqs".as_slice(), &[running], b"\xaekv_cache_usage\xca\0\0\0\0"].concat();
        let bench = Bench::new().sent(&[b"\x93\x00\x90", stats.as_slice()].concat());
        assert_eq!(bench.step().load, Some(Load { running: Some(running.into()), waiting: None, kv_usage }));
    }
}

#[test]
fn only_the_first_frame_of_a_message_speaks() {
    let broken = b"\x92\x00\x91\x92\xc0\x90";
    let bench = Bench::new()
        .sent_more(fixture!("0.32.0/prompt_logprobs.0.bin"))
        .sent_more(fixture!("0.32.0/prompt_logprobs.1.bin"))
        .sent(broken)
        .sent(fixture!("0.32.0/logprobs.bin"));
    assert_eq!((bench.letters().as_str(), bench.vitals.engine_other.get()), ("SS", 0));
    assert_eq!(Bench::new().sent_more(OUTPUTS).sent(OUTPUTS).letters(), "SS", "the frames between were dropped");
}

#[test]
fn structures_by_name_read_like_structures_by_place() {
    let output = [
        b"\x85\xaarequest_id\xa1r\xadnew_token_ids\x93\x01\x02\x03\xadfinish_reason\xa6length".as_slice(),
        b"\xa6events\x92\x92\xa6QUEUED\xcb\x40\x8f\x40\x00\x00\x00\x00\x00\x82\xa4type\x03\xa9timestamp\xcd\x03\xe8",
        b"\xb1num_cached_tokens\x05",
    ]
    .concat();
    let message = [
        b"\x84\xacengine_index\x02\xa7outputs\x91".as_slice(),
        &output,
        b"\xa9timestamp\xcb\x40\x8f\x40\x00\x00\x00\x00\x00",
        b"\xafscheduler_stats\x81\xafgpu_cache_usage\xca\x3f\x00\x00\x00",
    ]
    .concat();
    let bench = Bench::new().sent(&message);
    let output = Output {
        id: "r".to_owned(),
        tokens: 3,
        finish: Some(Finish::Length),
        marks: vec![(Mark::Queued, ms(1_000_000)), (Mark::Preempted, ms(1_000_000))],
        prompt_tokens: None,
        cached_tokens: Some(5),
    };
    let load = Load { kv_usage: Some(0.5), ..Load::default() };
    let step = Step { index: 2, timestamp: Some(ms(1_000_000)), outputs: vec![output], load: Some(load) };
    assert_eq!(bench.step(), &step);
}

#[test]
fn token_ids_may_be_a_numpy_array_and_finish_codes_may_be_new() {
    for (rest, tokens, finish) in [
        (b"\x93\xa3<i4\x91\x02\xc7\x08\x03abcdefgh\xc0\xc0\xc0\x09".as_slice(), 2, Some(Finish::Unknown)),
        (b"\x90\xc0\xc0\xc0\x02", 0, Some(Finish::Abort)),
        (b"\xc0\xc0\xc0\xc0\xc0", 0, None),
    ] {
        let bench = Bench::new().sent(&[b"\x92\x00\x91\x96\xa1r", rest].concat());
        let [output] = bench.step().outputs.as_slice() else { panic!("no output") };
        assert_eq!((output.tokens, output.finish), (tokens, finish));
    }
}

#[test]
fn instants_after_their_probe_are_not_used() {
    let mut bench = Bench::new();
    let early = Event::Frame {
        engine: ENGINE,
        tid: 8,
        way: Way::Out,
        at: ms(1_000_700),
        bytes: OUTPUTS,
        offset: 0,
        total: u32::try_from(OUTPUTS.len()).unwrap(),
        more: false,
    };
    bench.core.push(&early, &bench.vitals, &mut bench.out);
    assert_eq!((bench.step().timestamp, bench.vitals.clock_untrusted.get()), (None, 3));
    assert!(bench.step().outputs.iter().all(|output| output.marks.is_empty()), "marks come from the same clock");

    let mut late_mark = OUTPUTS.to_vec();
    let scheduled =
        late_mark.windows(9).position(|bytes| bytes == [&[0xcb], 1000.5_f64.to_be_bytes().as_slice()].concat());
    let at = scheduled.unwrap() + 1;
    late_mark[at..at + 8].copy_from_slice(&1000.9_f64.to_be_bytes());
    let bench = Bench::new().sent(&late_mark);
    assert_eq!(bench.step().timestamp, Some(ms(1_000_750)));
    assert_eq!(bench.step().outputs[0].marks, [(Mark::Queued, ms(1_000_250))]);
    assert_eq!(bench.vitals.clock_untrusted.get(), 1);
}

#[test]
fn a_message_that_ends_early_is_never_a_step_or_a_request() {
    for n in 0..OUTPUTS.len() {
        let bench = Bench::new().sent(&OUTPUTS[..n]);
        assert!(!bench.letters().contains('S'), "{n} bytes");
    }
    for n in 9..ADD.len() {
        assert_eq!(Bench::new().received(0, &ADD[..n]).letters(), "L", "{n} bytes");
    }
    for n in 9..ABORT.len() {
        assert_eq!(Bench::new().received(1, &ABORT[..n]).letters(), "L", "{n} bytes");
    }
}

#[test]
fn a_cap_cuts_outputs_to_a_loss_and_an_add_to_its_head() {
    // Array header, id, header of the prompt.
    let head = 3 + 2 + ID.len() + 3;
    for cap in 1..ADD.len() {
        let mut bench = Bench::with(Config { frame_bytes: cap, cores: 1 });
        bench.frame(Way::In, &[0]);
        bench.piece(Way::In, &ADD[..cap], 0, ADD.len(), false);
        assert_eq!(bench.letters(), if cap < head { "L" } else { "AL" }, "{cap} bytes");
        if let Message::Added { request, .. } = &bench.out[0] {
            assert_eq!((request.id.as_str(), request.prompt_tokens), (ID, Some(40)));
        }
        assert_eq!(bench.vitals.engine_lost.get(), 1);
    }
    for cap in 1..OUTPUTS.len() {
        let mut bench = Bench::with(Config { frame_bytes: cap, cores: 1 });
        bench.piece(Way::Out, &OUTPUTS[..cap], 0, OUTPUTS.len(), false);
        bench.piece(Way::Out, &OUTPUTS[cap..], cap, OUTPUTS.len(), false);
        let bench = bench.sent(&OUTPUTS[..4]);
        assert!(bench.letters().starts_with('L'), "{cap} bytes");
    }
}

#[test]
fn missing_pieces_are_one_loss_and_end_with_the_frame() {
    let third = OUTPUTS.len() / 3;
    let total = OUTPUTS.len();
    let mut hole = Bench::new();
    hole.piece(Way::Out, &OUTPUTS[..third], 0, total, false);
    hole.piece(Way::Out, &OUTPUTS[2 * third..], 2 * third, total, false);
    assert_eq!(hole.sent(OUTPUTS).letters(), "LS");

    let mut early = Bench::new();
    early.piece(Way::Out, &OUTPUTS[..third], 0, total, false);
    assert_eq!(early.sent(OUTPUTS).letters(), "LS", "the next frame began");

    let mut headless = Bench::new();
    headless.piece(Way::Out, &OUTPUTS[third..2 * third], third, total, false);
    headless.piece(Way::Out, &OUTPUTS[2 * third..], 2 * third, total, false);
    assert_eq!(headless.sent(OUTPUTS).letters(), "LS");

    let mut told = Bench::new();
    told.piece(Way::Out, &OUTPUTS[..third], 0, total, false);
    let mut told = told.lost();
    told.piece(Way::Out, &OUTPUTS[2 * third..], 2 * third, total, false);
    assert_eq!(told.sent(OUTPUTS).letters(), "LS", "the loss was told before the orphan");

    let mut unheard = Bench::new().lost();
    unheard.piece(Way::Out, &OUTPUTS[third..], third, total, false);
    assert_eq!(unheard.sent(OUTPUTS).letters(), "LS", "nothing was known of the thread");

    let mut head = Bench::new();
    head.frame(Way::In, &[0]);
    head.piece(Way::In, &ADD[..200], 0, ADD.len(), false);
    assert_eq!(head.lost().letters(), "AL");

    let mut asked = Bench::new();
    asked.frame(Way::In, &[0]);
    let mut asked = asked.lost();
    asked.frame(Way::In, ADD);
    assert_eq!(asked.letters(), "L", "whose type this was is not known any more");
}

#[test]
fn a_thousand_outputs_in_pieces_are_one_step() {
    let mut bytes = b"\x94\x00\xdc\x04\x00".to_vec();
    for n in 0..1024 {
        let id = format!("chatcmpl-{n:064}");
        bytes.extend([0x92, 0xd9, u8::try_from(id.len()).unwrap()]);
        bytes.extend(id.as_bytes());
        bytes.extend([0x91, 0x05]);
    }
    bytes.extend(b"\xc0\xcb\x40\x8f\x40\x00\x00\x00\x00\x00");
    assert!(bytes.len() > 65_536);
    let mut bench = Bench::new();
    for (n, piece) in bytes.chunks(32_768).enumerate() {
        bench.piece(Way::Out, piece, n * 32_768, bytes.len(), false);
    }
    assert_eq!(bench.step().outputs.len(), 1024);
    assert!(bench.step().outputs.iter().all(|output| output.tokens == 1));
    assert_eq!(bench.step().outputs[1023].id, format!("chatcmpl-{:064}", 1023));
}

#[test]
fn claims_of_length_cost_nothing() {
    let depth = [0x91].repeat(100_000);
    let nested = [[0x92, 0x00].as_slice(), &depth].concat();
    let many = [b"\x92\x00\xdd\x00\x01\x00\x01".as_slice(), &b"\x92\xa1r\x90".repeat(65_537)].concat();
    assert_eq!(Bench::new().sent(&many).letters(), "L");
    for bytes in [b"\x92\x00\xdd\xff\xff\xff\xff".as_slice(), b"\x93\x00\x90\xdf\xff\xff\xff\xff", &nested] {
        assert_eq!(Bench::new().sent(bytes).letters(), "L");
    }
    let deep = [b"\x96\xa1r\x90".as_slice(), &depth, &[0xc0, 0xc0, 0xc0, 0xca, 0, 0, 0, 0]].concat();
    assert_eq!(Bench::new().received(0, &deep).letters(), "A", "depth is passed over without recursion");
}

#[test]
fn a_full_table_puts_out_the_longest_silent_and_an_exit_frees() {
    let config = Config { frame_bytes: 1 << 20, cores: 1 };
    let mut bench = Bench::with(config);
    let mut push = |engine: u32, tid: u32, total: u32| {
        let event = Event::Frame {
            engine: Pid(engine),
            tid,
            way: Way::Out,
            at: AT,
            bytes: b"kv@1",
            offset: 0,
            total,
            more: false,
        };
        bench.core.push(&event, &bench.vitals, &mut bench.out);
    };
    push(1, 0, 100);
    (0..16).for_each(|tid| push(2, tid, 4));
    assert_eq!(bench.vitals.evicted.get(), 1);
    assert_eq!(bench.out[0], Message::EngineLost { engine: Pid(1), at: AT }, "it was inside a frame");
    let exit = Event::Process { pid: Pid(2), at: AT, change: ProcessChange::Exited };
    bench.core.push(&exit, &bench.vitals, &mut bench.out);
    assert!(bench.core.threads.is_empty());
}

/// A fixed sequence of pseudo-random numbers (xorshift).
fn numbers(mut state: u64) -> impl Iterator<Item = usize> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    })
}

#[test]
fn every_mutated_frame_is_one_message_or_one_count() {
    let mut numbers = numbers(0x5eed);
    let mut next = || numbers.next().unwrap();
    for round in 0..20_000 {
        let (kind, clean) = [(0, ADD), (1, ABORT), (9, OUTPUTS)][round % 3];
        let mut bytes = clean.to_vec();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            match next() % 4 {
                0 => bytes[at] = u8::try_from(next() % 256).unwrap(),
                1 => bytes[at] ^= 1 << (next() % 8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, u8::try_from(next() % 256).unwrap()),
            }
        }
        let bench = if kind == 9 { Bench::new().sent(&bytes) } else { Bench::new().received(kind, &bytes) };
        let vitals = &bench.vitals;
        assert_eq!(vitals.engine_messages.get(), 1, "{bytes:x?}");
        assert_eq!(u64::try_from(bench.out.len()).unwrap() + vitals.engine_other.get(), 1, "{bytes:x?}");
        assert_eq!(vitals.engine_undecoded.get(), u64::from(bench.letters() == "L"));
    }
}

/// The frames of a small conversation, and where to split each.
fn splits() -> impl Strategy<Value = Vec<Vec<usize>>> {
    proptest::collection::vec(proptest::collection::vec(any::<usize>(), 0..6), 7)
}

proptest! {
    #[test]
    fn however_frames_are_split_they_say_the_same(splits in splits()) {
        let frames: [(Way, &[u8]); 7] = [
            (Way::In, &[0]),
            (Way::In, ADD),
            (Way::Out, fixture!("0.16.0/outputs.bin")),
            (Way::Out, fixture!("0.32.0/utility.bin")),
            (Way::In, &[1]),
            (Way::In, ABORT),
            (Way::Out, OUTPUTS),
        ];
        let (mut whole, mut split) = (Bench::new(), Bench::new());
        for ((way, bytes), cuts) in frames.iter().zip(&splits) {
            whole.frame(*way, bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % bytes.len()).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            cuts.dedup();
            for pair in cuts.windows(2) {
                split.piece(*way, &bytes[pair[0]..pair[1]], pair[0], bytes.len(), false);
            }
        }
        assert_eq!(whole.letters(), "ASBS");
        assert_eq!(whole.out, split.out);
    }
}
