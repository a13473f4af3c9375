//! What of new settings is taken over by a running agent, and what is named as needing a restart.

use crate::config::Args;
use crate::config::Around;
use crate::config::Config;
use crate::run::reload::held;
use std::io::ErrorKind;

fn load(flags: &[&str]) -> Config {
    let args = Args::read(["tachograph", "run"].iter().chain(flags)).unwrap();
    let read = |_: &std::path::Path| Err(ErrorKind::NotFound.into());
    Config::load(args.flags(), &Around { env: &|_| None, read: &read, host: String::new() }).unwrap()
}

#[test]
fn what_cannot_change_stays_and_is_named() {
    for (flag, key) in [
        ("--listen=127.0.0.1:1", "listen"),
        ("--ring-bytes=65536", "ring_bytes"),
        ("--keep-losses=true", "keep_losses"),
        ("--perf-events=true", "perf_events"),
        ("--body-cap-bytes=1", "body_cap_bytes"),
        ("--level=head", "level"),
        ("--nvml-enabled=false", "nvml.enabled"),
        ("--nvml-library=/a", "nvml.library"),
        ("--nvml-interval-seconds=1", "nvml.interval_seconds"),
        ("--scrape-enabled=false", "scrape.enabled"),
        ("--scrape-network-namespaces=true", "scrape.network_namespaces"),
        ("--kubernetes-enabled=false", "kubernetes"),
    ] {
        let (running, new) = (load(&[]), load(&[flag]));
        assert_ne!(format!("{new:?}"), format!("{running:?}"), "{flag}");
        let (held, restart) = held(&running, new);
        assert_eq!((format!("{held:?}"), restart), (format!("{running:?}"), vec![key]));
    }
}

#[test]
fn what_can_change_does() {
    for flag in [
        "--requests-kept=1",
        "--series-cap=1",
        "--target=port=1",
        "--log=debug",
        "--slo-ttft-seconds=1",
        "--slo-objective=0.5",
        "--otlp-endpoint=http://c",
        "--logs-ok=0",
        "--prices-gpu-hour=1",
        "--prices-users=1",
        "--scrape-interval-seconds=1",
        "--scrape-timeout-seconds=1",
        "--discover-interval-seconds=1",
        "--content-capture=true",
        "--serve-basic-auth-file=/a",
    ] {
        let (running, new) = (load(&[]), load(&[flag]));
        let expected = format!("{new:?}");
        let (held, restart) = held(&running, new);
        assert!(restart.is_empty() && expected != format!("{running:?}"), "{flag}: {restart:?}");
        assert_eq!(format!("{held:?}"), expected);
    }
}

#[test]
fn content_is_not_captured_on_a_level_that_leaves_it_out() {
    let (held, restart) = held(&load(&["--level=head"]), load(&["--content-capture=true"]));
    assert!(held.content.is_none());
    assert_eq!(restart, ["level", "content.capture"]);
}
