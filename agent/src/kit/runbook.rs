//! Alerts in, the page with what to do about each of them out.

use crate::kit::File;
use crate::kit::alerts::ALERTS;
use crate::kit::alerts::Page;
use std::fmt::Write as _;

/// Where it lies.
const PATH: &str = "runbook.md";

/// The address of an alert's section.
pub(super) fn url(alert: &str) -> String {
    format!("{PATH}#{}", alert.to_lowercase())
}

/// Of the alerts that are made for each objective.
const OF_OBJECTIVES: [(&str, Page); 3] = [
    (
        "LLMLatencySLOBurn",
        Page {
            means: "More requests than the objective allows took too long, fast enough to spend the error budget of 30 \
                    days ahead of time. `slo` says which time: to the first token, for each token after it, or in all.",
            look: "The board *Why slow*: which cause the missed requests have, and which phase grew. Then the requests \
                   themselves: an exemplar in the panel of the time to first token leads to a trace.",
            act: "queue: more replicas, or fewer seats' worth of callers. prefill and batch_interference: long prompts; \
                  chunked prefill, or a pool of their own. kv_pressure: shorter contexts or more memory. gpu_throttling: \
                  cooling and power. frontend: more API servers. slow_client and receive: the callers' side.",
        },
    ),
    (
        "LLMAvailabilitySLOBurn",
        Page {
            means: "The server failed more requests than the objective allows: 5xx, errors inside streams, streams that \
                    broke, processes that went. Refusals (4xx, 429 among them) and callers who left do not count.",
            look: "The board *LLM overview*, errors by code; `error_type` of the failed requests in *Requests*; whether \
                   an engine is gone or wedged.",
            act: "engine_dead and process_gone: restart the engine and keep its log. 500: the engine's log, by the \
                  request id. stream_reset: proxies and time limits between.",
        },
    ),
    (
        "LLMSLONotMeasured",
        Page {
            means: "The rules ask for a bucket that the agents do not have, so the objective is not watched.",
            look: "Whether the agents run with the settings that the rules were made from: each threshold of `[slo]` is \
                   a bucket's bound.",
            act: "Give both the same file, then `tachograph generate alerts` again, or restart the agents.",
        },
    ),
];

/// The page.
pub(super) fn file() -> File {
    let mut text = String::from(
        "# Runbook\n\nWhat each alert means, where to look first, and what usually helps. Written by `tachograph \
         generate alerts`.\n",
    );
    let own = ALERTS.iter().map(|alert| (alert.name, &alert.page));
    for (name, Page { means, look, act }) in OF_OBJECTIVES.iter().map(|(name, page)| (*name, page)).chain(own) {
        // Writing to a String cannot fail.
        let _always_ok = write!(text, "\n## {name}\n\n{means}\n\n- **Look:** {look}\n- **Act:** {act}\n");
    }
    File::new(PATH, text)
}
