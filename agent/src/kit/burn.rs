//! Service level objectives in; what records their burn rates and alerts on them, in several windows at once, out.
//!
//! The windows and factors are those of the SRE workbook for 30 days: each alert asks for the same burn rate in a long
//! window, so that it is worth somebody's time, and in a twelfth of it, so that it ends when the trouble ends.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::cases::Case;
use crate::kit::rules::ANSWERABLE;
use crate::kit::rules::FAILED;
use crate::kit::rules::Group;
use crate::kit::rules::INTERVAL_SECONDS;
use crate::kit::rules::Rule;
use crate::kit::rules::Rules;
use crate::kit::rules::or_none_of;
use crate::kit::rules::record;
use crate::kit::runbook;
use crate::kit::slo;
use crate::kit::slo::Kind;
use crate::kit::slo::Models;
use crate::kit::slo::Slo;
use crate::kit::yaml;
use std::collections::BTreeMap;

/// A burn rate that is watched: 1 spends the budget of 30 days in 30 days.
#[derive(Debug, Clone, Copy)]
pub struct Burn {
    /// How many times as fast.
    pub factor: f64,
    /// The long window.
    pub long: &'static str,
    /// The short one.
    pub short: &'static str,
    /// The share of the budget that is gone when the long window has passed.
    pub spent: &'static str,
    /// Who is told: `critical` is a page, `warning` a message.
    pub severity: &'static str,
}

/// Each, fastest first.
pub const BURNS: [Burn; 4] = [
    Burn { factor: 14.4, long: "1h", short: "5m", spent: "2 %", severity: "critical" },
    Burn { factor: 6.0, long: "6h", short: "30m", spent: "5 %", severity: "critical" },
    Burn { factor: 3.0, long: "1d", short: "2h", spent: "10 %", severity: "warning" },
    Burn { factor: 1.0, long: "3d", short: "6h", spent: "10 %", severity: "warning" },
];

/// Windows over which the share of bad requests is recorded, but for the shortest.
const WINDOWS: [&str; 6] = ["30m", "1h", "2h", "6h", "1d", "3d"];

/// With fewer requests in the long window than this, one failure more or less would decide.
pub const REQUESTS_MIN: u32 = 60;

/// The file of rules for the objectives.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn file(slos: &[Slo]) -> Result<File, Error> {
    let about = format!(
        "Service level objectives: what is recorded of them, and alerts on their burn rates.\n\
         {}\n\
         A rule that is often copied pages when 5 % of the budget burn in 1 h. Over 30 days that is a burn rate of 36,\n\
         and an objective of 95 % can never burn faster than 20: at that, every request is bad. It stands replaced by\n\
         14.4 over 1 h and 6 over 6 h (page), 3 over 1 d and 1 over 3 d (message). A plain `share < 0.95` over 1 h, its\n\
         other form, pages at a burn rate of 1, which spends no more than the budget.\n\
         An alert asks for {REQUESTS_MIN} requests in its long window.\n\
         Written by `tachograph generate alerts`.",
        slos.iter().map(|slo| format!("- {}{}", slo.words(), bound_to(slo))).collect::<Vec<_>>().join("\n"),
    );
    yaml::file("rules/slo.yml", &about, &rules(slos))
}

fn bound_to(slo: &Slo) -> String {
    match slo.models.matcher() {
        matcher if matcher.is_empty() => String::new(),
        matcher => format!(", {matcher}"),
    }
}

/// The rules.
pub fn rules(slos: &[Slo]) -> Rules {
    let mut groups = vec![Group::new("tachograph-slo", slos.iter().flat_map(recorded).collect())];
    groups.push(Group {
        interval: "5m".to_owned(),
        ..Group::new("tachograph-slo-budget", slos.iter().map(budget).collect())
    });
    groups.push(Group::new("tachograph-slo-alerts", slos.iter().flat_map(alerts).collect()));
    Rules { groups }
}

/// Matchers in braces, without those that are empty; nothing where none is left.
fn all<const N: usize>(matchers: [&str; N]) -> String {
    let matchers: Vec<&str> = matchers.into_iter().filter(|matcher| !matcher.is_empty()).collect();
    if matchers.is_empty() { String::new() } else { format!("{{{}}}", matchers.join(",")) }
}

const BY: &str = "sum by (gen_ai_request_model)";

/// Whole numbers have a point in OpenMetrics and from Prometheus 3 on, and none before.
fn bucket(seconds: f64) -> String {
    let text = seconds.to_string();
    if text.contains('.') { format!("le=\"{text}\"") } else { format!("le=~\"{text}([.]0)?\"") }
}

/// Requests a second that an objective applied to, and those that were bad.
fn counted(slo: &Slo) -> (String, String) {
    let models = slo.models.matcher();
    let (Some(histogram), Some(threshold)) = (slo.kind.histogram(), slo.threshold) else {
        let rate = |what: &str| format!("{BY} (rate(tachograph_requests_total{}[5m]))", all([what, &models]));
        return (rate(ANSWERABLE), or_none_of(&rate(FAILED), &rate(ANSWERABLE)));
    };
    // Of a failed request, only how long it took to fail is known.
    let well = if slo.kind == Kind::Duration { "error_type=\"\"" } else { "" };
    let name = histogram.name;
    let total = format!("{BY} (rate({name}_count{}[5m]))", all([well, &models]));
    let bucket = bucket(threshold);
    let within = format!("{BY} (rate({name}_bucket{}[5m]))", all([&bucket, well, &models]));
    (total.clone(), format!("{total} - {within}"))
}

fn selected(series: &str, slo: &Slo) -> String {
    let models = slo.models.matcher();
    let kind = format!("slo=\"{}\"", slo.kind.name());
    format!("{series}{}", all([kind.as_str(), models.as_str()]))
}

fn labelled(slo: &Slo, rule: Rule) -> Rule {
    Rule { labels: BTreeMap::from([("slo".to_owned(), slo.kind.name().to_owned())]), ..rule }
}

fn recorded(slo: &Slo) -> Vec<Rule> {
    let (total, bad) = counted(slo);
    let (requests, wrong) =
        (selected("slo:tachograph_requests:rate5m", slo), selected("slo:tachograph_bad_requests:rate5m", slo));
    let mut rules = vec![
        record("slo:tachograph_requests:rate5m", total),
        record("slo:tachograph_bad_requests:rate5m", bad),
        record("slo:tachograph_objective:ratio", format!("0 * {requests} + {}", slo.goal)),
        record("slo:tachograph_bad:ratio_5m", format!("{wrong} / ({requests} > 0)")),
    ];
    rules.extend(WINDOWS.map(|window| {
        let name = format!("slo:tachograph_bad:ratio_{window}");
        record(&name, format!("sum_over_time({wrong}[{window}]) / (sum_over_time({requests}[{window}]) > 0)"))
    }));
    rules.into_iter().map(|rule| labelled(slo, rule)).collect()
}

fn budget(slo: &Slo) -> Rule {
    let over = |series| format!("sum_over_time({}[30d])", selected(series, slo));
    let (bad, all) = (over("slo:tachograph_bad_requests:rate5m"), over("slo:tachograph_requests:rate5m"));
    let left = format!("1 - {bad} / ({all} > 0) / (1 - {})", slo.goal);
    labelled(slo, record("slo:tachograph_budget_left:ratio_30d", left))
}

/// The alert's name.
pub const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ttft | Kind::Tpot | Kind::Duration => "LLMLatencySLOBurn",
        Kind::Availability => "LLMAvailabilitySLOBurn",
    }
}

/// For people.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The alert for an objective that the agents do not count.
pub const NOT_MEASURED: &str = "LLMSLONotMeasured";

fn alerts(slo: &Slo) -> Vec<Rule> {
    let burns = BURNS.iter().map(|burn| {
        let limit = format!("({} * (1 - {}))", burn.factor, slo.goal);
        let ratio = |window| selected(&format!("slo:tachograph_bad:ratio_{window}"), slo);
        let enough = format!(
            "sum_over_time({}[{}]) * {INTERVAL_SECONDS} >= {REQUESTS_MIN}",
            selected("slo:tachograph_requests:rate5m", slo),
            burn.long
        );
        let expr =
            format!("{} > {limit}\nand {} > {limit}\nand {enough}", ratio(burn.short), ratio(burn.long));
        let said = [
            (
                "summary",
                format!(
                    "{{{{ $labels.gen_ai_request_model }}}}: {} budget burns {} times too fast",
                    slo.kind.words(),
                    burn.factor
                ),
            ),
            (
                "description",
                format!(
                    "The objective is {}. {{{{ $value | humanizePercentage }}}} of the requests of the last {} missed it, \
                     and over the last {} it was also more than {} %: at that rate {} of the budget of 30 days are gone \
                     when {} have passed. (5 % of it in 1 h, as often asked for, is a burn rate of 36; this objective can \
                     reach {}.)",
                    slo.words(),
                    burn.short,
                    burn.long,
                    rounded(100.0 * burn.factor * slo.budget()),
                    burn.spent,
                    burn.long,
                    rounded(slo.most()),
                ),
            ),
            ("runbook_url", runbook::url(name(slo.kind))),
        ];
        let labels = [("severity", burn.severity), ("slo", slo.kind.name()), ("window", burn.long)];
        Rule {
            alert: Some(name(slo.kind).to_owned()),
            expr,
            labels: labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into(),
            annotations: said.map(|(label, value)| (label.to_owned(), value)).into(),
            ..Rule::default()
        }
    });
    burns.chain(not_measured(slo)).collect()
}

/// The agents count no bucket up to this threshold: their settings are others than those of the rules.
fn not_measured(slo: &Slo) -> Option<Rule> {
    let (histogram, threshold) = (slo.kind.histogram()?, slo.threshold?);
    let models = slo.models.matcher();
    let (name, bucket) = (histogram.name, bucket(threshold));
    Some(Rule {
        alert: Some(NOT_MEASURED.to_owned()),
        expr: format!(
            "{BY} (rate({name}_count{}[1h])) > 0\nunless on (gen_ai_request_model)\n{BY} (rate({name}_bucket{}[1h]))",
            all([&models]),
            all([&bucket, &models])
        ),
        hold: Some("15m".to_owned()),
        labels: [("severity", "warning"), ("slo", slo.kind.name())]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into(),
        annotations: [
            ("summary", "{{ $labels.gen_ai_request_model }}: an objective that nobody counts".to_owned()),
            (
                "description",
                format!("The agents have no bucket up to {threshold} s, so whether {} is not known.", slo.words()),
            ),
            ("runbook_url", runbook::url(NOT_MEASURED)),
        ]
        .map(|(label, value)| (label.to_owned(), value))
        .into(),
        ..Rule::default()
    })
}

/// Requests a minute in the tests.
const A_MINUTE: f64 = 1_000.0;

/// Each alert of an objective once with a little more than it fires at, once with a little less.
pub(super) fn cases(slo: &Slo) -> Vec<Case> {
    let model = match &slo.models {
        Models::One(name) => slo::quoted(name),
        // No engine serves a model of this name, so it is none of the others.
        Models::AllBut(_) => "any other".to_owned(),
    };
    let series = |share: f64| {
        let base = format!("gen_ai_request_model=\"{model}\",node=\"n\"");
        let rises = |count: f64| format!("0+{count:.1}x500");
        match (slo.kind.histogram(), slo.threshold) {
            (Some(histogram), Some(threshold)) => vec![
                (format!("{}_count{{{base}}}", histogram.name), rises(A_MINUTE)),
                (format!("{}_bucket{{{base},le=\"{threshold}\"}}", histogram.name), rises(A_MINUTE * (1.0 - share))),
            ],
            _ => vec![
                (format!("tachograph_requests_total{{{base},status=\"200\"}}"), rises(A_MINUTE * (1.0 - share))),
                (
                    format!("tachograph_requests_total{{{base},status=\"500\",error_type=\"500\"}}"),
                    rises(A_MINUTE * share),
                ),
                // What callers do wrong, or leave, is in neither sum.
                (format!("tachograph_requests_total{{{base},status=\"429\",error_type=\"429\"}}"), rises(A_MINUTE)),
                (
                    format!("tachograph_requests_total{{{base},status=\"200\",error_type=\"client_disconnect\"}}"),
                    rises(A_MINUTE),
                ),
            ],
        }
    };
    let firing = |burn: &Burn| {
        format!(
            "ALERTS{{alertname=\"{}\",alertstate=\"firing\",slo=\"{}\",window=\"{}\"}}",
            name(slo.kind),
            slo.kind.name(),
            burn.long
        )
    };
    let [fastest, ..] = &BURNS;
    let mut cases = Vec::new();
    for burn in &BURNS {
        let at = burn.factor * slo.budget();
        for (word, share, fires) in [("above", (at * 1.05).min(1.0), 1), ("below", at * 0.95, 0)] {
            cases.push(Case {
                name: format!("{} of {model}, {word} a burn rate of {}", slo.kind.name(), burn.factor),
                series: series(share),
                at: "1h".to_owned(),
                alerts: firing(burn),
                fires,
            });
        }
    }
    cases.push(Case {
        name: format!("{} of {model}, too few requests to say", slo.kind.name()),
        series: series(1.0).into_iter().map(|(name, _)| (name, "0x30 1x30".to_owned())).collect(),
        at: "35m".to_owned(),
        alerts: format!("ALERTS{{alertname=\"{}\"}}", name(slo.kind)),
        fires: 0,
    });
    let well_again = |(name, values): (String, String)| {
        // An hour in which everything was bad, and then nothing.
        let values = match values.as_str() {
            good if good.starts_with("0+0.0x") => "0x60 0+1000x60".to_owned(),
            bad if name.contains("500") => bad.replace("x500", "x60 60000x60"),
            other => other.to_owned(),
        };
        (name, values)
    };
    cases.push(Case {
        name: format!("{} of {model}, an outage that is over", slo.kind.name()),
        series: series(1.0).into_iter().map(well_again).collect(),
        at: "1h30m".to_owned(),
        alerts: firing(fastest),
        fires: 0,
    });
    if let (Some(histogram), Some(_)) = (slo.kind.histogram(), slo.threshold) {
        let counted = format!("{}_count{{gen_ai_request_model=\"{model}\"}}", histogram.name);
        cases.push(Case {
            name: format!("{} of {model}, no bucket up to the threshold", slo.kind.name()),
            series: vec![(counted, "0+60x100".to_owned())],
            at: "30m".to_owned(),
            alerts: format!("ALERTS{{alertname=\"{NOT_MEASURED}\",alertstate=\"firing\"}}"),
            fires: 1,
        });
    }
    cases
}
