//! [`Point`]s in, an engine's [`Gauges`] out: which names mean running, waiting and KV usage, engine by engine.
//!
//! One engine may be several ranks, each with series of its own. Counts of requests are summed over ranks that
//! schedule for themselves (data parallel) and are one over ranks that run in lockstep (tensor, pipeline and expert
//! parallel), which all report the same batch. KV usage is a share, so its highest is taken and never a sum: the
//! fullest rank is the one that preempts.

use crate::engine::text::Point;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Names of models kept from one page.
const MODELS: usize = 64;

/// Labels that name the model.
const MODEL_LABELS: [&str; 2] = ["model_name", "model"];

/// Labels that tell ranks in lockstep from one another.
const LOCKSTEP_LABELS: [&str; 3] = ["tp_rank", "pp_rank", "moe_ep_rank"];

/// How one engine calls its gauges, each list from the newest name to the oldest.
struct Engine {
    /// The engine.
    name: &'static str,
    running: &'static [Series],
    waiting: &'static [Series],
    kv_usage: &'static [Series],
}

/// A metric, or one label value of it.
struct Series {
    name: &'static str,
    only: Option<(&'static str, &'static str)>,
}

const fn all(name: &'static str) -> Series {
    Series { name, only: None }
}

const fn only(name: &'static str, label: &'static str, value: &'static str) -> Series {
    Series { name, only: Some((label, value)) }
}

/// The table. Bare names come last, so that they never win over an engine's own.
static ENGINES: [Engine; 7] = [
    Engine {
        name: "vllm",
        running: &[all("vllm:num_requests_running")],
        waiting: &[all("vllm:num_requests_waiting")],
        kv_usage: &[all("vllm:kv_cache_usage_perc"), all("vllm:gpu_cache_usage_perc")],
    },
    Engine {
        name: "sglang",
        running: &[all("sglang:num_running_reqs")],
        waiting: &[all("sglang:num_queue_reqs")],
        kv_usage: &[all("sglang:token_usage")],
    },
    Engine { name: "tgi", running: &[all("tgi_batch_current_size")], waiting: &[all("tgi_queue_size")], kv_usage: &[] },
    Engine {
        name: "llama.cpp",
        running: &[all("llamacpp:requests_processing")],
        waiting: &[all("llamacpp:requests_deferred")],
        kv_usage: &[all("llamacpp:kv_cache_usage_ratio")],
    },
    Engine {
        name: "trtllm",
        running: &[all("trtllm_num_requests_running")],
        waiting: &[all("trtllm_num_requests_waiting")],
        kv_usage: &[all("trtllm_kv_cache_utilization")],
    },
    Engine {
        name: "triton",
        running: &[only("nv_trt_llm_request_metrics", "request_type", "scheduled")],
        waiting: &[
            only("nv_trt_llm_request_metrics", "request_type", "waiting"),
            all("nv_inference_pending_request_count"),
        ],
        kv_usage: &[only("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "fraction")],
    },
    Engine {
        name: "nim",
        running: &[all("num_requests_running")],
        waiting: &[all("num_requests_waiting")],
        kv_usage: &[all("kv_cache_usage_perc"), all("gpu_cache_usage_perc")],
    },
];

/// What one page says about its engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauges {
    /// Whose names they are: `vllm`, `sglang`, `tgi`, `llama.cpp`, `trtllm`, `triton`, `nim`.
    pub engine: &'static str,
    /// Requests running.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Model names on these gauges, sorted; at most 64.
    pub models: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gauge {
    Running,
    Waiting,
    KvUsage,
}

/// Which cell of the table: engine, gauge, age of the name.
type Cell = (usize, Gauge, usize);
/// What tells a rank from the others.
type Rank = Vec<(String, String)>;

/// A page being collected.
#[derive(Debug, Default)]
pub struct Collector {
    /// The highest value of each rank.
    ranks: BTreeMap<Cell, BTreeMap<Rank, f64>>,
    models: BTreeMap<usize, BTreeSet<String>>,
}

impl Collector {
    /// Takes what the table knows; everything else, and what cannot be a reading of that gauge, is passed over.
    pub fn take(&mut self, point: &Point<'_>) {
        let Some(cell @ (engine, gauge, _)) = find(point) else { return };
        if !is_reading(gauge, point.value) {
            return;
        }
        let rank = self.ranks.entry(cell).or_default().entry(rank(point)).or_insert(point.value);
        *rank = rank.max(point.value);
        let models = self.models.entry(engine).or_default();
        if let Some(model) = MODEL_LABELS.iter().find_map(|label| point.label(label))
            && models.len() < MODELS
        {
            models.insert(model.to_owned());
        }
    }

    /// The first engine of the table that the page speaks of; `None` when there is none.
    pub fn finish(mut self) -> Option<Gauges> {
        let &(index, ..) = self.ranks.keys().next()?;
        let counts = |ranks: &BTreeMap<Rank, f64>| ranks.values().sum();
        let fullest = |ranks: &BTreeMap<Rank, f64>| ranks.values().copied().fold(0.0, f64::max);
        Some(Gauges {
            engine: ENGINES.get(index)?.name,
            running: self.newest(index, Gauge::Running).map(counts),
            waiting: self.newest(index, Gauge::Waiting).map(counts),
            kv_usage: self.newest(index, Gauge::KvUsage).map(fullest),
            models: self.models.remove(&index).unwrap_or_default().into_iter().collect(),
        })
    }

    /// The ranks under the newest name that the page has.
    fn newest(&self, engine: usize, gauge: Gauge) -> Option<&BTreeMap<Rank, f64>> {
        self.ranks.range((engine, gauge, 0)..=(engine, gauge, usize::MAX)).next().map(|(_, ranks)| ranks)
    }
}

fn find(point: &Point<'_>) -> Option<Cell> {
    let matches = |series: &Series| {
        series.name == point.name && series.only.is_none_or(|(label, value)| point.label(label) == Some(value))
    };
    ENGINES.iter().enumerate().find_map(|(index, engine)| {
        let lists =
            [(Gauge::Running, engine.running), (Gauge::Waiting, engine.waiting), (Gauge::KvUsage, engine.kv_usage)];
        lists.into_iter().find_map(|(gauge, list)| Some((index, gauge, list.iter().position(matches)?)))
    })
}

/// An unset gauge is NaN in some engines; a share outside 0 to 1 is in a unit that is not known here.
fn is_reading(gauge: Gauge, value: f64) -> bool {
    match gauge {
        Gauge::Running | Gauge::Waiting => value.is_finite() && value >= 0.0,
        Gauge::KvUsage => (0.0..=1.0).contains(&value),
    }
}

fn rank(point: &Point<'_>) -> Rank {
    let own = point.labels.iter().filter(|(key, _)| !LOCKSTEP_LABELS.contains(key));
    let mut rank: Rank = own.map(|(key, value)| ((*key).to_owned(), value.clone().into_owned())).collect();
    rank.sort_unstable();
    rank
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::text::Format;
    use crate::engine::text::Parser;

    fn gauges(page: &str) -> Option<Gauges> {
        let mut parser = Parser::new(Format::of(None, page));
        let mut collector = Collector::default();
        page.split_inclusive('\n').filter_map(|line| parser.line(line)).for_each(|point| collector.take(&point));
        assert_eq!(parser.bad_lines(), 0, "{page}");
        collector.finish()
    }

    /// Engine, running, waiting and KV usage of a page.
    fn read(page: &str) -> Option<(&'static str, [Option<f64>; 3])> {
        gauges(page).map(|gauges| (gauges.engine, [gauges.running, gauges.waiting, gauges.kv_usage]))
    }

    /// Each engine's own page gives its three gauges, and nobody else's.
    #[test]
    fn every_engine_is_found_by_its_own_names() {
        for engine in &ENGINES {
            let lists = [(engine.running, 2.0), (engine.waiting, 5.0), (engine.kv_usage, 0.25)];
            for age in 0..2 {
                let mut page = String::new();
                let mut expected = [None; 3];
                for ((list, value), expected) in lists.iter().zip(&mut expected) {
                    if let Some(series) = list.get(age).or(list.last()) {
                        let label = series.only.map_or(String::new(), |(label, value)| format!("{label}=\"{value}\""));
                        page.push_str(&[series.name, "{", &label, "} ", &value.to_string(), "\n"].concat());
                        *expected = Some(*value);
                    }
                }
                assert_eq!(read(&page), Some((engine.name, expected)), "{page}");
            }
        }
    }

    #[test]
    fn the_newest_name_wins_wherever_it_stands() {
        let old = "vllm:gpu_cache_usage_perc 0.9\n";
        let new = "vllm:kv_cache_usage_perc 0.1\n";
        for page in [format!("{old}{new}"), format!("{new}{old}")] {
            assert_eq!(read(&page), Some(("vllm", [None, None, Some(0.1)])));
        }
    }

    #[test]
    fn an_engines_own_names_win_over_bare_ones() {
        let page = "num_requests_running 9\nnum_requests_waiting 9\nvllm:num_requests_running 1\n";
        assert_eq!(read(page), Some(("vllm", [Some(1.0), None, None])));
    }

    #[test]
    fn counts_are_summed_over_data_parallel_ranks_and_kv_usage_is_the_fullest() {
        let page = concat!(
            "vllm:num_requests_running{engine=\"0\",model_name=\"b\"} 3\n",
            "vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 4\n",
            "vllm:num_requests_waiting{engine=\"0\",model_name=\"b\"} 0\n",
            "vllm:num_requests_waiting{engine=\"1\",model_name=\"a\"} 0\n",
            "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"b\",reason=\"capacity\"} 8\n",
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"b\"} 0.5\n",
            "vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"a\"} 0.75\n",
        );
        assert_eq!(read(page), Some(("vllm", [Some(7.0), Some(0.0), Some(0.75)])));
        assert_eq!(gauges(page).unwrap().models, ["a", "b"]);
    }

    #[test]
    fn ranks_in_lockstep_count_once() {
        let page = concat!(
            "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\"} 3\n",
            "sglang:num_running_reqs{tp_rank=\"1\",dp_rank=\"0\"} 3\n",
            "sglang:num_running_reqs{dp_rank=\"1\",tp_rank=\"0\"} 4\n",
        );
        assert_eq!(read(page), Some(("sglang", [Some(7.0), None, None])));
    }

    #[test]
    fn what_cannot_be_a_reading_is_unknown() {
        for value in ["NaN", "-1", "+Inf", "-Inf"] {
            assert_eq!(read(&format!("vllm:num_requests_running {value}\n")), None);
            let page = format!("vllm:kv_cache_usage_perc {value}\nvllm:num_requests_running 0\n");
            assert_eq!(read(&page), Some(("vllm", [Some(0.0), None, None])));
        }
        assert_eq!(read("vllm:kv_cache_usage_perc 42\n"), None, "a percentage is no share");
        assert_eq!(read("up 1\nprocess_cpu_seconds_total 3\n"), None);
    }

    #[test]
    fn model_names_are_bounded() {
        let line = |n| format!("vllm:num_requests_running{{model_name=\"{n}\"}} 1\n");
        let page: String = (0..100).map(line).collect();
        assert_eq!(gauges(&page).unwrap().models.len(), MODELS);
    }
}
