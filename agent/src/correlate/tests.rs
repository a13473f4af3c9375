//! Laws of the correlator.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::OTHER;
use crate::correlate::Snapshot;
use crate::correlate::sample::ANCHOR;
use crate::correlate::sample::ENGINE;
use crate::correlate::sample::busy;
use crate::correlate::sample::correlator;
use crate::correlate::sample::ms;
use crate::correlate::sample::refused;
use crate::correlate::sample::streamed;
use crate::correlate::sample::target;
use crate::correlate::slo::Objective;
use crate::correlate::slo::Objectives;
use crate::correlate::slo::Slo;
use crate::correlate::state::Correlator;
use crate::correlate::state::SNAPSHOT_NS;
use crate::correlate::state::Settings;
use crate::correlate::totals::OUTCOMES_MAX;
use crate::correlate::window::Histogram;
use crate::ident::Pid;
use crate::request::Request;
use crate::request::Update;
use std::collections::BTreeMap;
use std::sync::Arc;

fn at(ns: u64) -> Anchor {
    Anchor { mono: MonoNs(ns), unix_ns: 0 }
}

fn finish(correlator: &Correlator, request: Request) -> Arc<crate::correlate::Finished> {
    correlator.update(Update::Ended(Box::new(request)), ANCHOR).remove(0)
}

fn snapshot(correlator: &Correlator) -> Arc<Snapshot> {
    correlator.snapshot(at(u64::MAX))
}

fn models(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.series.keys().map(|series| series.model.as_str()).collect()
}

#[test]
fn a_finished_request_carries_its_trace_and_what_the_side_lines_knew() {
    let busy = busy();
    let finished = finish(&busy, streamed(9));
    assert_eq!(finished.trace.parent_span_id.map(|id| id[0]), Some(0xb7));
    assert_eq!(finished.end_unix_ns, 1_700_000_010_400_000_000);
    assert_eq!((finished.gpus[0].uuid.as_str(), finished.gpus[0].power_watts), ("GPU-1", Some(312.5)));
    assert!((finished.gpus[0].throttled_seconds["sw_power_cap"] - 0.015).abs() < 1e-9);
    assert_eq!(finished.engine_sample.as_ref().map(|sample| sample.running), Some(Some(2.0)));
}

#[test]
fn a_finished_request_waits_until_it_is_known_what_it_used() {
    let busy = busy();
    let first = &busy.snapshot(at(0)).requests[1];
    let used = first.used.expect("it was in the engine");
    assert!(
        (used.core_seconds - 0.1).abs() < 1e-9
            && used.part.device_seconds.is_some_and(|seconds| (seconds - 0.1).abs() < 1e-9)
    );
    assert!((used.part.joules.expect("counted") - 30.0).abs() < 1e-9, "half of 300 W for 0.2 s");
    assert!((used.part.dollars.expect("priced") - 0.0001).abs() < 1e-12);

    let late = |ms_ahead: u64| {
        let mut request = streamed(9);
        request.engine_requests[0].last_output = Some(ms(700));
        request.finished = ms(710);
        let now = Anchor { mono: ms(710 + ms_ahead), unix_ns: 0 };
        (busy.update(Update::Ended(Box::new(request)), now), now)
    };
    assert!(late(0).0.is_empty(), "the engine's time is known until 500 ms");
    assert_eq!(late(1_501).0.len(), 2, "patience ends, in order");
    assert!(late(0).0.is_empty());
    assert_eq!(busy.flush().len(), 1);
}

#[test]
fn replays_give_the_same_ids() {
    let ids = || {
        let correlator = correlator(&Settings::default());
        [1, 2].map(|serial| finish(&correlator, refused(serial)).trace.clone())
    };
    assert_eq!(ids(), ids());
}

#[test]
fn totals_are_the_sum_of_their_requests() {
    let correlator = correlator(&Settings::default());
    for serial in 0..3 {
        finish(&correlator, streamed(serial));
    }
    let left = Request {
        error_type: Some("client_disconnect".to_owned()),
        output_tokens: Some(3),
        engine_tokens: Some(7),
        ..streamed(4)
    };
    finish(&correlator, left);
    let snapshot = snapshot(&correlator);
    let totals = snapshot.series.values().next().expect("one series");
    assert_eq!([totals.input_tokens, totals.cached_tokens, totals.output_tokens], [Some(48), Some(16), Some(18)]);
    assert_eq!([totals.engine_tokens, totals.wasted_tokens, totals.preemptions], [Some(22), Some(4), Some(4)]);
    assert_eq!((totals.ttft.count(), totals.tpot.count()), (3, 3), "requests with an error are left out");
    assert_eq!(totals.duration.values().map(Histogram::count).sum::<u64>(), 4);
    assert_eq!(totals.itl.counts(), [0, 0, 0, 0, 0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 0], "bucket by bucket");
    assert_eq!((totals.itl.count(), totals.itl.sum()), (16, 0.8));
    let phases: f64 = totals.phases.values().map(Histogram::sum).sum();
    let duration: f64 = totals.duration.values().map(Histogram::sum).sum();
    assert!((phases - duration).abs() < 1e-9, "phases sum to durations");
}

#[test]
fn a_sum_of_unknowns_is_unknown() {
    let correlator = correlator(&Settings::default());
    finish(&correlator, refused(1));
    let snapshot = snapshot(&correlator);
    let totals = snapshot.series.values().next().expect("one series");
    assert_eq!([totals.output_tokens, totals.engine_tokens, totals.wasted_tokens, totals.preemptions], [None; 4]);
}

#[test]
fn only_served_names_are_labels() {
    let correlator = correlator(&Settings::default());
    finish(&correlator, refused(1));
    assert_eq!(models(&snapshot(&correlator)), [OTHER]);
    finish(&correlator, Request { status: Some(200), error_type: None, ..refused(2) });
    finish(&correlator, refused(3));
    let totals = |model: &str| {
        let snapshot = correlator.snapshot(at(0));
        snapshot
            .series
            .iter()
            .find(|(series, _)| series.model == model)
            .map(|(_, totals)| totals.requests.values().sum())
    };
    assert_eq!((totals("invented"), totals(OTHER)), (Some(2_u64), Some(1)));
}

#[test]
fn a_scraped_name_is_a_label_before_its_first_success() {
    let busy = busy();
    finish(&busy, Request { model: Some("tiny".to_owned()), ..refused(5) });
    assert!(snapshot(&busy).series.keys().filter(|series| series.model == "tiny").count() == 2);
}

#[test]
fn series_beyond_the_cap_become_other_and_are_counted() {
    let correlator = correlator(&Settings { series_cap: 2, ..Settings::default() });
    for (serial, model) in ["a", "b", "c", "a"].into_iter().enumerate() {
        finish(&correlator, Request { model: Some(model.to_owned()), ..streamed(serial as u64) });
    }
    let snapshot = snapshot(&correlator);
    assert_eq!(models(&snapshot), ["a", "b", OTHER]);
    assert_eq!(snapshot.series_overflow, 1, "a name that finds no room");
    finish(&correlator, Request { operation: None, model: Some("a".to_owned()), ..streamed(10) });
    assert_eq!(correlator.snapshot(at(0)).series_overflow, 2, "a known name in one series more");
}

#[test]
fn error_types_are_bounded() {
    let correlator = correlator(&Settings::default());
    for serial in 0..500 {
        finish(&correlator, Request { error_type: Some(format!("e{serial}")), ..refused(serial) });
    }
    let snapshot = snapshot(&correlator);
    let totals = snapshot.series.values().next().expect("one series");
    assert_eq!(totals.requests.len(), OUTCOMES_MAX + 1);
    assert_eq!(totals.requests.values().sum::<u64>(), 500);
    assert_eq!(totals.duration.len(), OUTCOMES_MAX + 1);
}

#[test]
fn kept_requests_are_bounded_and_newest_first() {
    let correlator = correlator(&Settings { requests_kept: 3, ..Settings::default() });
    for serial in 1..=5 {
        finish(&correlator, refused(serial));
    }
    let serials: Vec<u64> = snapshot(&correlator).requests.iter().map(|finished| finished.request.serial).collect();
    assert_eq!(serials, [5, 4, 3]);
}

#[test]
fn a_snapshot_serves_a_quarter_of_a_second_and_never_changes() {
    let correlator = correlator(&Settings::default());
    finish(&correlator, streamed(1));
    let first = correlator.snapshot(at(1_000));
    finish(&correlator, streamed(2));
    assert!(Arc::ptr_eq(&first, &correlator.snapshot(at(1_000 + SNAPSHOT_NS - 1))));
    let second = correlator.snapshot(at(1_000 + SNAPSHOT_NS));
    let count = |snapshot: &Snapshot| snapshot.series.values().map(|totals| totals.ttft.count()).sum::<u64>();
    assert_eq!((count(&first), count(&second)), (1, 2));
    assert_eq!((first.requests.len(), second.requests.len()), (1, 2));
}

#[test]
fn unsampled_requests_count_and_leave_no_exemplar() {
    let correlator = correlator(&Settings::default());
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".to_owned());
    finish(&correlator, Request { traceparent, ..streamed(1) });
    let snapshot = snapshot(&correlator);
    let totals = snapshot.series.values().next().expect("one series");
    assert_eq!((totals.ttft.count(), totals.ttft.exemplars().count()), (1, 0));
}

#[test]
fn what_is_gone_leaves_no_gauge() {
    let busy = busy();
    let before = busy.snapshot(at(0));
    assert_eq!((before.targets[0].in_flight, before.cores.len(), before.engines.len()), (3, 1, 1));
    for pid in [Pid(41), Pid(42), ENGINE.0.pid] {
        busy.update(Update::Gone(pid), ANCHOR);
    }
    let after = snapshot(&busy);
    assert!(after.targets.is_empty() && after.cores.is_empty() && after.engines.is_empty());
    busy.targets(vec![target()]);
    assert_eq!(busy.snapshot(at(0)).targets[0].in_flight, 0);
}

#[test]
fn coverage_is_the_share_of_whole_records() {
    let correlator = correlator(&Settings::default());
    let blank = snapshot(&correlator);
    assert_eq!(blank.coverage(), None);
    let with = |seen: u64, recorded: u64, incomplete: u64, in_flight: u32| {
        let counts = [("requests_seen", seen), ("requests_recorded", recorded), ("requests_incomplete", incomplete)];
        let targets = vec![crate::correlate::TargetView { in_flight, ..target() }];
        let vitals = counts.map(|(name, count)| (name.to_owned(), count)).into();
        Snapshot { targets, vitals, ..(*blank).clone() }.coverage()
    };
    assert_eq!(with(10, 10, 0, 0), Some(1.0));
    assert_eq!(with(12, 8, 2, 4), Some(0.75));
    assert_eq!(with(10, 5, 0, 0), Some(0.5), "a request without a record is not covered");
    assert_eq!(with(3, 4, 0, 0), Some(1.0), "an engine request without HTTP is a record too");
}

#[test]
fn a_process_below_a_traced_one_is_of_its_engine() {
    let busy = busy();
    busy.lineage(BTreeMap::from([(Pid(70), vec![Pid(69), Pid(41), Pid(1)]), (Pid(71), vec![Pid(1)])]));
    let snapshot = snapshot(&busy);
    for (pid, engine) in [(41, Some(40)), (40, Some(40)), (70, Some(40)), (71, None), (1, None)] {
        assert_eq!(snapshot.engine_of(Pid(pid)), engine.map(|engine: u32| engine.to_string()), "{pid}");
    }
}

#[test]
fn new_settings_hold_from_now_on_and_a_new_threshold_begins_histograms_anew() {
    let correlator = correlator(&Settings::default());
    for serial in [1, 2] {
        assert_eq!(finish(&correlator, streamed(serial)).verdict, None);
    }
    let seen = || {
        let snapshot = snapshot(&correlator);
        let totals = snapshot.series.values().next().unwrap();
        let requests: u64 = totals.requests.values().sum();
        (snapshot.requests.len(), requests, totals.ttft.count(), snapshot.histograms_since.mono)
    };
    let fewer = Settings { requests_kept: 1, ..Settings::default() };
    correlator.set(&fewer, at(5));
    assert_eq!(seen(), (1, 2, 2, ANCHOR.mono));
    let all = Objective { ttft_seconds: Some(0.149), ..Objective::default() };
    let objectives = Objectives { all, ..Objectives::default() };
    correlator.set(&Settings { objectives, ..fewer }, at(7));
    assert_eq!(seen(), (1, 2, 0, MonoNs(7)), "sums go on");
    assert_eq!(finish(&correlator, streamed(3)).verdict.as_ref().map(|it| it.missed.clone()), Some(vec![Slo::Ttft]));
    let bounds = snapshot(&correlator).series.values().next().unwrap().ttft.bounds().to_vec();
    assert!(bounds.contains(&0.149));
}
