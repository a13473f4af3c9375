//! The alerts that need no objective, one row each; their rules, unit tests and runbook out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::burn;
use crate::kit::cases;
use crate::kit::cases::Case;
use crate::kit::rules::Group;
use crate::kit::rules::Rule;
use crate::kit::rules::Rules;
use crate::kit::rules::record;
use crate::kit::runbook;
use crate::kit::slo::Slo;
use crate::kit::yaml;

mod table;

pub use table::ALERTS;

/// What the runbook says of an alert.
#[derive(Debug)]
pub struct Page {
    /// What it means.
    pub means: &'static str,
    /// Where to look first.
    pub look: &'static str,
    /// What helps.
    pub act: &'static str,
}

/// When a test of an alert looks, what it has, and whether it fires.
#[derive(Debug)]
pub struct Trial {
    /// Series and their values, in promtool's notation, a minute apart (an hour for trends).
    pub series: &'static [(&'static str, &'static str)],
    /// When it looks.
    pub at: &'static str,
    /// How many alerts fire then.
    pub fires: u32,
}

/// One alert.
#[derive(Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// What is evaluated.
    pub expr: &'static str,
    /// How long it must hold.
    pub hold: &'static str,
    /// `critical` pages, `warning` is a message, `info` is seen on boards only.
    pub severity: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// The runbook.
    pub page: Page,
    /// Its tests: one at which it fires, one at which it does not.
    pub trials: &'static [Trial],
}

impl Alert {
    /// Whether it compares weeks.
    fn is_trend(&self) -> bool {
        self.expr.contains("offset 7d")
    }

    fn rule(&self) -> Rule {
        let annotations = [
            ("summary", self.summary.to_owned()),
            ("description", self.description.to_owned()),
            ("runbook_url", runbook::url(self.name)),
        ];
        Rule {
            alert: Some(self.name.to_owned()),
            expr: self.expr.to_owned(),
            hold: Some(self.hold.to_owned()).filter(|hold| hold != "0s"),
            labels: [("severity".to_owned(), self.severity.to_owned())].into(),
            annotations: annotations.map(|(label, value)| (label.to_owned(), value)).into(),
            ..Rule::default()
        }
    }

    fn cases(&self) -> impl Iterator<Item = Case> {
        self.trials.iter().enumerate().map(move |(number, trial)| Case {
            name: format!("{}, {}", self.name, number + 1),
            series: trial.series.iter().map(|(series, values)| ((*series).to_owned(), (*values).to_owned())).collect(),
            at: trial.at.to_owned(),
            alerts: format!(
                "ALERTS{{alertname=\"{}\",alertstate=\"firing\",severity=\"{}\"}}",
                self.name, self.severity
            ),
            fires: trial.fires,
        })
    }
}

/// The rules for what is wrong now.
pub fn rules() -> Rules {
    let now = ALERTS.iter().filter(|alert| !alert.is_trend()).map(Alert::rule);
    Rules { groups: vec![Group::new("tachograph-alerts", now.collect())] }
}

/// What is recorded to compare weeks, and the rules that do.
pub fn trends() -> Rules {
    let hourly = |name: &str, expr: &str| record(name, expr);
    let recorded = vec![
        hourly(
            "model:tachograph_tpot_seconds:mean1h",
            "sum by (gen_ai_request_model) (rate(gen_ai_server_time_per_output_token_seconds_sum[1h]))\n\
             / (sum by (gen_ai_request_model) (rate(gen_ai_server_time_per_output_token_seconds_count[1h])) > 0)",
        ),
        hourly(
            "model:tachograph_requests:rate1h",
            "sum by (gen_ai_request_model) (rate(tachograph_requests_total[1h]))",
        ),
        hourly(
            "model:tachograph_cost_dollars:rate1h",
            "sum by (gen_ai_request_model) (rate(tachograph_request_cost_dollars_total[1h]))\n\
             or sum by (gen_ai_request_model) (rate(tachograph_request_token_dollars_total[1h]))",
        ),
        hourly(
            "model:tachograph_cost_dollars_per_1k_requests:ratio1h",
            "1000 * model:tachograph_cost_dollars:rate1h / (model:tachograph_requests:rate1h > 0)",
        ),
    ];
    let weeks = ALERTS.iter().filter(|alert| alert.is_trend()).map(Alert::rule);
    let slow = |name, rules| Group { interval: "5m".to_owned(), ..Group::new(name, rules) };
    Rules { groups: vec![slow("tachograph-trend", recorded), slow("tachograph-trend-alerts", weeks.collect())] }
}

/// The rules, their tests and the runbook.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn files(slos: &[Slo]) -> Result<Vec<File>, Error> {
    let written = "Written by `tachograph generate alerts`.";
    let cases = |trend| ALERTS.iter().filter(move |alert| alert.is_trend() == trend).flat_map(Alert::cases);
    let (now, weeks): (Vec<Case>, Vec<Case>) = (cases(false).collect(), cases(true).collect());
    let objectives: Vec<Case> = slos.iter().flat_map(burn::cases).collect();
    Ok(vec![
        burn::file(slos)?,
        yaml::file("rules/alerts.yml", &format!("What is wrong now, whatever the objectives.\n{written}"), &rules())?,
        yaml::file("rules/trends.yml", &format!("What changes over weeks.\n{written}"), &trends())?,
        cases::file("rules/tests/slo.yml", &["../slo.yml"], None, &objectives)?,
        cases::file("rules/tests/alerts.yml", &["../alerts.yml", "../recording.yml"], None, &now)?,
        cases::file("rules/tests/trends.yml", &["../trends.yml"], Some("30m"), &weeks)?,
        runbook::file(),
    ])
}
