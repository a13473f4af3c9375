//! The catalog and what a node has in; how many series it costs Prometheus out.

use crate::correlate::bounds;
use crate::correlate::slo::Objectives;
use crate::correlate::totals::OUTCOMES_MAX;
use crate::export::catalog;
use crate::export::catalog::Kind;
use crate::export::catalog::Metric;

/// What a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Pairs of a model and an operation.
    pub models: usize,
    /// Engines, each with a core and a front end.
    pub engines: usize,
    /// GPUs.
    pub gpus: usize,
}

/// Series by what makes them. No user, session, request or path is in any label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of the agent itself.
    pub agent: usize,
    /// For each model and operation.
    pub model: usize,
    /// For each engine.
    pub engine: usize,
    /// For each GPU.
    pub gpu: usize,
    /// For a model and operation that fails in every way there is.
    pub model_most: usize,
}

/// How many values a label has beside those that name the model, the engine or the GPU, as a rule. Statuses and error
/// types go together.
const VALUES: &[(&str, usize)] = &[
    ("error_type", 8),
    ("phase", 6),
    ("type", 5),
    ("cause", 11),
    ("pid", 4),
    ("what", 4),
    ("result", 2),
    ("reason", 10),
    ("state", 2),
    ("rank", 1),
    ("hw_gpu_task", 1),
    ("hw_type", 1),
    ("sensor", 2),
    ("kind", 3),
    ("clock", 4),
    ("hw_state", 3),
    ("xid", 4),
    ("link", 2),
    ("network_io_direction", 2),
    ("part", 5),
    ("tier", 3),
    ("call", 40),
    ("gi", 7),
    ("use", 2),
];

/// What a metric's series belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Agent,
    Model,
    Engine,
    Gpu,
}

fn of(metric: &Metric) -> Of {
    let has = |name: &str| metric.labels.iter().any(|label| label.name == name);
    match () {
        () if has("gen_ai_request_model") => Of::Model,
        () if has("hw_id") => Of::Gpu,
        () if has("engine") => Of::Engine,
        () => Of::Agent,
    }
}

/// Buckets, sum and count of a histogram; 1 for the rest.
fn lines(metric: &Metric, bounds: &bounds::Bounds) -> usize {
    if metric.kind != Kind::Histogram {
        return 1;
    }
    let buckets = match metric.name {
        name if name == catalog::REQUEST_DURATION.name => bounds.duration.len(),
        name if name == catalog::TIME_PER_OUTPUT_TOKEN.name => bounds.tpot.len(),
        name if name == catalog::INTER_TOKEN_LATENCY.name => bounds.itl.len(),
        name if name == catalog::REQUEST_ENERGY.name => bounds.energy.len(),
        _ => bounds.ttft.len(),
    };
    buckets + 3
}

fn values(metric: &Metric) -> usize {
    let value = |label: &str| VALUES.iter().find(|(name, _)| *name == label).map_or(1, |(_, values)| *values);
    metric.labels.iter().map(|label| value(label.name)).product()
}

impl Budget {
    /// For agents with these objectives.
    pub fn new(objectives: &Objectives) -> Self {
        let bounds = bounds::Bounds::new(objectives);
        let sum = |wanted: Of| {
            catalog::all().filter(|metric| of(metric) == wanted).map(|it| values(it) * lines(it, &bounds)).sum()
        };
        let failing = |metric: &Metric| {
            let fails = metric.labels.iter().any(|label| label.name == "error_type");
            if fails { OUTCOMES_MAX * lines(metric, &bounds) } else { values(metric) * lines(metric, &bounds) }
        };
        Self {
            agent: sum(Of::Agent),
            model: sum(Of::Model),
            engine: sum(Of::Engine),
            gpu: sum(Of::Gpu),
            model_most: catalog::all().filter(|metric| of(metric) == Of::Model).map(failing).sum(),
        }
    }

    /// Of a node with so much.
    pub fn of(&self, load: Load) -> usize {
        self.agent + self.model * load.models + self.engine * load.engines + self.gpu * load.gpus
    }

    /// One sentence; `series_cap` is where new models become `other`.
    pub fn sentence(&self, load: Load, series_cap: usize) -> String {
        let Load { models, engines, gpus } = load;
        let Self { agent, model, engine, gpu, model_most } = *self;
        format!(
            "about {} in a scrape for Prometheus: {models} × {model} for a model and kind of request, {engines} × {engine} \
             for an engine, {gpus} × {gpu} for a GPU, {agent} for the agent; models and kinds are at most {series_cap}, and \
             one that fails in every way has {model_most}",
            self.of(load)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The page that everything is on has two models, one engine, and two GPUs.
    #[test]
    fn no_metric_of_a_real_page_has_more_series_than_the_table_says() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/metrics.txt"));
        let mut series: BTreeMap<&str, usize> = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            *series.entry(line.split(['{', ' ']).next().unwrap()).or_default() += 1;
        }
        assert!(series.len() > 100);
        let bounds = bounds::Bounds::new(&Objectives::default());
        for metric in catalog::all() {
            let parts = ["", "_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name));
            let found: usize = parts.iter().filter_map(|name| series.get(name.as_str())).sum();
            let allowed = 2 * values(metric) * (lines(metric, &bounds) + 1);
            assert!(found <= allowed, "{}: {found}, of {allowed}", metric.name);
        }
    }

    #[test]
    fn parts_sum_to_the_whole() {
        let budget = Budget::new(&Objectives::default());
        let load = Load { models: 2, engines: 1, gpus: 8 };
        assert_eq!(budget.of(load), budget.agent + 2 * budget.model + budget.engine + 8 * budget.gpu);
        let said = budget.sentence(Load { gpus: 0, ..load }, 7);
        assert!(said.contains("at most 7") && said.contains(&format!("0 × {} for a GPU", budget.gpu)), "{said}");
        assert!(budget.model_most > budget.model && budget.agent > 20 && budget.gpu > 50);
    }
}
