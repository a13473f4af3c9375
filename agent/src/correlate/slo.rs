//! Objectives and a finished request in, which of them it missed out.

use crate::clock::MonoNs;
use crate::correlate::fate::Fate;
use crate::request::Request;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a request may take; what is not set binds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Objective {
    /// Time to first token, seconds; streams.
    pub ttft_seconds: Option<f64>,
    /// Time for each token after the first, seconds.
    pub tpot_seconds: Option<f64>,
    /// Duration, seconds.
    pub duration_seconds: Option<f64>,
    /// Whether a failure of the server is a miss; without a word, where anything else is set.
    pub errors: Option<bool>,
}

impl Objective {
    /// What is set here, else what is set there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ttft_seconds: self.ttft_seconds.or(other.ttft_seconds),
            tpot_seconds: self.tpot_seconds.or(other.tpot_seconds),
            duration_seconds: self.duration_seconds.or(other.duration_seconds),
            errors: self.errors.or(other.errors),
        }
    }

    fn errors(&self) -> bool {
        let any = self.ttft_seconds.is_some() || self.tpot_seconds.is_some() || self.duration_seconds.is_some();
        self.errors.unwrap_or(any)
    }
}

/// The objectives of one agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objectives {
    /// Of every model.
    pub all: Objective,
    /// Of single models, by the name that the engine serves; what is not set there is as for all.
    pub models: BTreeMap<String, Objective>,
}

impl Objectives {
    /// Those of a model.
    pub fn of(&self, model: &str) -> Objective {
        self.models.get(model).map_or(self.all, |own| own.or(self.all))
    }

    /// Every threshold of one kind, so that it can be a bucket bound.
    pub fn thresholds(&self, of: fn(&Objective) -> Option<f64>) -> Vec<f64> {
        std::iter::once(&self.all).chain(self.models.values()).filter_map(of).collect()
    }
}

/// An objective by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Slo {
    /// Time to first token.
    Ttft,
    /// Time for each token after the first.
    Tpot,
    /// Duration.
    Duration,
    /// A failure of the server.
    Error,
}

/// An objective that was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Which.
    pub slo: Slo,
    /// What it took, nanoseconds: for [`Slo::Tpot`] all its decoding.
    pub took_ns: u64,
    /// What it could take.
    pub limit_ns: u64,
}

/// What a request missed; `None` where no objective binds it. A request that was refused for what its caller
/// sent, or whose caller left in good time, says nothing of the server.
pub fn judge(objective: &Objective, request: &Request) -> Option<Vec<Missed>> {
    let fate = Fate::of(request);
    match fate {
        Fate::Refused => return None,
        Fate::Failed => {
            let error = Missed { slo: Slo::Error, took_ns: 0, limit_ns: 0 };
            return objective.errors().then(|| vec![error]);
        }
        Fate::Ok | Fate::Left => {}
    }
    let held: Vec<Missed> = [
        (Slo::Ttft, objective.ttft_seconds.zip(first_content_ns(request))),
        (Slo::Tpot, objective.tpot_seconds.and_then(|limit| Some((limit * tokens(request)?, decode_ns(request)?)))),
        (Slo::Duration, objective.duration_seconds.zip(request.duration_ns())),
    ]
    .into_iter()
    .filter_map(|(slo, held)| held.map(|(limit, took_ns)| Missed { slo, took_ns, limit_ns: ns(limit) }))
    .collect();
    let missed: Vec<Missed> = held.iter().filter(|held| held.took_ns > held.limit_ns).copied().collect();
    let binds = if fate == Fate::Left { !missed.is_empty() } else { !held.is_empty() || objective.errors() };
    binds.then_some(missed)
}

/// When the caller saw the first token; one who left before it waited until then.
fn shown(request: &Request) -> Option<MonoNs> {
    let left = Fate::of(request) == Fate::Left;
    let shown = request.first_content.or(left.then_some(request.finished));
    shown.filter(|_| request.stream == Some(true))
}

fn first_content_ns(request: &Request) -> Option<u64> {
    shown(request)?.since(request.accepted?)
}

/// From the step that made the first token to what the caller saw of it, nanoseconds; streams only.
pub(super) fn answer_ns(request: &Request) -> Option<u64> {
    shown(request)?.since(request.first_output?)
}

/// The mean time for a token is over its engine requests, so that its decoding is too.
fn decode_ns(request: &Request) -> Option<u64> {
    Some(ns(request.tpot_seconds? * tokens(request)?))
}

/// Tokens after the first, of the longest of its engine requests.
fn tokens(request: &Request) -> Option<f64> {
    let each = request.engine_requests.iter().map(|engine| engine.output_tokens).max();
    each.or(request.output_tokens)?.checked_sub(1).filter(|after| *after > 0).map(|after| after as f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest in range")]
fn ns(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::ms;
    use crate::correlate::sample::streamed;

    /// TTFT 150 ms, 4 tokens after the first in 50 ms each, duration 400 ms.
    fn missed(objective: Objective, change: impl FnOnce(&mut Request)) -> Option<Vec<Slo>> {
        let mut request = streamed(1);
        change(&mut request);
        judge(&objective, &request).map(|missed| missed.iter().map(|missed| missed.slo).collect())
    }

    fn limits(ttft: f64, tpot: f64, duration: f64) -> Objective {
        Objective { ttft_seconds: Some(ttft), tpot_seconds: Some(tpot), duration_seconds: Some(duration), errors: None }
    }

    #[test]
    fn what_takes_longer_than_its_threshold_is_missed() {
        for (objective, expected) in [
            (limits(0.15, 0.05, 0.4), vec![]),
            (limits(0.149, 0.05, 0.4), vec![Slo::Ttft]),
            (limits(0.15, 0.049, 0.4), vec![Slo::Tpot]),
            (limits(0.15, 0.05, 0.39), vec![Slo::Duration]),
            (limits(0.1, 0.01, 0.1), vec![Slo::Ttft, Slo::Tpot, Slo::Duration]),
        ] {
            assert_eq!(missed(objective, |_| ()), Some(expected), "{objective:?}");
        }
        assert_eq!(missed(Objective::default(), |_| ()), None, "no objective, no judgement");
    }

    #[test]
    fn failures_are_the_servers_and_refusals_and_leavers_the_callers() {
        let with = |status, error: &str| {
            let error = error.to_owned();
            missed(limits(1.0, 1.0, 1.0), move |request| {
                request.status = Some(status);
                request.error_type = Some(error);
            })
        };
        assert_eq!(with(500, "500"), Some(vec![Slo::Error]));
        assert_eq!(with(200, "stream_reset"), Some(vec![Slo::Error]));
        assert_eq!(with(200, "engine_dead"), Some(vec![Slo::Error]));
        assert_eq!([with(404, "404"), with(429, "429"), with(200, "client_disconnect")], [None, None, None]);
        let off = Objective { errors: Some(false), ..limits(1.0, 1.0, 1.0) };
        assert_eq!(missed(off, |request| request.error_type = Some("500".to_owned())), None);
    }

    #[test]
    fn a_caller_who_waited_too_long_before_leaving_counts() {
        let left = |finished| {
            missed(limits(0.3, 1.0, 1.0), move |request| {
                request.error_type = Some("client_disconnect".to_owned());
                request.first_content = None;
                request.finished = ms(finished);
            })
        };
        assert_eq!((left(290), left(310)), (None, Some(vec![Slo::Ttft])));
    }

    #[test]
    fn a_models_own_objective_stands_above_the_one_for_all() {
        let own = Objective { ttft_seconds: Some(9.0), errors: Some(false), ..Objective::default() };
        let objectives =
            Objectives { all: limits(1.0, 2.0, 3.0), models: [("big".to_owned(), own)].into_iter().collect() };
        assert_eq!(objectives.of("big"), Objective { errors: Some(false), ..limits(9.0, 2.0, 3.0) });
        assert_eq!(objectives.of("small"), limits(1.0, 2.0, 3.0));
        assert_eq!(objectives.thresholds(|objective| objective.ttft_seconds), [1.0, 9.0]);
        assert_eq!(objectives.thresholds(|objective| objective.tpot_seconds), [2.0]);
    }
}
