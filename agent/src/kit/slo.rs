//! Objectives and goals in; the service level objectives that rules can watch out, or the key of one that they cannot.

use crate::correlate::bounds::Bounds;
use crate::correlate::slo::Objective;
use crate::correlate::slo::Objectives;
use crate::export::catalog;
use crate::export::catalog::Metric;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The share that shall keep its times, unless set.
pub const LATENCY: f64 = 0.95;
/// The share that shall not fail, unless set.
pub const AVAILABILITY: f64 = 0.995;
/// Between these Prometheus writes a bucket's bound as we do, without an exponent.
const PLAIN: std::ops::Range<f64> = 1e-4..1e6;

/// Shares of requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Goal {
    /// That keep their times.
    pub latency: Option<f64>,
    /// That do not fail.
    pub availability: Option<f64>,
}

impl Goal {
    /// The share that shall keep its times.
    pub fn latency(&self) -> f64 {
        self.latency.unwrap_or(LATENCY)
    }

    /// The share that shall not fail.
    pub fn availability(&self) -> f64 {
        self.availability.unwrap_or(AVAILABILITY)
    }
}

/// The goals of one agent's models.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Goals {
    /// Of every model.
    pub all: Goal,
    /// Of single models; what is not set there is as for all.
    pub models: BTreeMap<String, Goal>,
}

impl Goals {
    /// Those of a model.
    pub fn of(&self, model: &str) -> Goal {
        let own = self.models.get(model).copied().unwrap_or_default();
        Goal { latency: own.latency.or(self.all.latency), availability: own.availability.or(self.all.availability) }
    }
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The time to first token.
    Ttft,
    /// The time for each token after the first.
    Tpot,
    /// The duration.
    Duration,
    /// That requests do not fail.
    Availability,
}

impl Kind {
    /// Each.
    pub const ALL: [Self; 4] = [Self::Ttft, Self::Tpot, Self::Duration, Self::Availability];

    /// The value of the label `slo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
            Self::Duration => "duration",
            Self::Availability => "availability",
        }
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ttft => "time to first token",
            Self::Tpot => "time per output token",
            Self::Duration => "duration",
            Self::Availability => "availability",
        }
    }

    /// The histogram that holds its times.
    pub fn histogram(self) -> Option<&'static Metric> {
        match self {
            Self::Ttft => Some(&catalog::TIME_TO_FIRST_TOKEN),
            Self::Tpot => Some(&catalog::TIME_PER_OUTPUT_TOKEN),
            Self::Duration => Some(&catalog::REQUEST_DURATION),
            Self::Availability => None,
        }
    }

    fn threshold(self, objective: &Objective) -> Option<f64> {
        match self {
            Self::Ttft => objective.ttft_seconds,
            Self::Tpot => objective.tpot_seconds,
            Self::Duration => objective.duration_seconds,
            Self::Availability => None,
        }
    }

    const fn threshold_key(self) -> &'static str {
        match self {
            Self::Ttft => "ttft_seconds",
            Self::Tpot => "tpot_seconds",
            Self::Duration => "duration_seconds",
            Self::Availability => "errors",
        }
    }

    fn bounds(self, bounds: &Bounds) -> Option<&[f64]> {
        match self {
            Self::Ttft => Some(&bounds.ttft),
            Self::Tpot => Some(&bounds.tpot),
            Self::Duration => Some(&bounds.duration),
            Self::Availability => None,
        }
    }
}

/// Whom an objective binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Models {
    /// Every model but those that have another.
    AllBut(Vec<String>),
    /// One.
    One(String),
}

impl Models {
    /// As a matcher of PromQL; empty for every model.
    pub fn matcher(&self) -> String {
        match self {
            Self::AllBut(others) if others.is_empty() => String::new(),
            Self::AllBut(others) => {
                let names: Vec<String> = others.iter().map(|name| quoted(&regex(name))).collect();
                format!("gen_ai_request_model!~\"{}\"", names.join("|"))
            }
            Self::One(name) => format!("gen_ai_request_model=\"{}\"", quoted(name)),
        }
    }
}

/// A name that stands for itself in a regular expression.
fn regex(name: &str) -> String {
    name.chars()
        .flat_map(|it| ["\\".to_owned(), it.to_string()].into_iter().skip(usize::from(!is_special(it))))
        .collect()
}

fn is_special(it: char) -> bool {
    it.is_ascii_punctuation() && !matches!(it, '_' | '-' | '/' | ':' | '@')
}

/// A text inside double quotes of PromQL.
pub(super) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// One service level objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    /// What is promised.
    pub kind: Kind,
    /// For whom.
    pub models: Models,
    /// The time that may not be exceeded.
    pub threshold: Option<f64>,
    /// The share of requests that shall keep it.
    pub goal: f64,
}

impl Slo {
    /// What share of requests may fail it.
    pub fn budget(&self) -> f64 {
        1.0 - self.goal
    }

    /// The highest that a burn rate can be: everything fails.
    pub fn most(&self) -> f64 {
        1.0 / self.budget()
    }

    /// For people: `95 % within 1.5 s to the first token`.
    pub fn words(&self) -> String {
        let share = (self.goal * 1e6).round() / 1e4;
        match self.threshold {
            Some(seconds) => format!("{share} % with a {} of at most {seconds} s", self.kind.words()),
            None => format!("{share} % without a failure of the server"),
        }
    }
}

/// An objective that rules cannot watch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Refused {
    /// The setting.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// The objectives of all models.
///
/// # Errors
///
/// The first that no rule can watch.
pub fn slos(objectives: &Objectives, goals: &Goals) -> Result<Vec<Slo>, Refused> {
    let bounds = Bounds::new(objectives);
    let mut found = Vec::new();
    for kind in Kind::ALL {
        found.extend(of_kind(kind, objectives, goals)?);
    }
    for (key, slo) in &found {
        if let (Some(threshold), Some(bounds)) = (slo.threshold, slo.kind.bounds(&bounds)) {
            is_bound(&format!("{key}.{}", slo.kind.threshold_key()), threshold, bounds)?;
        }
    }
    Ok(found.into_iter().map(|(_, slo)| slo).collect())
}

fn of_kind(kind: Kind, objectives: &Objectives, goals: &Goals) -> Result<Vec<(String, Slo)>, Refused> {
    let promised = |objective: Objective, goal: Goal| {
        if kind == Kind::Availability {
            return (objective.errors != Some(false)).then(|| (None, goal.availability()));
        }
        kind.threshold(&objective).map(|threshold| (Some(threshold), goal.latency()))
    };
    let of_all = promised(objectives.all, goals.all);
    let names: BTreeSet<&String> = objectives.models.keys().chain(goals.models.keys()).collect();
    let own = names.into_iter().map(|name| (name, promised(objectives.of(name), goals.of(name))));
    let own: Vec<_> = own.filter(|(_, promised)| *promised != of_all).collect();
    let others = own.iter().map(|(name, _)| (*name).clone()).collect();
    let all = of_all.map(|promised| ("slo".to_owned(), Models::AllBut(others), promised));
    let own = own.iter().filter_map(|(name, promised)| {
        Some((format!("slo.models.{name}"), Models::One((*name).clone()), (*promised)?))
    });
    all.into_iter()
        .chain(own)
        .map(|(key, models, (threshold, goal))| {
            let slo = Slo { kind, models, threshold, goal };
            let share = if kind == Kind::Availability { "availability" } else { "objective" };
            can_burn(&format!("{key}.{share}"), &slo)?;
            Ok((key, slo))
        })
        .collect()
}

/// Each burn rate that is watched must be possible.
fn can_burn(key: &str, slo: &Slo) -> Result<(), Refused> {
    let fastest = crate::kit::burn::BURNS.iter().map(|burn| burn.factor).fold(0.0, f64::max);
    if slo.most() > fastest {
        return Ok(());
    }
    Err(Refused {
        key: key.to_owned(),
        what: format!(
            "at {} no burn rate exceeds {:.1}, so the alert at {fastest} could never fire; the least that can be \
             watched is {:.4}",
            slo.goal,
            slo.most(),
            1.0 - 1.0 / fastest + 5e-5
        ),
    })
}

/// A share below a threshold is known only where the threshold is a bucket's bound.
fn is_bound(key: &str, threshold: f64, bounds: &[f64]) -> Result<(), Refused> {
    if bounds.contains(&threshold) && PLAIN.contains(&threshold) {
        return Ok(());
    }
    let what = format!("{threshold} s is not the bound of a bucket, so the share of requests within it is not known");
    Err(Refused { key: key.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(ttft: f64) -> Objective {
        Objective { ttft_seconds: Some(ttft), ..Objective::default() }
    }

    fn latency(share: f64) -> Goal {
        Goal { latency: Some(share), ..Goal::default() }
    }

    #[test]
    fn a_model_with_an_objective_of_its_own_is_left_out_of_that_for_all() {
        let objectives =
            Objectives { all: within(1.5), models: [("a/b.c".to_owned(), within(3.0))].into_iter().collect() };
        let slos = slos(&objectives, &Goals::default()).unwrap();
        let ttft: Vec<_> = slos.iter().filter(|slo| slo.kind == Kind::Ttft).collect();
        assert_eq!(
            ttft.iter().map(|slo| (slo.models.matcher(), slo.threshold)).collect::<Vec<_>>(),
            [
                (r#"gen_ai_request_model!~"a/b\\.c""#.to_owned(), Some(1.5)),
                (r#"gen_ai_request_model="a/b.c""#.to_owned(), Some(3.0))
            ]
        );
        assert_eq!(slos.iter().filter(|slo| slo.kind == Kind::Availability).count(), 1, "the same for both");
    }

    #[test]
    fn without_settings_only_failures_are_watched() {
        let slos = slos(&Objectives::default(), &Goals::default()).unwrap();
        assert_eq!(slos.iter().map(|slo| (slo.kind, slo.goal)).collect::<Vec<_>>(), [(Kind::Availability, 0.995)]);
        let off = Objective { errors: Some(false), ..Objective::default() };
        assert_eq!(super::slos(&Objectives { all: off, ..Objectives::default() }, &Goals::default()), Ok(vec![]));
    }

    #[test]
    fn a_burn_rate_that_cannot_be_is_refused_by_its_key() {
        let all = |share| Goals { all: latency(share), ..Goals::default() };
        let objectives = Objectives { all: within(1.5), ..Objectives::default() };
        let error = slos(&objectives, &all(0.9)).unwrap_err();
        assert_eq!((error.key.as_str(), error.what.contains("exceeds 10.0")), ("slo.objective", true), "{error}");
        assert!(slos(&objectives, &all(0.9306)).is_ok() && slos(&objectives, &all(0.9305)).is_err());
        let models = [("m".to_owned(), Goal { availability: Some(0.5), ..Goal::default() })].into_iter().collect();
        let error = slos(&objectives, &Goals { models, ..Goals::default() }).unwrap_err();
        assert_eq!(error.key, "slo.models.m.availability");
    }

    #[test]
    fn a_threshold_that_is_no_bound_is_refused_by_its_key() {
        assert_eq!(is_bound("slo.ttft_seconds", 1.5, &[1.0, 1.5]), Ok(()));
        assert_eq!(is_bound("slo.ttft_seconds", 1.4, &[1.0, 1.5]).unwrap_err().key, "slo.ttft_seconds");
        let tiny = Objectives { all: within(0.00001), ..Objectives::default() };
        assert_eq!(slos(&tiny, &Goals::default()).unwrap_err().key, "slo.ttft_seconds");
    }
}
