//! Names that boards for vLLM use and that no vLLM has, or has no more, in; rules that record them out.
//!
//! Such a series carries `alias="tachograph"`, so it is told from one that an old vLLM exports itself.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::rules::Group;
use crate::kit::rules::Rule;
use crate::kit::rules::Rules;
use crate::kit::rules::record;
use crate::kit::yaml;

/// A name that is missed, what has its value, and what the agent has instead where vLLM itself is not scraped.
pub struct Alias {
    /// The name that boards ask for.
    pub name: &'static str,
    /// vLLM's own.
    pub vllm: &'static str,
    /// The agent's.
    pub agent: Option<&'static str>,
}

/// What vLLM exports and these rules read: names that are in its 0.32.
pub const VLLM: &[&str] = &[
    "vllm:kv_cache_usage_perc",
    "vllm:generation_tokens_total",
    "vllm:request_time_per_output_token_seconds",
    "vllm:e2e_request_latency_seconds",
];

/// All of them. `vllm:num_queue_tokens` was never exported at all: only the agent knows it.
pub const ALIASES: &[Alias] = &[
    Alias {
        name: "vllm:gpu_cache_usage_ratio",
        vllm: "vllm:kv_cache_usage_perc",
        agent: Some("tachograph_engine_kv_usage_ratio"),
    },
    Alias {
        name: "vllm:num_generation_tokens_total",
        vllm: "vllm:generation_tokens_total",
        agent: Some(r#"tachograph_engine_scraped_tokens_total{type="generation"}"#),
    },
    Alias { name: "vllm:num_queue_tokens", vllm: "", agent: Some("tachograph_engine_queued_tokens") },
    Alias {
        name: "vllm:time_per_output_token_seconds_bucket",
        vllm: "vllm:request_time_per_output_token_seconds_bucket",
        agent: Some("gen_ai_server_time_per_output_token_seconds_bucket"),
    },
    Alias {
        name: "vllm:time_per_output_token_seconds_sum",
        vllm: "vllm:request_time_per_output_token_seconds_sum",
        agent: Some("gen_ai_server_time_per_output_token_seconds_sum"),
    },
    Alias {
        name: "vllm:time_per_output_token_seconds_count",
        vllm: "vllm:request_time_per_output_token_seconds_count",
        agent: Some("gen_ai_server_time_per_output_token_seconds_count"),
    },
    Alias {
        name: "vllm_e2e_request_latency_seconds_bucket",
        vllm: "vllm:e2e_request_latency_seconds_bucket",
        agent: None,
    },
    Alias { name: "vllm_e2e_request_latency_seconds_sum", vllm: "vllm:e2e_request_latency_seconds_sum", agent: None },
    Alias {
        name: "vllm_e2e_request_latency_seconds_count",
        vllm: "vllm:e2e_request_latency_seconds_count",
        agent: None,
    },
];

impl std::fmt::Debug for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Alias {
    /// vLLM's own where anybody scrapes it, else the agent's.
    pub fn expr(&self) -> String {
        match (self.vllm, self.agent) {
            ("", agent) => agent.unwrap_or_default().to_owned(),
            (vllm, Some(agent)) => format!("{vllm} or on () {agent}"),
            (vllm, None) => vllm.to_owned(),
        }
    }
}

/// The rules.
pub fn rules() -> Rules {
    let rule = |alias: &Alias| Rule {
        labels: [("alias".to_owned(), "tachograph".to_owned())].into_iter().collect(),
        ..record(alias.name, alias.expr())
    };
    Rules {
        groups: vec![Group {
            interval: "15s".to_owned(),
            ..Group::new("tachograph-vllm-aliases", ALIASES.iter().map(rule).collect())
        }],
    }
}

/// Their file.
///
/// # Errors
///
/// As [`yaml::file`].
pub fn file() -> Result<File, Error> {
    let about = "Names of vLLM that guides and boards use and that vLLM never had, or has no more, so that they work as\n\
                 written. vLLM's own series are taken where it is scraped, else the agent's.\n\
                 An old vLLM may still have one of these names: it then has it without the label `alias`.\n\
                 Written by `tachograph generate prometheus`.";
    yaml::file("rules/aliases.yml", about, &rules())
}
