//! Finished requests in, the verdict on each out, and how many were judged how; what is usual is learned here.

use crate::correlate::Series;
use crate::correlate::cause;
use crate::correlate::cause::Explained;
use crate::correlate::rolling::Counts;
use crate::correlate::rolling::Rolling;
use crate::correlate::slo;
use crate::correlate::slo::Objectives;
use crate::correlate::slo::Slo;
use crate::correlate::usual::Usual;
use crate::request::Request;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an objective says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it missed; empty where it was as it should be.
    pub missed: Vec<Slo>,
    /// Why, where it missed any.
    pub explained: Option<Explained>,
}

/// Judges requests. Its tables have an entry for each series, which their owner bounds.
#[derive(Debug)]
pub struct Judge {
    objectives: Objectives,
    usual: BTreeMap<Series, Usual>,
    totals: Arc<BTreeMap<Series, Counts>>,
    rolling: Rolling,
}

impl Judge {
    /// One that has seen nothing.
    pub fn new(objectives: Objectives) -> Self {
        Self { objectives, usual: BTreeMap::new(), totals: Arc::default(), rolling: Rolling::default() }
    }

    /// Judges by these from now on.
    pub fn set(&mut self, objectives: Objectives) {
        self.objectives = objectives;
    }

    /// Judges one request; what is usual is learned from those that missed nothing and lack nothing.
    pub fn ended(&mut self, request: &Request, series: &Series, throttled_ns: Option<u64>) -> Option<Verdict> {
        let missed = slo::judge(&self.objectives.of(&series.model), request)?;
        let explained = if missed.is_empty() {
            if request.incomplete.is_empty() {
                let usual = self.usual.entry(series.clone()).or_default();
                for spent in cause::spent(request) {
                    usual.learn(&spent);
                }
            }
            None
        } else {
            let unknown = Usual::default();
            let usual = self.usual.get(series).unwrap_or(&unknown);
            Some(cause::explain(request, &missed, usual, throttled_ns))
        };
        let cause = explained.map(|explained| explained.cause);
        Arc::make_mut(&mut self.totals).entry(series.clone()).or_default().count(cause);
        self.rolling.count(&series.model, cause, request.finished);
        Some(Verdict { missed: missed.iter().map(|missed| missed.slo).collect(), explained })
    }

    /// All that were judged, by series.
    pub fn totals(&self) -> Arc<BTreeMap<Series, Counts>> {
        Arc::clone(&self.totals)
    }

    /// Those of the last minutes.
    pub fn rolling(&self) -> &Rolling {
        &self.rolling
    }
}
