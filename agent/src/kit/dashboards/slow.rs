//! Where the time of requests goes, and why some take too much.

use super::Board;
use super::ENGINES;
use super::REQUESTS;
use super::panel::Kind;
use super::panel::Panel;
use super::quantile;
use super::rate;
use super::row;
use crate::kit::rules::or_none_of;

pub(super) fn board() -> Board {
    Board {
        name: "why-slow",
        title: "Why slow",
        description: "The phases of requests, the causes of those that missed an objective, and the engine meanwhile.",
        records: false,
        rows: vec![row("Phases", phases()), row("Causes", causes()), row("The engine meanwhile", engine())],
    }
}

fn phases() -> [Panel; 3] {
    let sum = rate("phase", "tachograph_phase_duration_seconds_sum", REQUESTS);
    let requests = rate("", "tachograph_requests_total", REQUESTS);
    [
        Panel::new(Kind::Stacked, "Mean time by phase", "s", "Stacked, the phases are the mean duration of a request: receive, frontend, queue, prefill, decode, deliver.")
            .query(format!("{sum} / ignoring (phase) group_left () ({requests} > 0)"), "{{phase}}")
            .wide(12),
        Panel::new(Kind::Lines, "p95 by phase", "s", "Of each phase by itself; these do not sum up.")
            .query(quantile("0.95", "phase", "tachograph_phase_duration_seconds", REQUESTS), "{{phase}}")
            .exemplars(),
        Panel::new(Kind::Lines, "Gaps between tokens", "s", "Between the writes that carry content, as the caller sees them.")
            .query(quantile("0.50", "", "tachograph_inter_token_latency_seconds", REQUESTS), "p50")
            .query(quantile("0.99", "", "tachograph_inter_token_latency_seconds", REQUESTS), "p99"),
    ]
}

fn causes() -> [Panel; 3] {
    let judged = rate("", "tachograph_slo_requests_total", REQUESTS);
    let missed = rate("", "tachograph_slo_miss_total", REQUESTS);
    [
        Panel::new(Kind::Stacked, "Requests by cause", "reqps", "Of the requests that an objective applied to: those that kept it, and those that missed it by their one cause.")
            .query(format!("{judged} - ({})", or_none_of(&missed, &judged)), "kept")
            .query(rate("cause", "tachograph_slo_miss_total", REQUESTS), "{{cause}}")
            .wide(12),
        Panel::new(Kind::Lines, "Share that missed", "percentunit", "By model.")
            .query(
                format!(
                    "({}) / ({} > 0)",
                    or_none_of(
                        &rate("gen_ai_request_model", "tachograph_slo_miss_total", REQUESTS),
                        &rate("gen_ai_request_model", "tachograph_slo_requests_total", REQUESTS)
                    ),
                    rate("gen_ai_request_model", "tachograph_slo_requests_total", REQUESTS)
                ),
                "{{gen_ai_request_model}}",
            ),
        Panel::new(Kind::Lines, "Time outside the engine", "s", "Mean time of a request before the engine has it and after it is done with it: what vLLM's own clock does not see.")
            .query(
                format!(
                    "{} / ignoring (phase) group_left () ({} > 0)",
                    rate("phase", "tachograph_phase_duration_seconds_sum{phase=~\"receive|frontend|deliver\"", REQUESTS),
                    rate("", "tachograph_requests_total", REQUESTS)
                ),
                "{{phase}}",
            ),
    ]
}

fn engine() -> [Panel; 6] {
    let by = |metric: &str| format!("sum by (node, engine) ({metric}{{{ENGINES}}})");
    [
        Panel::new(Kind::Lines, "Waiting requests", "short", "By engine. While it climbs, more comes than is served.")
            .query(by("tachograph_engine_requests_waiting"), "{{node}} {{engine}}")
            .wide(8),
        Panel::new(
            Kind::Lines,
            "Waiting prompt tokens",
            "suffix: tok",
            "Prompt tokens of requests that were added and have not answered. Only the agent knows this number.",
        )
        .query(by("tachograph_engine_queued_tokens"), "{{node}} {{engine}}")
        .wide(8),
        Panel::new(
            Kind::Lines,
            "Running requests",
            "short",
            "In the batch of each engine: what decode is shared among.",
        )
        .query(by("tachograph_engine_requests_running"), "{{node}} {{engine}}")
        .wide(8),
        Panel::new(Kind::Lines, "KV cache", "percentunit", "By engine.")
            .query(
                format!("max by (node, engine) (tachograph_engine_kv_usage_ratio{{{ENGINES}}})"),
                "{{node}} {{engine}}",
            )
            .steps([(0.85, "yellow"), (0.95, "orange"), (0.98, "red")])
            .max(1.0)
            .wide(8),
        Panel::new(
            Kind::Lines,
            "Preemptions",
            "ops",
            "Times a second that a running request lost its room in the cache and was computed again.",
        )
        .query(rate("gen_ai_request_model", "tachograph_preemptions_total", REQUESTS), "{{gen_ai_request_model}}")
        .wide(8),
        Panel::new(
            Kind::Lines,
            "Prompt length",
            "suffix: tok",
            "Mean prompt tokens of a request, and of these those that were not in the cache and had to be computed.",
        )
        .query(
            format!(
                "{} / ({} > 0)",
                rate("", "tachograph_tokens_total{type=\"input\"", REQUESTS),
                rate("", "tachograph_requests_total", REQUESTS)
            ),
            "prompt",
        )
        .query(
            format!(
                "({} - {}) / ({} > 0)",
                rate("", "tachograph_tokens_total{type=\"input\"", REQUESTS),
                rate("", "tachograph_tokens_total{type=\"cached\"", REQUESTS),
                rate("", "tachograph_requests_total", REQUESTS)
            ),
            "computed",
        )
        .wide(8),
    ]
}
