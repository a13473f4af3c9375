//! Halves in the order in which they end in; which of them found its other out.

use super::sample::halves as one;
use super::sample::request;
use super::sample::transfer;
use super::*;

fn trace(serial: u64) -> Trace {
    let [.., last] = serial.to_be_bytes();
    Trace { trace_id: [last; 16], span_id: [last; 8], parent_span_id: None, sampled: true }
}

/// Its other half, and whose other half it was.
type Found = (Option<u64>, Option<(u64, u64)>);

/// Which other each request has found at its end, and which it gave to one that had ended before.
fn found(requests: Vec<Request>) -> Vec<Found> {
    let (mut halves, vitals) = (Halves::default(), Vitals::default());
    let other = |split: &Split| split.other.as_ref().map(|other| other.serial);
    requests
        .into_iter()
        .map(|request| {
            let Ended { split, earlier } = halves.ended(&request, &trace(request.serial), &vitals);
            let earlier = earlier.and_then(|(serial, split)| Some((serial, other(&split)?)));
            (split.and_then(|split| other(&split)), earlier)
        })
        .collect()
}

#[test]
fn halves_are_paired_where_one_names_the_other_and_nowhere_else() {
    let [prefill, decode] = [Half::Prefill, Half::Decode];
    let names = Some("cmpl-1-0a");
    let paired = (Some(1), Some((1, 2)));
    let apart = (None, None);
    let first = |transfer| request(1, 10, (0, 1), transfer);
    let second = |transfer| request(2, 20, (2, 5), transfer);
    for (why, one, other, expected) in vec![
        ("by id", first(transfer(prefill, None, None)), second(transfer(decode, names, None)), paired),
        ("by transfer", first(transfer(prefill, None, Some("t"))), second(transfer(decode, None, Some("t"))), paired),
        (
            "decode first",
            first(transfer(decode, Some("cmpl-2-0a"), None)),
            second(transfer(prefill, None, None)),
            paired,
        ),
        ("another id", first(transfer(prefill, None, None)), second(transfer(decode, Some("cmpl-3-0a"), None)), apart),
        ("one X-Request-Id", first(Transfer::default()), second(Transfer::default()), apart),
        ("no id at all", first(transfer(prefill, None, None)), second(transfer(decode, None, None)), apart),
        ("the next turn", first(transfer(prefill, None, None)), second(transfer(prefill, names, None)), apart),
        ("two prefills", first(transfer(prefill, None, Some("t"))), second(transfer(prefill, None, Some("t"))), apart),
        (
            "one engine",
            first(transfer(prefill, None, None)),
            request(2, 10, (2, 5), transfer(decode, names, None)),
            apart,
        ),
    ] {
        assert_eq!(found(vec![one, other]), [(None, None), expected], "{why}");
    }
}

#[test]
fn a_half_is_paired_once_and_not_for_ever() {
    let prefill = || request(1, 10, (0, 1), transfer(Half::Prefill, None, None));
    let decode = |serial, at| request(serial, 20, at, transfer(Half::Decode, Some("cmpl-1-0a"), None));
    assert_eq!(found(vec![prefill(), decode(2, (2, 3)), decode(3, (3, 4))]).last(), Some(&(None, None)));
    let other = request(2, 10, (2_000, 2_001), transfer(Half::Prefill, None, None));
    assert_eq!(found(vec![prefill(), other, decode(3, (2_002, 2_003))]).last(), Some(&(None, None)));
}

#[test]
fn both_durations_and_the_handover_sum_to_the_whole() {
    let (mut halves, vitals) = (Halves::default(), Vitals::default());
    let [prefill, decode] = one();
    halves.ended(&prefill, &trace(1), &vitals);
    let Ended { split, earlier } = halves.ended(&decode, &trace(2), &vitals);
    let (own, (serial, earlier)) = (split.unwrap(), earlier.unwrap());
    assert_eq!((own.half, earlier.half, serial), (Half::Decode, Half::Prefill, 1));
    for split in [&own, &earlier] {
        let parts = [prefill.duration_ns(), split.handover_ns, decode.duration_ns()];
        assert_eq!(split.duration_ns, parts.into_iter().sum());
    }
    assert_eq!(own.other.map(|other| other.span_id), Some([1; 8]));
}

#[test]
fn no_more_wait_than_there_is_room_for_and_what_goes_is_counted() {
    let (mut halves, vitals) = (Halves::default(), Vitals::default());
    for serial in 1..=WAITING as u64 + 10 {
        let prefill = request(serial, 10, (0, 1), transfer(Half::Prefill, None, None));
        halves.ended(&prefill, &trace(serial), &vitals);
    }
    assert_eq!((halves.waiting.len(), halves.order.len(), vitals.evicted.get()), (WAITING, WAITING, 10));
}
