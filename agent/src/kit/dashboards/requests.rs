//! From a number to the requests behind it: exemplars, traces, log records.

use super::Board;
use super::REQUESTS;
use super::panel::Kind;
use super::panel::Panel;
use super::rate;
use super::row;

/// The records of requests.
const JOB: &str = r#"{job="llm-requests"}"#;

pub(super) fn board() -> Board {
    let heatmap = |title, description, histogram: &str| {
        Panel::new(Kind::Heatmap, title, "s", description)
            .query(rate("le", &format!("{histogram}_bucket"), REQUESTS), "{{le}}")
            .exemplars()
            .wide(12)
    };
    Board {
        name: "requests",
        title: "Requests",
        description: "Single requests: click a point to see its trace, a trace to see its record.",
        records: true,
        rows: vec![
            row(
                "Distributions, with a trace behind each point",
                [
                    heatmap(
                        "Time to first token",
                        "Each point is one request; it leads to its trace.",
                        "gen_ai_server_time_to_first_token_seconds",
                    ),
                    heatmap(
                        "Duration",
                        "Each point is one request; it leads to its trace.",
                        "gen_ai_server_request_duration_seconds",
                    ),
                ],
            ),
            row(
                "Traces",
                [
                    Panel::new(
                        Kind::Traces,
                        "Latest",
                        "none",
                        "Requests as the agent saw them, with a span for each phase.",
                    )
                    .query("{resource.service.name=\"tachograph\" && kind=server}", "")
                    .wide(12),
                    Panel::new(Kind::Traces, "Slowest", "none", "Requests that took more than a second.")
                        .query("{resource.service.name=\"tachograph\" && kind=server && duration>1s}", "")
                        .wide(12),
                ],
            ),
            row(
                "Records",
                [Panel::new(
                    Kind::Logs,
                    "Finished requests",
                    "none",
                    "One record for each, as JSON: tokens, latency, cost, status, user, session.",
                )
                .query(JOB, "")
                .wide(24)],
            ),
        ],
    }
}
