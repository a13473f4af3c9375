//! [`Point`]s in, one engine's [`Sample`] out, by the table of names.
//!
//! One engine may be several ranks, each with series of its own. Counts are summed over ranks that schedule for
//! themselves (data parallel) and are one over ranks that run in lockstep (tensor, pipeline and expert parallel),
//! which all report the same batch. KV usage is a share, so its highest is taken and never a sum: the fullest rank
//! is the one that preempts. Where processes of one engine leave series of their own, told apart by a `pid` alone,
//! they are readings of one thing, and the newest counts.

use crate::clock::MonoNs;
use crate::engine::Lora;
use crate::engine::Rank;
use crate::engine::Sample;
use crate::engine::Sums;
use crate::engine::Unknown;
use crate::engine::names::ANY;
use crate::engine::names::ENGINES;
use crate::engine::names::Engine;
use crate::engine::names::Form;
use crate::engine::names::PLATFORM;
use crate::engine::names::Quantity;
use crate::engine::names::Series;
use crate::engine::text::Point;
use crate::ident::EngineId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Names kept from one page, of models and of adapters.
const NAMES: usize = 64;
/// Unknown names kept from one page.
const UNKNOWN: usize = 32;
/// Unknown names told apart on one page.
const UNKNOWN_COUNTED: usize = 10_000;

/// Labels that name the model.
const MODEL_LABELS: [&str; 2] = ["model_name", "model"];
/// Labels that tell ranks in lockstep from one another.
const LOCKSTEP_LABELS: [&str; 3] = ["tp_rank", "pp_rank", "moe_ep_rank"];
/// The label that a process gives what it alone knows.
const PROCESS_LABEL: &str = "pid";
/// Labels that name a rank which schedules for itself.
const RANK_LABELS: [&str; 2] = ["engine", "dp_rank"];

/// Labels of the KV cache's info metric that are kept.
const CACHE_LABELS: [&str; 11] = [
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_cache_size_tokens",
    "num_cpu_blocks",
    "num_gpu_blocks",
    "num_gpu_blocks_override",
    "num_pages",
    "page_size",
];

/// Which cell of the table: engine, quantity, age of the name, and whether it is the count of a duration.
type Cell = (usize, Quantity, usize, bool);
/// What tells a series from the others of its name.
type Labels = Vec<(String, String)>;

/// A reading and how new it is.
#[derive(Debug, Clone, Copy)]
struct Reading {
    value: f64,
    age: (f64, u64),
}

/// A page being collected.
#[derive(Debug, Default)]
pub struct Collector {
    cells: BTreeMap<Cell, BTreeMap<Labels, Reading>>,
    models: BTreeMap<usize, BTreeSet<String>>,
    unknown: BTreeSet<String>,
}

impl Collector {
    /// Takes what the table knows, and notes what it does not; what cannot be a reading is passed over.
    pub fn take(&mut self, point: &Point<'_>) {
        if point.name.ends_with("_bucket") {
            return;
        }
        let Some(cell) = find(point) else {
            let base = base(point.name);
            if !is_known(base) && self.unknown.len() < UNKNOWN_COUNTED {
                self.unknown.insert(base.to_owned());
            }
            return;
        };
        let (engine, quantity, ..) = cell;
        if !is_reading(quantity, point.value) {
            return;
        }
        let number = |label| point.label(label).and_then(|text| text.parse().ok()).unwrap_or(0);
        // The value of the LoRA metric is the time at which it was true.
        let stamp = if quantity == Quantity::Lora { point.value } else { point.timestamp.unwrap_or(0.0) };
        let reading = Reading { value: point.value, age: (stamp, number(PROCESS_LABEL)) };
        let known = self.cells.entry(cell).or_default().entry(labels(point)).or_insert(reading);
        if reading.age >= known.age {
            *known = reading;
        }
        let models = self.models.entry(engine).or_default();
        if let Some(model) = MODEL_LABELS.iter().find_map(|label| point.label(label))
            && models.len() < NAMES
        {
            models.insert(model.to_owned());
        }
    }

    /// The sample of the first engine of the table that the page speaks of; `None` when there is none.
    pub fn finish(mut self, engine: EngineId, asked: MonoNs, at: MonoNs) -> Option<Sample> {
        let &(index, ..) = self.cells.keys().next()?;
        let dialect = ENGINES.get(index)?.name;
        let models = self.models.remove(&index).unwrap_or_default().into_iter().collect();
        let names: Vec<String> = self.unknown.iter().take(UNKNOWN).cloned().collect();
        let unknown = Unknown { count: self.unknown.len(), names };
        let page = Page { cells: &self.cells, index };
        let (used, size) = (page.sum(Quantity::KvUsed), page.sum(Quantity::KvSize).filter(|size| *size > 0.0));
        let share = used.zip(size).map(|(used, size)| used / size).filter(|share| (0.0..=1.0).contains(share));
        let mut sample = Sample {
            dialect,
            running: page.sum(Quantity::Running),
            waiting: page.sum(Quantity::Waiting),
            kv_usage: page.highest(Quantity::KvUsage).or(share),
            ranks: page.ranks(),
            prefix_queries: page.sum(Quantity::PrefixQueries),
            prefix_hits: page.sum(Quantity::PrefixHits),
            preemptions: page.sum(Quantity::Preemptions),
            prompt_tokens: page.sum(Quantity::PromptTokens),
            generation_tokens: page.sum(Quantity::GenerationTokens),
            finished: page.finished(),
            ttft: page.sums(Quantity::Ttft),
            queue: page.sums(Quantity::Queue),
            prefill: page.sums(Quantity::Prefill),
            decode: page.sums(Quantity::Decode),
            lora: page.lora(),
            cache: page.cache(),
            models,
            unknown,
            ..Sample::new(engine, asked, at)
        };
        if sample.kv_usage.is_some() && sample.ranks.len() == 1 {
            for rank in sample.ranks.values_mut() {
                rank.kv_usage = sample.kv_usage;
            }
        }
        Some(sample)
    }
}

/// One engine's cells of a collected page.
struct Page<'a> {
    cells: &'a BTreeMap<Cell, BTreeMap<Labels, Reading>>,
    index: usize,
}

impl Page<'_> {
    /// The series under the newest name that the page has, and how old that name is.
    fn newest(&self, quantity: Quantity, is_count: bool) -> Option<(usize, &BTreeMap<Labels, Reading>)> {
        let all = (self.index, quantity, 0, false)..=(self.index, quantity, usize::MAX, true);
        let mut cells = self.cells.range(all).filter(|((.., count), _)| *count == is_count);
        cells.next().map(|((_, _, age, _), series)| (*age, series))
    }

    fn series(&self, quantity: Quantity) -> impl Iterator<Item = (&Labels, f64)> {
        let series = self.newest(quantity, false).map(|(_, series)| series);
        series.into_iter().flatten().map(|(labels, reading)| (labels, reading.value))
    }

    fn sum(&self, quantity: Quantity) -> Option<f64> {
        self.series(quantity).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }

    fn highest(&self, quantity: Quantity) -> Option<f64> {
        self.series(quantity).map(|(_, value)| value).reduce(f64::max)
    }

    fn sums(&self, quantity: Quantity) -> Option<Sums> {
        let (age, series) = self.newest(quantity, false)?;
        let total = |series: &BTreeMap<Labels, Reading>| series.values().map(|reading| reading.value).sum();
        let counts = self.cells.get(&(self.index, quantity, age, true));
        Some(Sums { seconds: total(series), count: counts.map(total) })
    }

    fn ranks(&self) -> BTreeMap<String, Rank> {
        let mut ranks: BTreeMap<String, Rank> = BTreeMap::new();
        let mut each = |quantity, put: fn(&mut Rank, f64)| {
            for (labels, value) in self.series(quantity) {
                let name = RANK_LABELS.iter().find_map(|label| get(labels, label)).unwrap_or_default();
                put(ranks.entry(name.to_owned()).or_default(), value);
            }
        };
        each(Quantity::Running, |rank, value| rank.running = Some(rank.running.unwrap_or(0.0) + value));
        each(Quantity::Waiting, |rank, value| rank.waiting = Some(rank.waiting.unwrap_or(0.0) + value));
        each(Quantity::KvUsage, |rank, value| rank.kv_usage = Some(rank.kv_usage.unwrap_or(0.0).max(value)));
        ranks
    }

    fn finished(&self) -> BTreeMap<String, f64> {
        let mut finished = BTreeMap::new();
        let Some((age, series)) = self.newest(Quantity::Finished, false) else { return finished };
        let label = row(self.index, Quantity::Finished).and_then(|row| row.get(age)).and_then(|series| series.reason);
        for (labels, reading) in series {
            let reason = label.and_then(|label| get(labels, label)).unwrap_or(ANY);
            if finished.len() < NAMES || finished.contains_key(reason) {
                *finished.entry(reason.to_owned()).or_insert(0.0) += reading.value;
            }
        }
        finished
    }

    /// By the newest of its series: each set of adapters leaves one behind.
    fn lora(&self) -> Option<Lora> {
        let (labels, _) = self.series(Quantity::Lora).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let names = |label| {
            let names = get(labels, label).unwrap_or_default().split(',').map(str::trim);
            names.filter(|name| !name.is_empty()).take(NAMES).map(str::to_owned).collect()
        };
        Some(Lora {
            max: get(labels, "max_lora").and_then(|text| text.parse().ok()),
            running: names("running_lora_adapters"),
            waiting: names("waiting_lora_adapters"),
        })
    }

    fn cache(&self) -> BTreeMap<&'static str, String> {
        let Some((labels, _)) = self.series(Quantity::Cache).next() else { return BTreeMap::new() };
        let kept = CACHE_LABELS.iter().filter_map(|label| Some((*label, get(labels, label)?)));
        kept.filter(|(_, value)| *value != "None").map(|(label, value)| (label, value.to_owned())).collect()
    }
}

fn row(engine: usize, quantity: Quantity) -> Option<&'static [Series]> {
    let rows = ENGINES.get(engine)?.rows.iter();
    rows.filter(|(it, _)| *it == quantity).map(|(_, row)| *row).next()
}

fn find(point: &Point<'_>) -> Option<Cell> {
    ENGINES.iter().enumerate().filter(|(_, engine)| is_own(engine, point.name)).find_map(|(index, engine)| {
        engine.rows.iter().find_map(|(quantity, row)| {
            row.iter().enumerate().find_map(|(age, series)| {
                let is_count = is_count(series, point)?;
                Some((index, *quantity, age, is_count))
            })
        })
    })
}

fn is_own(engine: &Engine, name: &str) -> bool {
    engine.prefixes.is_empty() || engine.prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a sample of this series is the count of a duration; `None` where it is none of this series.
fn is_count(series: &Series, point: &Point<'_>) -> Option<bool> {
    if series.only.is_some_and(|(label, value)| point.label(label) != Some(value)) {
        return None;
    }
    match (series.form, point.name.strip_prefix(series.name)?) {
        (Form::Plain | Form::Counter, "") | (Form::Counter, "_total") | (Form::Sums, "_sum") => Some(false),
        (Form::Sums, "_count") => Some(true),
        _ => None,
    }
}

/// A family's name, from that of one of its samples.
fn base(name: &str) -> &str {
    let name = ["_count", "_sum", "_created"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name)
}

/// Whether a family belongs to the platform, or is known and not read, or is read but for this sample.
fn is_known(base: &str) -> bool {
    let fits = |pattern: &&str| {
        pattern
            .split_once('*')
            .map_or(base == *pattern, |(head, tail)| base.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail)))
    };
    let reads = |engine: &Engine| {
        let mut series = engine.rows.iter().flat_map(|(_, row)| *row);
        series.any(|series| self::base(series.name) == base)
    };
    PLATFORM.iter().any(fits) || ENGINES.iter().any(|engine| engine.unread.iter().any(fits) || reads(engine))
}

/// An unset gauge is NaN in some engines; a share outside 0 to 1 is in a unit that is not known here.
fn is_reading(quantity: Quantity, value: f64) -> bool {
    match quantity {
        Quantity::KvUsage => (0.0..=1.0).contains(&value),
        _ => value.is_finite() && value >= 0.0,
    }
}

/// Labels that make a series of its own, sorted.
fn labels(point: &Point<'_>) -> Labels {
    let own = point.labels.iter().filter(|(key, _)| *key != PROCESS_LABEL && !LOCKSTEP_LABELS.contains(key));
    let mut labels: Labels = own.map(|(key, value)| ((*key).to_owned(), value.clone().into_owned())).collect();
    labels.sort_unstable();
    labels
}

fn get<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
