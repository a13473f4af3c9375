//! Objectives in, the bucket bounds of every histogram out.

use crate::correlate::slo::Objectives;
use crate::request::ITL_BOUNDS_NS;
use std::sync::Arc;

/// `gen_ai.server.request.duration` as recommended, and on to 2,560 s.
pub const DURATION: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 160.0, 320.0, 640.0,
    1280.0, 2560.0,
];

/// `gen_ai.server.time_to_first_token` as recommended, and on to 2,560 s.
pub const TTFT: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

/// `gen_ai.server.time_per_output_token` as recommended.
pub const TPOT: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// Energy of a request, joules.
pub const ENERGY: &[f64] =
    &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0];

/// The bounds of one agent run, seconds where nothing else is said.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Durations.
    pub duration: Arc<[f64]>,
    /// Times to first token, and phases.
    pub ttft: Arc<[f64]>,
    /// Times per output token.
    pub tpot: Arc<[f64]>,
    /// Gaps between content-carrying writes: those of a request's own histogram.
    pub itl: Arc<[f64]>,
    /// Energy, joules.
    pub energy: Arc<[f64]>,
}

impl Bounds {
    /// The recommended bounds with the thresholds of the objectives among them.
    pub fn new(objectives: &Objectives) -> Self {
        Self {
            duration: with(DURATION, &objectives.thresholds(|objective| objective.duration_seconds)),
            ttft: with(TTFT, &objectives.thresholds(|objective| objective.ttft_seconds)),
            tpot: with(TPOT, &objectives.thresholds(|objective| objective.tpot_seconds)),
            energy: Arc::from(ENERGY),
            itl: ITL_BOUNDS_NS.iter().map(|ns| crate::clock::seconds(*ns)).collect(),
        }
    }
}

fn with(bounds: &[f64], thresholds: &[f64]) -> Arc<[f64]> {
    let mut all: Vec<f64> =
        bounds.iter().chain(thresholds).copied().filter(|bound| bound.is_finite() && *bound > 0.0).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::slo::Objective;

    #[test]
    fn thresholds_become_bounds_once_and_in_order() {
        let own = |duration| Objective { duration_seconds: Some(duration), ..Objective::default() };
        let all = Objective { ttft_seconds: Some(0.2), tpot_seconds: Some(0.03), ..own(30.0) };
        let models = [("a".to_owned(), own(0.64)), ("b".to_owned(), own(f64::NAN)), ("c".to_owned(), own(-1.0))];
        let bounds = Bounds::new(&Objectives { all, models: models.into_iter().collect() });
        assert_eq!(bounds.duration.len(), DURATION.len() + 1);
        assert!(bounds.duration.is_sorted());
        assert!(bounds.tpot.contains(&0.03) && bounds.ttft.contains(&0.2) && bounds.ttft.last() == Some(&2560.0));
        assert_eq!(bounds.itl.first(), Some(&0.001));
    }
}
