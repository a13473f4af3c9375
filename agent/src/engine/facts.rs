//! A server's command line, `/v1/models` and `/version` in, [`Facts`] out: what serves, and how it was started.
//!
//! Only flags of the list below are kept: a command line may hold secrets.

use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Models kept of one engine.
const MODELS: usize = 128;
/// Bytes kept of one value.
const VALUE_BYTES: usize = 512;

/// What is known of an engine beside its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// Its version, as it says.
    pub version: Option<String>,
    /// The models it serves, adapters among them; at most 128.
    pub models: Vec<Model>,
    /// Its start flags that matter, by the names that vLLM gives them.
    pub flags: BTreeMap<&'static str, String>,
    /// Why something is not known: `version`, `models`, `flags`.
    pub missing: BTreeMap<&'static str, String>,
}

/// A model that an engine serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Model {
    /// The name that callers use.
    pub id: String,
    /// Where its weights come from; an adapter's own.
    #[serde(default)]
    pub root: Option<String>,
    /// Of a LoRA adapter: the served name of its base.
    #[serde(default)]
    pub parent: Option<String>,
    /// The longest sequence.
    #[serde(default)]
    pub max_model_len: Option<u64>,
}

/// Flags by name, each with its spellings in underscores: those of vLLM, then of SGLang, TGI and llama.cpp.
const FLAGS: [(&str, &[&str]); 18] = [
    ("api_server_count", &["asc"]),
    ("block_size", &["page_size"]),
    ("data_parallel_size", &["dp", "dp_size"]),
    ("dtype", &[]),
    ("gpu_memory_utilization", &["mem_fraction_static", "cuda_memory_fraction"]),
    ("kv_cache_dtype", &[]),
    ("max_loras", &["max_loras_per_batch"]),
    ("max_model_len", &["context_length", "max_total_tokens", "ctx_size"]),
    ("max_num_batched_tokens", &["chunked_prefill_size", "max_batch_prefill_tokens"]),
    ("max_num_seqs", &["max_running_requests", "max_concurrent_requests", "parallel", "np"]),
    ("model", &["model_path", "model_id"]),
    ("num_gpu_blocks_override", &[]),
    ("pipeline_parallel_size", &["pp", "pp_size"]),
    ("quantization", &["q", "quantize"]),
    ("revision", &[]),
    ("served_model_name", &["alias"]),
    ("speculative_config", &[]),
    ("tensor_parallel_size", &["tp", "tp_size", "num_shard"]),
];

/// Flags without a value; `no_` before one is its opposite.
const SWITCHES: [&str; 6] = [
    "disable_log_stats",
    "enable_chunked_prefill",
    "enable_expert_parallel",
    "enable_lora",
    "enable_prefix_caching",
    "enforce_eager",
];

impl Facts {
    /// What a command line tells.
    pub fn of_command_line(words: &[String]) -> Self {
        let mut facts = Self::default();
        if words.is_empty() {
            facts.missing.insert("flags", "the command line cannot be read".to_owned());
        } else if words.iter().any(|word| word == "--config" || word.starts_with("--config=")) {
            facts.missing.insert("flags", "more of them may stand in its --config file".to_owned());
        }
        for (at, word) in words.iter().enumerate() {
            let Some(name) = word.strip_prefix('-') else { continue };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, words.get(at + 1).map(String::as_str).filter(|next| !is_flag(next))),
            };
            let name = name.strip_prefix('-').unwrap_or(name).replace('-', "_");
            let known = FLAGS.iter().find(|(flag, others)| *flag == name || others.contains(&name.as_str()));
            if let (Some((flag, _)), Some(value)) = (known, value) {
                facts.flags.insert(flag, cut(value));
            }
            for switch in SWITCHES {
                if name == switch || name.strip_prefix("no_") == Some(switch) {
                    facts.flags.insert(switch, (name == switch).to_string());
                }
            }
        }
        let serve = words.iter().position(|word| word == "serve");
        let first = serve.and_then(|at| words.get(at + 1)).filter(|word| !is_flag(word));
        if let Some(model) = first {
            facts.flags.entry("model").or_insert_with(|| cut(model));
        }
        facts
    }

    /// The model that the command line names, where the server does not tell its models.
    pub fn started_with(&self) -> Option<Model> {
        let model = self.flags.get("model")?;
        Some(Model {
            id: self.flags.get("served_model_name").unwrap_or(model).clone(),
            root: Some(model.clone()),
            parent: None,
            max_model_len: self.flags.get("max_model_len").and_then(|length| length.parse().ok()),
        })
    }

    /// The model of this name.
    pub fn model(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }
}

/// `-1` is a value.
fn is_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The models of a `/v1/models` answer; `None` where it is none.
pub fn models(answer: &[u8]) -> Option<Vec<Model>> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<Model>,
    }
    let Answer { mut data } = serde_json::from_slice(answer).ok()?;
    data.truncate(MODELS);
    for model in &mut data {
        model.id = cut(&model.id);
        for text in [&mut model.root, &mut model.parent].into_iter().flatten() {
            *text = cut(text);
        }
    }
    Some(data)
}

/// The version of a `/version` answer.
pub fn version(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        version: String,
    }
    let Answer { version } = serde_json::from_slice(answer).ok()?;
    Some(cut(&version))
}

/// At most so many bytes, on a boundary of characters.
fn cut(text: &str) -> String {
    let end = (0..=VALUE_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let flags = Facts::of_command_line(&words).flags;
        flags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_in_every_spelling() {
        for (line, expected) in [
            ("vllm serve m --max-num-seqs 4", "max_num_seqs=4 model=m"),
            ("vllm serve m --max_num_seqs=4", "max_num_seqs=4 model=m"),
            ("vllm serve --tensor-parallel-size 2 --model m", "model=m tensor_parallel_size=2"),
            (
                "vllm serve m -tp 2 -pp=3 -dp 4",
                "data_parallel_size=4 model=m pipeline_parallel_size=3 tensor_parallel_size=2",
            ),
            (
                "vllm serve m --enable-prefix-caching --enforce-eager",
                "enable_prefix_caching=true enforce_eager=true model=m",
            ),
            ("vllm serve m --no-enable-prefix-caching", "enable_prefix_caching=false model=m"),
            ("vllm serve --enforce-eager m", "enforce_eager=true"),
            ("vllm serve m --max-model-len -1", "max_model_len=-1 model=m"),
            ("vllm serve m --dtype --port 1", "model=m"),
            ("vllm serve m --api-key secret --quantization fp8", "model=m quantization=fp8"),
            (
                "python -m vllm.entrypoints.openai.api_server --model m --gpu-memory-utilization 0.5",
                "gpu_memory_utilization=0.5 model=m",
            ),
            (
                "python -m sglang.launch_server --model-path m --tp 2 --mem-fraction-static 0.8",
                "gpu_memory_utilization=0.8 model=m tensor_parallel_size=2",
            ),
            (
                "text-generation-launcher --model-id m --num-shard 2 --quantize awq",
                "model=m quantization=awq tensor_parallel_size=2",
            ),
            ("", ""),
        ] {
            assert_eq!(flags(line), expected, "{line}");
        }
    }

    #[test]
    fn a_command_line_names_its_model() {
        let model = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Facts::of_command_line(&words).started_with().map(|model| (model.id, model.root, model.max_model_len))
        };
        let (name, root) = ("tiny".to_owned(), Some("/m".to_owned()));
        let line = "vllm serve /m --served-model-name tiny --max-model-len 9";
        assert_eq!(model(line), Some((name, root.clone(), Some(9))));
        assert_eq!(model("vllm serve /m --max-model-len 8k"), Some(("/m".to_owned(), root, None)));
        assert_eq!(model("vllm serve"), None);
    }

    #[test]
    fn what_a_command_line_cannot_tell_is_said() {
        let missing = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Facts::of_command_line(&words).missing.contains_key("flags")
        };
        assert!(missing(&[]) && missing(&["vllm", "serve", "--config", "f"]) && missing(&["vllm", "--config=f"]));
        assert!(!missing(&["vllm", "serve", "m"]));
    }

    #[test]
    fn answers_of_servers() {
        let told = models(
            br#"{"data":[{"id":"m","root":"r","parent":null,"max_model_len":9,"x":1},{"id":"a","parent":"m"}]}"#,
        );
        let base = Model { id: "m".to_owned(), root: Some("r".to_owned()), parent: None, max_model_len: Some(9) };
        let adapter = Model { id: "a".to_owned(), parent: Some("m".to_owned()), ..Model::default() };
        assert_eq!(told, Some(vec![base, adapter]));
        assert_eq!(models(br#"{"detail":"Not Found"}"#), None);
        assert_eq!(version(br#"{"version":"0.32.0"}"#).as_deref(), Some("0.32.0"));
        assert_eq!(version(b"0.32.0"), None);
    }

    #[test]
    fn nothing_is_kept_without_a_bound() {
        let many = (0..1_000).map(|n| format!(r#"{{"id":"{n}{}"}}"#, "ü".repeat(1_000))).collect::<Vec<_>>().join(",");
        let told = models(format!(r#"{{"data":[{many}]}}"#).as_bytes()).unwrap();
        assert!(told.len() == MODELS && told.iter().all(|model| model.id.len() <= VALUE_BYTES));
        assert!(flags(&format!("vllm serve {}", "m".repeat(9_999))).len() < 600);
    }
}
