//! Conversations in; masked, they say the same and hold nothing else.

use super::*;

/// The conversation as a mask leaves it, the bytes of each event perhaps in two pieces.
fn masked(steps: &[Do], cut: Option<usize>) -> Vec<Do> {
    let mut http = Http::new(Config::default());
    let events = steps.iter().zip(0..).map(|(step, at)| match step {
        Do::In(bytes) => Do::In(mask(&mut http, at, Way::In, bytes, 0, cut)),
        Do::Out(bytes) => Do::Out(mask(&mut http, at, Way::Out, bytes, 0, cut)),
        Do::InMissing(bytes, more) => Do::InMissing(mask(&mut http, at, Way::In, bytes, *more, cut), *more),
        Do::OutMissing(bytes, more) => Do::OutMissing(mask(&mut http, at, Way::Out, bytes, *more, cut), *more),
        other => {
            push(&mut http, other, at, None, &Vitals::default(), &mut Vec::new());
            other.clone()
        }
    });
    events.collect()
}

fn mask(http: &mut Http, at: u64, way: Way, bytes: &[u8], missing: u32, cut: Option<usize>) -> Vec<u8> {
    let mut copy = vec![HIDDEN; bytes.len()];
    let cut = cut.unwrap_or(0).min(bytes.len());
    let ((left, right), (left_copy, right_copy)) = (bytes.split_at(cut), copy.split_at_mut(cut));
    for (bytes, copy, missing) in [(left, left_copy, 0), (right, right_copy, missing)] {
        let event = Event::Data { conn: CONN, way, at: MonoNs(at), bytes, missing };
        if cut > 0 || missing > 0 || !bytes.is_empty() {
            http.mask(&event, copy, &Vitals::default(), &mut Vec::new());
        }
    }
    copy
}

fn text(step: &Do) -> String {
    match step {
        Do::In(bytes) | Do::Out(bytes) | Do::InMissing(bytes, _) | Do::OutMissing(bytes, _) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    }
}

fn texts(steps: &[Do]) -> Vec<String> {
    steps.iter().map(text).collect()
}

/// A conversation and its masked twin say the same, down to the counters.
fn same(steps: &[Do], name: &str) {
    let twin = masked(steps, None);
    let ((said, vitals), (said_again, vitals_again)) = (play(steps, None), play(&twin, None));
    assert_eq!(said_again, said, "{name}: {:?} for {:?}", texts(&twin), texts(steps));
    assert_eq!(counts(&vitals_again), counts(&vitals), "{name}: {:?} for {:?}", texts(&twin), texts(steps));
}

#[test]
fn a_masked_conversation_says_the_same() {
    for (name, steps, _) in conversations() {
        same(&steps, name);
        let twin = masked(&steps, None);
        assert_eq!(texts(&masked(&twin, None)), texts(&twin), "{name}: masked twice");
    }
}

#[test]
fn a_cut_changes_nothing_of_what_is_masked() {
    for (name, steps, _) in conversations() {
        let whole = texts(&masked(&steps, None));
        let longest = texts(&steps).iter().map(String::len).max().unwrap();
        for cut in 0..=longest {
            assert_eq!(texts(&masked(&steps, Some(cut))), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_masked_conversation_says_the_same_after_losses() {
    for (name, steps, _) in conversations() {
        for (index, step) in steps.iter().enumerate() {
            let mut lost = steps.clone();
            lost[index] = Do::Lost;
            same(&lost, name);
            lost[index] = cut_short(step);
            same(&lost, name);
        }
    }
}

/// Whether each request asks for a path or a URL. Of anything else only its length stays.
fn are_targets(steps: &[Do]) -> bool {
    let texts = texts(steps).concat();
    let targets = texts.lines().filter_map(|line| line.split_once(" HTTP/1")?.0.split(' ').nth(1));
    targets.filter(|target| !target.starts_with(['/', '*']) && !target.starts_with("http://")).count() == 0
}

#[test]
fn a_damaged_conversation_says_the_same_masked() {
    let mut random = SmallRng::seed_from_u64(3);
    for (name, steps, _) in conversations() {
        for round in 0..300 {
            let damaged = damage(&steps, &mut random);
            if are_targets(&damaged) {
                same(&damaged, &format!("{name}, round {round}"));
            }
        }
    }
}

/// The last of these events, masked.
fn last(steps: &[Do]) -> String {
    texts(&masked(steps, None)).pop().unwrap()
}

#[test]
fn of_a_request_nothing_stays_but_what_is_read() {
    let body = r#"{"messages":[{"id":"a","content":"\u4e2d \""}],"user":"u","logit_bias":{"7":-2.5e3},"n":2}"#;
    let hidden = r#"{"mXXXXXXX":[{"XX":"x","XXXXXXX":"xxxxxxxxx"}],"user":"u","XXXXXXXXXX":{"X":-1.1e1},"n":2}"#;
    for (path, secret, body, path_masked, secret_masked, body_masked) in [
        ("/v1/messages?key=k", "x-api-key: k\r\n", body, "/v1/messages?xxxxx", "x-api-key: x\r\n", hidden),
        ("/v1/completions", "", "a secret", "/v1/completions", "", "xxxxxxxx"),
        ("/v1/audio/transcriptions", "", "--b\r\na", "/v1/audio/transcriptions", "", "xxxxxx"),
    ] {
        let expected = post(path_masked, secret_masked, body_masked);
        assert_eq!(last(&[Do::Open, ask(post(path, secret, body))]), expected);
    }
}

#[test]
fn of_a_response_nothing_stays_but_what_is_read() {
    let ask = ask(chat());
    for (clear, expected) in [
        (
            reply("200 OK", "set-cookie: s=1\r\n", r#"{"id":"a","content":[{"text":"b","input":{"id":"c"}}]}"#),
            reply("200 xx", "set-cookie: xxx\r\n", r#"{"id":"a","content":[{"text":"x","XXXXX":{"XX":"x"}}]}"#),
        ),
        (reply("200 OK", "", "a secret"), reply("200 xx", "", "xxxxxxxx")),
        (
            STREAM_HEAD.to_owned() + &chunk(": hi\nevent: e\ndata: {\"n\":1}\n\n") + &event("[DONE]"),
            STREAM_HEAD.replace("uvicorn", "xxxxxxx").replace("OK", "xx")
                + &chunk("xxxx\nxxxxxxxx\ndata: {\"X\":1}\n\n")
                + &event("[DONE]"),
        ),
        ("\x16\x03 secret".to_owned(), "\0".repeat(9)),
    ] {
        assert_eq!(last(&[Do::Open, ask.clone(), say(clear)]), expected);
    }
}

#[test]
fn what_is_no_request_or_answers_none_is_hidden() {
    assert_eq!(last(&[ask("secret of a body from before")]), "x".repeat(28));
    assert_eq!(last(&[Do::Open, say("HTTP/1.1 200 OK\r\n\r\n")]), "x".repeat(19));
}
