//! What engines say of themselves in, their families' samples out.

use super::Page;
use super::Value;
use crate::correlate::Facts;
use crate::correlate::Snapshot;
use crate::correlate::engines::COMPARED;
use crate::correlate::engines::EngineView;
use crate::export::catalog;
use std::borrow::Cow;

/// Models of one engine that have an info metric.
const MODELS: usize = 32;

/// Of the cache's settings: the label of the info metric, and the engines' names for it.
const CACHE: [(&str, &[&str]); 4] = [
    ("kv_blocks", &["num_gpu_blocks", "num_pages"]),
    ("block_size", &["block_size", "page_size"]),
    ("enable_prefix_caching", &["enable_prefix_caching"]),
    ("gpu_memory_utilization", &["gpu_memory_utilization"]),
];

pub(super) fn put<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    for view in &snapshot.engines {
        let engine = view.engine.0.pid.to_string();
        page.put(&catalog::SCRAPE_UP, [engine.clone()], Value::Whole(u64::from(view.sample.is_some())));
        gauges(view, &engine, page);
        counters(view, &engine, page);
        checks(view, &engine, page);
        models(view, &engine, page);
    }
}

fn with<'a>(engine: &str, label: &'a str) -> [Cow<'a, str>; 2] {
    [engine.to_owned().into(), label.into()]
}

fn gauges<'a>(view: &'a EngineView, engine: &str, page: &mut Page<'a>) {
    let Some(sample) = &view.sample else { return };
    for (name, rank) in &sample.ranks {
        let labels = || with(engine, name);
        page.put(&catalog::SCRAPED_RUNNING, labels(), rank.running.map(Value::Real));
        page.put(&catalog::SCRAPED_WAITING, labels(), rank.waiting.map(Value::Real));
        page.put(&catalog::SCRAPED_KV_USAGE, labels(), rank.kv_usage.map(Value::Real));
    }
    if let Some(lora) = &sample.lora {
        for (state, names) in [("running", &lora.running), ("waiting", &lora.waiting)] {
            page.put(&catalog::SCRAPED_ADAPTERS, with(engine, state), Value::Whole(names.len() as u64));
        }
    }
    page.put(&catalog::SCRAPED_UNKNOWN, [engine.to_owned()], Value::Whole(sample.unknown.count as u64));
}

fn counters<'a>(view: &'a EngineView, engine: &str, page: &mut Page<'a>) {
    let Some(sample) = &view.sample else { return };
    for (kind, tokens) in [
        ("prompt", sample.prompt_tokens),
        ("generation", sample.generation_tokens),
        ("prefix_queried", sample.prefix_queries),
        ("prefix_hit", sample.prefix_hits),
    ] {
        page.put(&catalog::SCRAPED_TOKENS, with(engine, kind), tokens.map(Value::Real));
    }
    page.put(&catalog::SCRAPED_PREEMPTIONS, [engine.to_owned()], sample.preemptions.map(Value::Real));
    for (reason, count) in &sample.finished {
        page.put(&catalog::SCRAPED_FINISHED, with(engine, reason), Value::Real(*count));
    }
    for (what, sums) in
        [("ttft", sample.ttft), ("queue", sample.queue), ("prefill", sample.prefill), ("decode", sample.decode)]
    {
        page.put(&catalog::SCRAPED_TIME, with(engine, what), sums.map(|sums| Value::Real(sums.seconds)));
        page.put(&catalog::SCRAPED_TIMED, with(engine, what), sums.and_then(|sums| sums.count).map(Value::Real));
    }
}

fn checks<'a>(view: &'a EngineView, engine: &str, page: &mut Page<'a>) {
    for (what, tally) in &view.checks.tallies {
        for (result, count) in [("agreed", tally.agreed), ("disagreed", tally.disagreed)] {
            let labels = [engine.to_owned(), (*what).to_owned(), result.to_owned()];
            page.put(&catalog::SCRAPE_CHECKS, labels, Value::Whole(count));
        }
    }
    let Some(sample) = &view.sample else { return };
    let gauges = [sample.running, sample.waiting, sample.kv_usage];
    for (what, _) in COMPARED.into_iter().zip(gauges).filter(|(_, gauge)| gauge.is_some()) {
        let stale = view.checks.stale.contains(&what);
        page.put(&catalog::SCRAPED_STALE, with(engine, what), Value::Whole(u64::from(stale)));
    }
}

fn models<'a>(view: &'a EngineView, engine: &str, page: &mut Page<'a>) {
    let facts: &Facts = &view.facts;
    let cache = view.sample.as_ref().map(|sample| &sample.cache);
    let flag = |name: &str| facts.flags.get(name).cloned();
    let told = |names: &[&str]| names.iter().find_map(|name| cache?.get(name)).cloned();
    for model in facts.models.iter().take(MODELS) {
        let known = |label: &str| match label {
            "engine" => Some(engine.to_owned()),
            "model" => Some(model.id.clone()),
            "root" => model.root.clone(),
            "lora_base" => model.parent.clone(),
            "engine_version" => facts.version.clone(),
            "max_model_len" => model.max_model_len.map(|length| length.to_string()).or_else(|| flag(label)),
            _ => match CACHE.iter().find(|(name, _)| *name == label) {
                Some((_, names)) => told(names).or_else(|| flag(label)),
                None => flag(label),
            },
        };
        let labels = catalog::MODEL_INFO.labels.iter().map(|label| known(label.name).unwrap_or_default());
        page.put(&catalog::MODEL_INFO, labels, Value::Whole(1));
    }
}
