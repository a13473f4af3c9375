//! Frames of all versions in; masked, they say the same and hold nothing else.

use super::Bench;
use super::ENGINE;
use super::numbers;
use crate::clock::MonoNs;
use crate::ring::Event;
use crate::ring::Way;
use crate::stream::Message;
use crate::stream::engine_core::mask::Frames;
use crate::stream::mask::HIDDEN;
use proptest::prelude::any;
use proptest::proptest;
use std::fs;
use std::path::Path;

/// Later than anything that was recorded.
const LATER: MonoNs = MonoNs(u64::MAX / 2);
const ADD: u8 = 0;
const ABORT: u8 = 1;
const UTILITY: u8 = 3;

/// A frame as a core's thread receives or sends it; what is received has the type that stands before it.
#[derive(Debug, Clone)]
struct Frame {
    name: String,
    kind: Option<u8>,
    bytes: Vec<u8>,
}

/// Every fixture of every version.
fn frames() -> Vec<Frame> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/engine_core");
    let mut frames = Vec::new();
    for version in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for path in fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()) {
            let kind = match path.file_name().unwrap().to_str().unwrap().trim_start_matches("recorded-") {
                name if name.starts_with("add") => Some(ADD),
                name if name.starts_with("abort") => Some(ABORT),
                _ => None,
            };
            if path.extension().is_some_and(|ending| ending == "bin") {
                frames.push(Frame { name: path.display().to_string(), kind, bytes: fs::read(path).unwrap() });
            }
        }
    }
    assert!(frames.len() > 30, "{}", frames.len());
    frames
}

/// One thread whose frames are masked.
#[derive(Default)]
struct Masking {
    frames: Frames,
}

impl Masking {
    /// A frame in pieces that end at `cuts`.
    fn pieces(&mut self, way: Way, frame: &[u8], cuts: &[usize], more: bool) -> Vec<u8> {
        let mut copy = vec![HIDDEN; frame.len()];
        let mut from = 0;
        for to in cuts.iter().copied().chain([frame.len()]) {
            let (offset, total) = (u32::try_from(from).unwrap(), u32::try_from(frame.len()).unwrap());
            let event =
                Event::Frame { engine: ENGINE, tid: 8, way, at: LATER, bytes: &frame[from..to], offset, total, more };
            self.frames.push(&event, &mut copy[from..to]);
            from = to;
        }
        copy
    }

    fn frame(&mut self, frame: &Frame, cuts: &[usize]) -> Vec<u8> {
        let way = if frame.kind.is_some() { Way::In } else { Way::Out };
        if let Some(kind) = frame.kind {
            assert_eq!(self.pieces(Way::In, &[kind], &[], false), [if kind == UTILITY { kind } else { kind.min(2) }]);
        }
        self.pieces(way, &frame.bytes, cuts, false)
    }
}

fn masked(frame: &Frame, cuts: &[usize]) -> Vec<u8> {
    Masking::default().frame(frame, cuts)
}

/// All that a frame says: messages and counters.
fn said(frame: &Frame, bytes: &[u8]) -> (Vec<Message>, String) {
    let bench = Bench::new().at(LATER);
    let bench = match frame.kind {
        Some(kind) => bench.received(kind, bytes),
        None => bench.sent(bytes),
    };
    (bench.out, format!("{:?}", bench.vitals))
}

#[test]
fn a_masked_frame_says_the_same() {
    for frame in frames() {
        let bytes = masked(&frame, &[]);
        assert_eq!(said(&frame, &bytes), said(&frame, &frame.bytes), "{}", frame.name);
        let again = Frame { bytes: bytes.clone(), ..frame.clone() };
        assert_eq!(masked(&again, &[]), bytes, "{} masked twice", frame.name);
    }
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    for frame in frames() {
        let whole = masked(&frame, &[]);
        for cut in 1..frame.bytes.len() {
            assert_eq!(masked(&frame, &[cut]), whole, "{} cut at {cut}", frame.name);
        }
        let bytes: Vec<usize> = (1..frame.bytes.len()).collect();
        assert_eq!(masked(&frame, &bytes), whole, "{} byte by byte", frame.name);
    }
}

/// What the fixtures hold that is content: token ids in every form, and made-up secrets.
#[test]
fn nothing_of_content_stays() {
    let prompt: Vec<u8> = (100..=127).collect();
    let embeds = [0x3f80_0000_u32.to_le_bytes(); 3].concat();
    let contents: [(&str, &[u8]); 12] = [
        ("/add.bin", &prompt),
        ("/add.bin", b"salt"),
        ("/recorded-add.bin", &[30, 94, 87, 85]),
        ("/recorded-add.bin", &[0xcd, 1, 13]),
        ("add_embeds", &embeds),
        ("add_embeds", b"0af7651916cd43dd8448eb211c80319c"),
        ("add_pooling", &[1, 2, 3]),
        ("/outputs.bin", &[0xce, 0, 1, 0x11, 0x70]),
        ("/recorded-first.bin", &[0x91, 0xcc, 197]),
        ("/recorded-last.bin", &[0x91, 0xcd, 1, 0x54]),
        ("recorded-logprobs", &[0x2d, 1, 0, 0]),
        ("prompt_logprobs.1", &[0; 4]),
    ];
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    for (name, part) in contents {
        let mut clear = 0;
        for frame in frames().iter().filter(|frame| frame.name.contains(name)) {
            clear += usize::from(holds(&frame.bytes, part));
            assert!(!holds(&masked(frame, &[]), part), "{} holds {part:?}", frame.name);
        }
        assert!(clear > 0, "{name} never held {part:?}");
    }
}

#[test]
fn values_become_constants_as_wide_and_structure_stays() {
    // An ADD of 0.32: id, prompt, a multimodal part, parameters, …, arrival, …, client, …, external id.
    let add = b"\xdc\x00\x11\xa1r\x94\x05\xcd\x01\x02\xff\xd1\xfe\x00\x91\xc4\x02ab\
        \x84\xa4seed\x07\xa4stop\x91\xa2no\x05\xc3\xa5top_k\x81\xa1k\x01\xc0\
        \xcb\x41\xda\0\0\0\0\0\0\x91\xa3cat\xa4salt\x05\xc0\xc0\x02\x03\x04\xc0\xc2\xa1r";
    let masked_add = b"\xdc\x00\x11\xa1r\x94x\xcdxx\xff\xd1xx\x91\xc4\x02xx\
        \x84\xa4seed\x07\xa4sXXX\x91\xa2xxx\xc3\xa5top_k\x81\xa1xx\xc0\
        \xcb\x41\xda\0\0\0\0\0\0\x91\xa3xxx\xa4xxxxx\xc0\xc0\x02xx\xc0\xc2\xa1r";
    let frame = |kind, bytes: &[u8]| Frame { name: String::new(), kind, bytes: bytes.to_vec() };
    assert_eq!(masked(&frame(Some(ADD), add), &[]).escape_ascii().to_string(), masked_add.escape_ascii().to_string());
    for (kind, clear, expected) in [
        (Some(ABORT), b"\x92\xa1r\x07".as_slice(), b"\x92\xa1rx".as_slice()),
        (Some(2), b"\x93\x01\xa6method\x91\xa1p", b"xxxxxxxxxxxx"),
        (Some(UTILITY), b"\x94\x00\x07\xa5sleep\x92\x01\xa1p", b"\x94xx\xa5sleep\x92x\xa1x"),
        (Some(ADD), b"no list", b"xxxxxxx"),
        // Token ids as an array of numpy: their number is its shape.
        (
            None,
            b"\x92\x01\x91\x92\xa1r\x93\xa3<i4\x91\x02\xd7\x03abcdefgh",
            b"\x92\x01\x91\x92\xa1r\x93\xa3xxx\x91\x02\xd7\x03xxxxxxxx",
        ),
        // A stop token beside the reason, and reasons by name.
        (None, b"\x92\x00\x91\x97\xa1r\x90\xc0\xc0\xc0\x00\x07", b"\x92\x00\x91\x97\xa1r\x90\xc0\xc0\xc0\x00x"),
        (None, b"\x92\x00\x91\x96\xa1r\x90\xc0\xc0\xc0\xa4stop", b"\x92\x00\x91\x96\xa1r\x90\xc0\xc0\xc0\xa4stop"),
        (None, b"\x92\x00\x91\x96\xa1r\x90\xc0\xc0\xc0\xa4stab", b"\x92\x00\x91\x96\xa1r\x90\xc0\xc0\xc0\xa4stXX"),
        (None, b"\x82\xa1k\x01\xa7outputs\x91\x81\xa4text\xa2no", b"\x82\xa1Xx\xa7outputs\x91\x81\xa4XXXX\xa2xx"),
        (None, b"\x92\x00\xa6secret\x01", b"\x92\x00xxxxxxxx"),
        (None, b"\x92\x00\x91\xc1secret", b"\x92\x00\x91\xc1xxxxxx"),
        (None, b"\x92\x00\x90secret", b"\x92\x00\x90xxxxxx"),
        (None, b"ENGINE_CORE_DEAD", b"ENGINE_CORE_DEAD"),
        (None, b"ENGINE_CORE_DEAR", b"xxxxxxxxxxxxxxxx"),
    ] {
        let found = masked(&frame(kind, clear), &[]);
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn what_is_no_message_is_hidden_as_a_whole() {
    let outputs = b"\x92\x00\x90";
    let tensor = b"\x92\x00\x91\x05";
    let mut masking = Masking::default();
    let mut sent = |frame: &[u8], cuts: &[usize], more| masking.pieces(Way::Out, frame, cuts, more);
    assert_eq!(sent(outputs, &[], true), outputs);
    assert_eq!(sent(tensor, &[], true), b"xxxx", "a tensor that begins like outputs");
    assert_eq!(sent(outputs, &[], true), outputs, "the first of a message after frames that were not seen");
    assert_eq!(sent(outputs, &[1], false), b"xxx", "not to be told from a tensor");
    assert_eq!(sent(outputs, &[1], false), outputs);

    let mut received = |frame: &[u8]| masking.pieces(Way::In, frame, &[], false);
    assert_eq!(received(b"\x91\xa1r"), b"xxx", "no type before it");
    assert_eq!((received(b"\x01"), received(b"\x91\xa1r")), (b"\x01".to_vec(), b"\x91\xa1r".to_vec()));
    assert_eq!(received(b"\x91\xa1r"), b"xxx", "a tensor after the payload");
    assert_eq!(received(b"\x07\x02\x03\x04"), b"\x02xxx");
}

#[test]
fn after_a_loss_nothing_stays_until_the_next_message() {
    let lost = Event::FramesLost { engine: ENGINE, tid: 8, at: LATER, records: 1 };
    let piece = |way, bytes, offset| Event::Frame {
        engine: ENGINE,
        tid: 8,
        way,
        at: LATER,
        bytes,
        offset,
        total: 9,
        more: false,
    };
    let mut masking = Masking::default();
    let mut push = |event: &Event<'_>| {
        let mut copy = [HIDDEN; 3];
        masking.frames.push(event, &mut copy);
        copy
    };
    assert_eq!(push(&piece(Way::Out, b"\x92\x00\x91", 0)), *b"\x92\x00\x91");
    assert_eq!(push(&piece(Way::Out, b"\x91\xa1r", 5)), *b"xxx", "a hole");
    assert_eq!(push(&piece(Way::Out, b"\x92\x00\x91", 0)), *b"\x92\x00\x91");
    push(&lost);
    assert_eq!(push(&piece(Way::Out, b"\x91\xa1r", 3)), *b"xxx");
    masking.pieces(Way::In, &[ABORT], &[], false);
    masking.frames.push(&lost, &mut []);
    assert_eq!(masking.pieces(Way::In, b"\x91\xa1r", &[], false), b"xxx", "whose type that was is not known any more");
}

/// The decoder and the mask are two: on frames of any damage too they must agree what is where. But an
/// external id stays at its place only, though the decoder knows it elsewhere too.
#[test]
fn a_damaged_frame_says_the_same_masked() {
    let (frames, mut numbers) = (frames(), numbers(0x5eed));
    let mut next = || numbers.next().unwrap();
    for _ in 0..5_000 {
        let mut frame = frames[next() % frames.len()].clone();
        for _ in 0..=next() % 4 {
            let at = next() % frame.bytes.len();
            match next() % 4 {
                0 => frame.bytes[at] = u8::try_from(next() % 256).unwrap(),
                1 => frame.bytes[at] ^= 1 << (next() % 8),
                2 if frame.bytes.len() > 9 => drop(frame.bytes.remove(at)),
                _ => frame.bytes.insert(at, u8::try_from(next() % 256).unwrap()),
            }
        }
        let bytes = masked(&frame, &[]);
        let [mut again, mut clear] = [&bytes, &frame.bytes].map(|bytes| said(&frame, bytes));
        for message in [&mut again, &mut clear].map(|(messages, _)| messages).into_iter().flatten() {
            if let Message::Added { request, .. } = message {
                request.external_id = None;
            }
        }
        // As text: a damaged number may be none, which equals nothing.
        assert_eq!(format!("{again:?}"), format!("{clear:?}"), "{:x?} for {:x?}", bytes, frame.bytes);
    }
}

proptest! {
    #[test]
    fn any_bytes_keep_their_length_wherever_they_are_cut(bytes in any::<Vec<u8>>(), cut in any::<usize>(), kind in any::<u8>()) {
        let kind = (kind < 16).then_some(kind % 3);
        let frame = Frame { name: String::new(), kind, bytes };
        let whole = masked(&frame, &[]);
        assert_eq!(whole.len(), frame.bytes.len());
        let cut = frame.bytes.len().checked_sub(2).map(|cuts| 1 + cut % (cuts + 1)).filter(|_| frame.bytes.len() > 1);
        assert_eq!(masked(&frame, cut.as_slice()), whole);
        assert_eq!(masked(&Frame { bytes: whole.clone(), ..frame }, &[]), whole);
    }
}
