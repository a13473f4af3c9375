//! Totals of series in; what each model cost, in all and for each so many requests, tokens and hours, out.

use crate::correlate::Series;
use crate::correlate::totals::Totals;
use serde::Serialize;
use std::collections::BTreeMap;

/// What one model cost since the agent started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelCost {
    /// The model.
    pub model: String,
    /// Finished requests.
    pub requests: u64,
    /// Tokens of prompts and tokens delivered, of requests where they are known.
    pub tokens: u64,
    /// By the price of GPUs and the share of their time; `None` where neither is known.
    pub by_gpu: Option<Cost>,
    /// By the prices set for tokens.
    pub by_tokens: Option<Cost>,
}

/// Dollars, and what they come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// In all.
    pub dollars: f64,
    /// For a thousand requests; `None` without any.
    pub per_1000_requests: Option<f64>,
    /// For a million tokens; `None` without any.
    pub per_million_tokens: Option<f64>,
    /// For an hour, over the whole time; `None` where that has not begun.
    pub per_hour: Option<f64>,
}

impl Cost {
    /// Of so many dollars.
    pub fn of(dollars: f64, requests: u64, tokens: u64, seconds: f64) -> Self {
        let per = |of: f64, unit: f64| (of > 0.0).then(|| dollars / of * unit);
        Self {
            dollars,
            per_1000_requests: per(requests as f64, 1e3),
            per_million_tokens: per(tokens as f64, 1e6),
            per_hour: per(seconds, 3_600.0),
        }
    }
}

/// Of all models, by name; the totals are of the last `seconds`.
pub fn costs(series: &BTreeMap<Series, Totals>, seconds: f64) -> Vec<ModelCost> {
    let mut models: BTreeMap<&str, Vec<&Totals>> = BTreeMap::new();
    for (series, totals) in series {
        models.entry(&series.model).or_default().push(totals);
    }
    let cost = |(model, all): (&str, Vec<&Totals>)| {
        let requests = all.iter().flat_map(|totals| totals.requests.values()).sum();
        let tokens = all.iter().flat_map(|totals| [totals.input_tokens, totals.output_tokens]).flatten().sum();
        let sum = |dollars: fn(&Totals) -> Option<f64>| {
            let known = all.iter().filter_map(|totals| dollars(totals)).reduce(|sum, more| sum + more);
            known.map(|dollars| Cost::of(dollars, requests, tokens, seconds))
        };
        ModelCost {
            model: model.to_owned(),
            requests,
            tokens,
            by_gpu: sum(|totals| totals.used.part.dollars),
            by_tokens: sum(|totals| totals.token_dollars),
        }
    };
    models.into_iter().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::bounds::Bounds;
    use crate::correlate::slo::Objectives;
    use crate::correlate::totals::Outcome;
    use crate::ident::EngineKind;

    fn series(model: &str, operation: &'static str) -> Series {
        Series { engine: EngineKind::Vllm, model: model.to_owned(), operation }
    }

    fn totals(requests: u64, tokens: Option<u64>, token_dollars: Option<f64>) -> Totals {
        let ok = Outcome { status: "200".to_owned(), error_type: String::new() };
        Totals {
            requests: BTreeMap::from([(ok, requests)]),
            output_tokens: tokens,
            token_dollars,
            ..Totals::new(&Bounds::new(&Objectives::default()))
        }
    }

    #[test]
    fn a_model_is_the_sum_of_its_series() {
        let all = BTreeMap::from([
            (series("a", "chat"), totals(300, Some(1_000), Some(0.5))),
            (series("a", "text_completion"), totals(100, Some(3_000), Some(1.5))),
            (series("a", "embeddings"), totals(100, None, None)),
            (series("b", "chat"), totals(7, None, None)),
        ]);
        let cost =
            Cost { dollars: 2.0, per_1000_requests: Some(4.0), per_million_tokens: Some(500.0), per_hour: Some(4.0) };
        let found = costs(&all, 1_800.0);
        let rows: Vec<_> =
            found.iter().map(|row| (row.model.as_str(), row.requests, row.tokens, row.by_tokens)).collect();
        assert_eq!(rows, [("a", 500, 4_000, Some(cost)), ("b", 7, 0, None)]);
        assert!(found.iter().all(|row| row.by_gpu.is_none()));
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let cost = Cost { dollars: 0.0, per_1000_requests: None, per_million_tokens: None, per_hour: None };
        assert_eq!(Cost::of(0.0, 0, 0, 0.0), cost);
    }
}
