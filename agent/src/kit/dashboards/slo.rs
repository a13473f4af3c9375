//! Objectives: what is left of their budgets, and how fast it burns.

use super::Board;
use super::REQUESTS;
use super::panel::Kind;
use super::panel::Panel;
use super::rate;
use super::row;
use crate::kit::burn::BURNS;
use crate::kit::rules::or_none_of;

const MODEL: &str = r#"gen_ai_request_model=~"$model""#;
const EACH: &str = "{{gen_ai_request_model}} {{slo}}";

pub(super) fn board() -> Board {
    let burning = |window: &str| {
        format!(
            "slo:tachograph_bad:ratio_{window}{{{MODEL}}} / on (slo, gen_ai_request_model) \
             (1 - slo:tachograph_objective:ratio{{{MODEL}}})"
        )
    };
    let over = |title, window: &str, description| {
        Panel::new(Kind::Lines, title, "suffix: ×", description).query(burning(window), EACH)
    };
    let factor = |at: usize| BURNS.get(at).map(|burn| (burn.factor, "red"));
    let judged = rate("", "tachograph_slo_requests_total", REQUESTS);
    Board {
        name: "slo",
        title: "SLO",
        description: "Service level objectives by model: budgets of 30 days, burn rates, and what missed them.",
        records: false,
        rows: vec![
            row(
                "Budgets",
                [
                    Panel::new(
                        Kind::Stat,
                        "Budget left",
                        "percentunit",
                        "Of 30 days, or of what is recorded of them. Below 0 the objective is missed.",
                    )
                    .query(format!("slo:tachograph_budget_left:ratio_30d{{{MODEL}}}"), EACH)
                    .wide(12),
                    Panel::new(Kind::Stat, "Objectives", "percentunit", "The share of requests that shall keep each.")
                        .query(format!("slo:tachograph_objective:ratio{{{MODEL}}}"), EACH)
                        .wide(6),
                    Panel::new(Kind::Stat, "Alerts firing", "short", "Pages and messages, of all kinds.")
                        .query(
                            or_none_of(
                                "count(ALERTS{alertstate=\"firing\",severity=~\"critical|warning\"})",
                                "count(up{job=\"tachograph\"})",
                            ),
                            "firing",
                        )
                        .steps([(1.0, "red")])
                        .wide(6),
                ],
            ),
            row(
                "Burn rates",
                [
                    over("Over 1 h", "1h", "1 spends the budget in 30 days. At the dashed line somebody is paged.")
                        .steps(factor(0)),
                    over("Over 6 h", "6h", "At the dashed line somebody is paged.").steps(factor(1)),
                    over("Over 1 d", "1d", "At the dashed line a message is sent.").steps(factor(2)),
                    over("Over 3 d", "3d", "At the dashed line a message is sent.").steps(factor(3)),
                ],
            ),
            row(
                "What is counted",
                [
                    Panel::new(Kind::Lines, "Requests that count", "reqps", "That each objective applies to.")
                        .query(format!("slo:tachograph_requests:rate5m{{{MODEL}}}"), EACH)
                        .wide(8),
                    Panel::new(Kind::Lines, "Share that is bad", "percentunit", "Over 5 minutes.")
                        .query(format!("slo:tachograph_bad:ratio_5m{{{MODEL}}}"), EACH)
                        .wide(8),
                    Panel::new(
                        Kind::Stacked,
                        "By cause",
                        "reqps",
                        "As the agents judge each request on all its objectives at once.",
                    )
                    .query(
                        format!(
                            "{judged} - ({})",
                            or_none_of(&rate("", "tachograph_slo_miss_total", REQUESTS), &judged)
                        ),
                        "kept",
                    )
                    .query(rate("cause", "tachograph_slo_miss_total", REQUESTS), "{{cause}}")
                    .wide(8),
                ],
            ),
        ],
    }
}
