//! The table: which names mean what, engine by engine, each list from the newest name to the oldest.
//!
//! Sources: the pages recorded from real servers in `tests/fixtures/engine_metrics`, and for engines that did not
//! run here their own sources and documentation. Where a version renamed a metric, both names stand in one list,
//! and the first that the page has is read. A name under an engine's prefix that is neither here nor in [`known`]
//! is reported.

use crate::engine::known;

/// What a metric tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Requests running.
    Running,
    /// Requests waiting.
    Waiting,
    /// Share of KV blocks in use, 0 to 1.
    KvUsage,
    /// KV blocks or tokens in use; with [`Self::KvSize`] the share, where the engine does not tell it.
    KvUsed,
    /// KV blocks or tokens in all.
    KvSize,
    /// Prompt tokens looked up in the prefix cache.
    PrefixQueries,
    /// Prompt tokens found there.
    PrefixHits,
    /// Requests that lost their room.
    Preemptions,
    /// Prompt tokens.
    PromptTokens,
    /// Tokens made.
    GenerationTokens,
    /// Requests that ended, by reason.
    Finished,
    /// Seconds to the first token.
    Ttft,
    /// Seconds queued.
    Queue,
    /// Seconds of prefill.
    Prefill,
    /// Seconds of decode.
    Decode,
    /// LoRA adapters; the labels tell, and the value is when.
    Lora,
    /// Settings of the KV cache; the labels tell.
    Cache,
}

/// Which samples of a family are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The one that has just this name.
    Plain,
    /// That with `_total` or without: libraries differ.
    Counter,
    /// `_sum` and `_count`.
    Sums,
}

/// One metric, or one label value of it.
#[derive(Debug)]
pub struct Series {
    /// Its name, without a suffix that [`Form`] stands for.
    pub name: &'static str,
    /// Which samples.
    pub form: Form,
    /// The only label value that is read.
    pub only: Option<(&'static str, &'static str)>,
    /// The label that says how requests ended, of [`Quantity::Finished`]; without it they ended in [`ANY`] way.
    pub reason: Option<&'static str>,
}

/// The reason where an engine counts ends without one.
pub const ANY: &str = "any";

impl Series {
    /// A gauge, or a sample by its whole name.
    const fn plain(name: &'static str) -> Self {
        Self { name, form: Form::Plain, only: None, reason: None }
    }

    const fn counter(name: &'static str) -> Self {
        Self { form: Form::Counter, ..Self::plain(name) }
    }

    /// A histogram or summary in seconds.
    const fn sums(name: &'static str) -> Self {
        Self { form: Form::Sums, ..Self::plain(name) }
    }

    const fn only(self, label: &'static str, value: &'static str) -> Self {
        Self { only: Some((label, value)), ..self }
    }

    const fn by(self, label: &'static str) -> Self {
        Self { reason: Some(label), ..self }
    }
}

/// An engine's names.
#[derive(Debug)]
pub struct Engine {
    /// The engine.
    pub name: &'static str,
    /// How its own names begin; what begins otherwise is somebody else's.
    pub prefixes: &'static [&'static str],
    /// What is read.
    pub rows: &'static [(Quantity, &'static [Series])],
    /// What is known and not read: whole names, or beginnings that end in `*`.
    pub unread: &'static [&'static str],
}

use Quantity as Q;
use Series as S;

/// Bare names come last, so that they never win over an engine's own.
pub static ENGINES: [Engine; 7] = [
    Engine {
        name: "vllm",
        prefixes: &["vllm:"],
        rows: &[
            (Q::Running, &[S::plain("vllm:num_requests_running")]),
            (Q::Waiting, &[S::plain("vllm:num_requests_waiting")]),
            (Q::KvUsage, &[S::plain("vllm:kv_cache_usage_perc"), S::plain("vllm:gpu_cache_usage_perc")]),
            (Q::PrefixQueries, &[S::counter("vllm:prefix_cache_queries"), S::counter("vllm:gpu_prefix_cache_queries")]),
            (Q::PrefixHits, &[S::counter("vllm:prefix_cache_hits"), S::counter("vllm:gpu_prefix_cache_hits")]),
            (Q::Preemptions, &[S::counter("vllm:num_preemptions")]),
            (Q::PromptTokens, &[S::counter("vllm:prompt_tokens")]),
            (Q::GenerationTokens, &[S::counter("vllm:generation_tokens")]),
            (Q::Finished, &[S::counter("vllm:request_success").by("finished_reason")]),
            (Q::Ttft, &[S::sums("vllm:time_to_first_token_seconds")]),
            (Q::Queue, &[S::sums("vllm:request_queue_time_seconds"), S::sums("vllm:time_in_queue_requests")]),
            (Q::Prefill, &[S::sums("vllm:request_prefill_time_seconds")]),
            (Q::Decode, &[S::sums("vllm:request_decode_time_seconds")]),
            (Q::Lora, &[S::plain("vllm:lora_requests_info")]),
            (Q::Cache, &[S::plain("vllm:cache_config_info")]),
        ],
        unread: known::VLLM,
    },
    Engine {
        name: "sglang",
        prefixes: &["sglang:"],
        rows: &[
            (Q::Running, &[S::plain("sglang:num_running_reqs")]),
            (Q::Waiting, &[S::plain("sglang:num_queue_reqs")]),
            (Q::KvUsage, &[S::plain("sglang:token_usage")]),
            (Q::KvUsed, &[S::plain("sglang:num_used_tokens")]),
            (Q::KvSize, &[S::plain("sglang:max_total_num_tokens")]),
            (Q::PrefixHits, &[S::counter("sglang:cached_tokens")]),
            (Q::Preemptions, &[S::counter("sglang:num_retracted_requests")]),
            (Q::PromptTokens, &[S::counter("sglang:prompt_tokens")]),
            (Q::GenerationTokens, &[S::counter("sglang:generation_tokens")]),
            (Q::Finished, &[S::counter("sglang:num_requests")]),
            (Q::Ttft, &[S::sums("sglang:time_to_first_token_seconds")]),
            (Q::Queue, &[S::sums("sglang:queue_time_seconds")]),
            (Q::Cache, &[S::plain("sglang:cache_config_info")]),
        ],
        unread: known::SGLANG,
    },
    Engine {
        name: "tgi",
        prefixes: &["tgi_"],
        rows: &[
            (Q::Running, &[S::plain("tgi_batch_current_size")]),
            (Q::Waiting, &[S::plain("tgi_queue_size")]),
            (Q::PromptTokens, &[S::plain("tgi_request_input_length_sum")]),
            (Q::GenerationTokens, &[S::plain("tgi_request_generated_tokens_sum")]),
            (Q::Finished, &[S::counter("tgi_request_success")]),
            (Q::Queue, &[S::sums("tgi_request_queue_duration")]),
        ],
        unread: known::TGI,
    },
    Engine {
        name: "llama.cpp",
        prefixes: &["llamacpp:"],
        rows: &[
            (Q::Running, &[S::plain("llamacpp:requests_processing")]),
            (Q::Waiting, &[S::plain("llamacpp:requests_deferred")]),
            (Q::KvUsage, &[S::plain("llamacpp:kv_cache_usage_ratio")]),
            (Q::PromptTokens, &[S::counter("llamacpp:prompt_tokens")]),
            (Q::GenerationTokens, &[S::counter("llamacpp:tokens_predicted")]),
            (Q::Prefill, &[S::plain("llamacpp:prompt_seconds_total")]),
            (Q::Decode, &[S::plain("llamacpp:tokens_predicted_seconds_total")]),
        ],
        unread: known::LLAMA_CPP,
    },
    Engine {
        name: "trtllm",
        prefixes: &["trtllm_"],
        rows: &[
            (Q::Running, &[S::plain("trtllm_num_requests_running")]),
            (Q::Waiting, &[S::plain("trtllm_num_requests_waiting")]),
            (Q::KvUsage, &[S::plain("trtllm_kv_cache_utilization")]),
            (Q::KvUsed, &[S::plain("trtllm_kv_cache_used_blocks")]),
            (Q::KvSize, &[S::plain("trtllm_kv_cache_max_blocks")]),
            (Q::PrefixHits, &[S::counter("trtllm_prompt_cached_tokens")]),
            (Q::PromptTokens, &[S::counter("trtllm_prompt_tokens")]),
            (Q::GenerationTokens, &[S::counter("trtllm_generation_tokens")]),
            (Q::Finished, &[S::counter("trtllm_request_success").by("finished_reason")]),
            (Q::Ttft, &[S::sums("trtllm_time_to_first_token_seconds")]),
            (Q::Queue, &[S::sums("trtllm_request_queue_time_seconds")]),
            (Q::Prefill, &[S::sums("trtllm_request_prefill_time_seconds")]),
            (Q::Decode, &[S::sums("trtllm_request_decode_time_seconds")]),
        ],
        unread: known::TRTLLM,
    },
    Engine {
        name: "triton",
        prefixes: &["nv_"],
        rows: &[
            (Q::Running, &[S::plain("nv_trt_llm_request_metrics").only("request_type", "scheduled")]),
            (
                Q::Waiting,
                &[
                    S::plain("nv_trt_llm_request_metrics").only("request_type", "waiting"),
                    S::plain("nv_inference_pending_request_count"),
                ],
            ),
            (Q::KvUsage, &[S::plain("nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "fraction")]),
            (Q::KvUsed, &[S::plain("nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "used")]),
            (Q::KvSize, &[S::plain("nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "max")]),
        ],
        unread: known::TRITON,
    },
    Engine {
        name: "nim",
        prefixes: &[],
        rows: &[
            (Q::Running, &[S::plain("num_requests_running")]),
            (Q::Waiting, &[S::plain("num_requests_waiting")]),
            (Q::KvUsage, &[S::plain("kv_cache_usage_perc"), S::plain("gpu_cache_usage_perc")]),
            (Q::PromptTokens, &[S::counter("prompt_tokens")]),
            (Q::GenerationTokens, &[S::counter("generation_tokens")]),
            (
                Q::Finished,
                &[
                    S::counter("request_finish").by("finished_reason"),
                    S::counter("request_success").by("finished_reason"),
                ],
            ),
            (Q::Ttft, &[S::sums("time_to_first_token_seconds")]),
        ],
        unread: known::NIM,
    },
];

/// What stands on a page beside an engine's own: of its language, its process and its HTTP library.
pub const PLATFORM: [&str; 6] = ["python_*", "process_*", "http_*", "go_*", "promhttp_*", "target_info"];
