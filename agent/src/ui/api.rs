//! The snapshot and a query in, the JSON of `/api/v1/requests` and `/api/v1/snapshot` out.

use crate::clock::seconds;
use crate::correlate::Asked;
use crate::correlate::Cluster;
use crate::correlate::Snapshot;
use crate::correlate::costs::costs;
use crate::correlate::engines::EngineView;
use crate::ui::gpus;
use crate::ui::record;
use crate::ui::record::record;
use serde_json::Value;
use serde_json::json;

/// Rises when a key changes its meaning or goes away; new keys do not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// Requests in an answer, unless the query says how many.
pub const LIMIT: usize = 100;

/// Users in an answer at most: the metrics have all of them.
const USERS_SHOWN: usize = 100;

/// What `/api/v1/requests` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// At most so many, the newest.
    pub limit: usize,
    /// Only those whose `id` is greater.
    pub since: u64,
}

/// A query that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct BadQuery {
    /// The key of the query.
    pub key: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Query {
    /// Reads `limit=N&since=ID`, each at most once.
    ///
    /// # Errors
    ///
    /// A key that is unknown or comes twice, or a value that is no whole number.
    pub fn parse(query: &str) -> Result<Self, BadQuery> {
        let (mut limit, mut since) = (None, None);
        for item in query.split('&').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            let bad = |what| BadQuery { key: key.to_owned(), what };
            let place = match key {
                "limit" => &mut limit,
                "since" => &mut since,
                _ => return Err(bad("unknown; known are limit and since")),
            };
            let number: u64 = value.parse().map_err(|_bad| bad("not a whole number"))?;
            if place.replace(number).is_some() {
                return Err(bad("given twice"));
            }
        }
        let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Self { limit, since: since.unwrap_or(0) })
    }
}

/// Finished requests, newest first.
pub fn requests(snapshot: &Snapshot, query: Query) -> Value {
    let newer = snapshot.requests.iter().filter(|finished| finished.request.serial > query.since);
    let requests: Vec<Value> = newer.take(query.limit).map(|finished| record(finished)).collect();
    json!({
        "schema_version": SCHEMA_VERSION,
        "at_unix_nano": snapshot.anchor.unix_ns,
        "kept": snapshot.requests.len(),
        "kept_max": snapshot.requests_kept,
        "returned": requests.len(),
        "requests": requests,
    })
}

/// The state of the agent and of what it traces.
pub fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "at_ns": snapshot.at,
        "at_unix_nano": snapshot.anchor.unix_ns,
        "started_unix_nano": snapshot.started.unix_ns,
        "vitals": snapshot.vitals,
        "coverage_ratio": snapshot.coverage(),
        "slo": snapshot.slo,
        "targets": snapshot.targets,
        "cores": snapshot.cores,
        "gpus": gpus::gpus(snapshot),
        "kubernetes": kubernetes(snapshot),
        "engines": snapshot.engines.iter().map(|view| engine(view, snapshot)).collect::<Vec<Value>>(),
        "devices": snapshot.devices,
        "unclaimed": snapshot.unclaimed,
        "costs": costs(&snapshot.series, seconds(snapshot.at.since(snapshot.started.mono).unwrap_or(0))),
        "users": snapshot.users.iter().take(USERS_SHOWN).collect::<Vec<_>>(),
        "own": snapshot.own,
        "series": snapshot.series.len(),
        "series_overflow": snapshot.series_overflow,
        "requests_kept": snapshot.requests.len(),
        "requests_kept_max": snapshot.requests_kept,
    })
}

/// How the API server of the cluster stands.
fn kubernetes(snapshot: &Snapshot) -> Value {
    match &snapshot.cluster {
        Cluster::Off { why } => json!({ "state": "off", "why": why }),
        Cluster::Asked(Asked { node, pods, current, trouble }) => {
            let age = current.map(|at| seconds(snapshot.at.since(at).unwrap_or(0)));
            let pods = current.map(|_| pods.here());
            json!({ "state": "asked", "node": node, "pods": pods, "age_seconds": age, "trouble": trouble })
        }
    }
}

/// `sample` is null exactly where `closed` says why, and `kubernetes` where `kubernetes_unknown` does.
fn engine(view: &EngineView, snapshot: &Snapshot) -> Value {
    let who = snapshot.who(view.engine);
    json!({
        "kubernetes": record::kubernetes(&who),
        "kubernetes_unknown": who.err(),
        "engine": view.engine,
        "url": view.url,
        "closed": view.closed,
        "sample": view.sample.as_deref(),
        "facts": *view.facts,
        "checks": view.checks,
    })
}

/// The answer to a [`BadQuery`].
pub fn refusal(bad: &BadQuery) -> Value {
    json!({ "schema_version": SCHEMA_VERSION, "error": { "key": bad.key, "what": bad.what } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;
    use crate::clock::MonoNs;
    use crate::correlate::golden;
    use crate::correlate::sample::busy;
    use std::sync::Arc;

    fn snapshot_of_everything() -> Arc<Snapshot> {
        busy().snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 })
    }

    #[test]
    fn queries_are_read_or_refused_by_name() {
        for (query, limit, since) in [
            ("", LIMIT, 0),
            ("limit=2", 2, 0),
            ("since=7&limit=0", 0, 7),
            ("&limit=3&", 3, 0),
            ("since=18446744073709551615", LIMIT, u64::MAX),
        ] {
            assert_eq!(Query::parse(query), Ok(Query { limit, since }), "{query}");
        }
        for (query, key) in [
            ("limit=", "limit"),
            ("limit", "limit"),
            ("limit=-1", "limit"),
            ("since=1.5", "since"),
            ("since=18446744073709551616", "since"),
            ("limit=1&limit=1", "limit"),
            ("before=3", "before"),
            ("=3", ""),
        ] {
            assert_eq!(Query::parse(query).map_err(|bad| bad.key), Err(key.to_owned()), "{query}");
        }
    }

    #[test]
    fn an_answer_says_how_much_of_what_it_gives() {
        let snapshot = snapshot_of_everything();
        let answer = |limit, since| {
            let answer = requests(&snapshot, Query { limit, since });
            let ids: Vec<u64> =
                answer["requests"].as_array().unwrap().iter().map(|request| request["id"].as_u64().unwrap()).collect();
            (answer["kept"].as_u64(), answer["kept_max"].as_u64(), answer["returned"].as_u64(), ids)
        };
        assert_eq!(answer(10, 0), (Some(2), Some(1_000), Some(2), vec![2, 1]));
        assert_eq!(answer(1, 0), (Some(2), Some(1_000), Some(1), vec![2]));
        assert_eq!(answer(10, 1), (Some(2), Some(1_000), Some(1), vec![2]));
        assert_eq!(answer(10, 2), (Some(2), Some(1_000), Some(0), vec![]));
    }

    #[test]
    fn a_snapshot_of_everything() {
        let answer = snapshot(&snapshot_of_everything());
        golden::check("snapshot.json", &(serde_json::to_string_pretty(&answer).unwrap() + "\n"));
    }
}
