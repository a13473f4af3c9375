//! The agent's sources in; imports that go against the line, and crates outside their fence, out: none.

use crate::step::root;
use crate::tidy::files;
use std::collections::BTreeMap;

/// Who may import whom, in the order in which data flows. A room may always import itself.
const ROOMS: [(&str, &[&str]); 20] = [
    ("sys", &[]),
    ("ident", &[]),
    ("clock", &["sys"]),
    ("vitals", &["clock"]),
    ("discover", &["ident", "clock", "vitals", "sys"]),
    ("attach", &["discover", "ident", "clock", "vitals", "sys"]),
    ("ring", &["attach", "clock", "ident", "vitals"]),
    ("stream", &["ring", "clock", "ident", "vitals"]),
    ("request", &["stream", "clock", "ident", "vitals"]),
    ("gpu", &["discover", "clock", "ident", "vitals"]),
    ("engine", &["clock", "ident", "vitals", "sys"]),
    ("correlate", &["request", "stream", "gpu", "engine", "discover", "clock", "ident", "vitals"]),
    ("export", &["correlate", "clock", "ident", "vitals"]),
    ("kit", &["export", "correlate"]),
    ("ui", &["correlate", "clock", "ident", "vitals"]),
    ("serve", &["export", "ui", "correlate", "clock", "vitals"]),
    ("config", ANY),
    ("check", ANY),
    ("run", ANY),
    ("main", ANY),
];
/// The roof may import every room; that no room imports the roof is what the table says of the rooms.
const ANY: &[&str] = &["*"];

/// Where a crate may be named: files that start so. What is not listed may stand anywhere.
const FENCES: [(&str, &[&str]); 11] = [
    ("aya", &["attach", "ring/read.rs"]),
    ("axum", &["serve", "export/otlp/tests"]),
    ("libc", &["sys"]),
    ("nvml_wrapper", &["gpu/nvml"]),
    ("opentelemetry", &["export/otlp"]),
    ("procfs", &["discover"]),
    ("prometheus", &["export"]),
    ("regex", &["correlate/redact"]),
    ("reqwest", &["engine/scrape", "export/otlp"]),
    ("serde_saphyr", &["kit/yaml"]),
    ("tokio", &["discover", "attach", "ring/read", "gpu", "engine", "export/otlp", "serve", "run", "main"]),
];

/// The paths that start with `head::` in a line: what follows, up to the next non-word.
fn named<'a>(line: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(head).filter_map(move |(at, _)| {
        let before = line.get(..at)?.chars().next_back();
        let whole = !before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':');
        let rest = line.get(at + head.len()..)?;
        let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
        rest.get(..end).filter(|_| whole)
    })
}

/// What a file named by its path under `src` does that it may not.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let room = path.split(['/', '.']).next().unwrap_or_default();
    let table: BTreeMap<&str, &[&str]> = ROOMS.into();
    let Some(allowed) = table.get(room) else {
        return if room == "lib" { Vec::new() } else { vec![format!("{path}: a room that is not in the table")] };
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (code, _) = line.split_once("//").unwrap_or((line, ""));
        for other in named(code, "crate::").filter(|other| table.contains_key(other) && *other != room) {
            if !allowed.contains(&other) && *allowed != ANY {
                found.push(format!("{path}:{}: {room} -> {other}", number + 1));
            }
        }
        for (name, homes) in FENCES {
            let outside = !homes.iter().any(|home| path.starts_with(home));
            let own = text.lines().any(|line| line.starts_with("use crate::") && line.ends_with(&format!("::{name};")));
            if outside
                && !own
                && words(code).any(|word| word.starts_with(name) && fenced(name, word) && names_crate(code, word))
            {
                found.push(format!("{path}:{}: `{name}` outside {}", number + 1, homes.join(", ")));
            }
        }
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|it: char| !it.is_alphanumeric() && it != '_')
}

/// `opentelemetry` stands for its companions too, `prometheus` for `prometheus_client`.
fn fenced(name: &str, word: &str) -> bool {
    word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'))
}

/// Whether the line uses the word as the start of a path.
fn names_crate(code: &str, word: &str) -> bool {
    named(code, &format!("{word}::")).next().is_some() || code.trim() == format!("use {word};")
}

#[test]
fn imports_go_one_way_and_crates_stay_in_their_fences() {
    let source = root().join("agent/src");
    let found: Vec<String> = files(&source, "rs")
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(&source).unwrap().display().to_string();
            breaches(&path, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_table_itself_goes_one_way() {
    let order: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        for other in allowed.iter().filter(|other| **other != "*") {
            let place = order.iter().position(|name| name == other);
            assert!(place.is_some_and(|place| place < at), "{room} -> {other}");
        }
    }
}

#[test]
fn a_breach_is_named_with_its_place() {
    let table = [
        ("stream/sse.rs", "use crate::request::Update;", "stream/sse.rs:1: stream -> request"),
        ("request.rs", "let it = crate::run::start();", "request.rs:1: request -> run"),
        ("stream.rs", "use tokio::fs;", "stream.rs:1: `tokio` outside"),
        ("export/prometheus.rs", "opentelemetry_sdk::trace::Span", "export/prometheus.rs:1: `opentelemetry` outside"),
        ("clock.rs", "unsafe { libc::getpid() }", "clock.rs:1: `libc` outside"),
        ("helpers.rs", "", "helpers.rs: a room that is not in the table"),
    ];
    for (path, line, expected) in table {
        let found = breaches(path, line);
        assert!(found.len() == 1 && found.iter().all(|it| it.starts_with(expected)), "{path}: {found:?}");
    }
    let fine = [
        ("request.rs", "use crate::stream::Message;"),
        ("request/life.rs", "use crate::request::Update; // not crate::run::x"),
        ("run.rs", "use crate::serve::Serve;"),
        ("attach/object.rs", "use aya::Ebpf;"),
        ("export.rs", "mod prometheus;"),
        ("ring.rs", "use agent_ebpf::event::Kind;"),
    ];
    for (path, line) in fine {
        assert_eq!(breaches(path, line), Vec::<String>::new());
    }
}
