//! A way to start vLLM in; what its clients, vLLM itself and the agent say of the same requests out.

use crate::door::Door;
use crate::process::Folder;
use crate::process::Running;
use crate::process::ask;
use crate::process::free_port;
use crate::process::word;
use crate::server::LIMIT;
use crate::server::Server;
use crate::server::records;
use crate::truth::Record;
use crate::truth::Saw;
use crate::truth::Span;
use agent_tests::standin::Wire;
use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// The temperature of what is sent only to see whether the agent records yet.
pub(crate) const KNOCK: f64 = 0.111;

/// Which comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The agent finds an engine that serves already.
    Engine,
    /// The agent sees the engine start.
    Agent,
}

/// One way to start vLLM.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) first: First,
    /// Whether vLLM can send its own spans.
    pub(crate) has_spans: bool,
    /// Whether its per-request series hold aborted requests too, as far as they came.
    pub(crate) counts_aborted: bool,
    /// How much of the full load.
    pub(crate) share: &'static str,
    pub(crate) wire: Wire,
    pub(crate) start: Start,
    /// Commands that it is started through.
    pub(crate) through: &'static [&'static str],
}

/// What starts vLLM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Its command.
    Command,
    /// Python, by the name of its module.
    Module,
}

/// What the three sides say.
pub(crate) struct Ground {
    pub(crate) saw: Vec<Saw>,
    pub(crate) spans: Vec<Span>,
    pub(crate) records: Vec<Record>,
    /// What vLLM's own counters rose by.
    pub(crate) counters: HashMap<String, f64>,
    /// The agent's own counters.
    pub(crate) vitals: HashMap<String, Value>,
    /// How often vLLM's own metrics agreed with its messages and how often not, by what was compared.
    pub(crate) checks: BTreeMap<String, Tally>,
}

/// Comparisons that the agent made by itself.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Tally {
    pub(crate) agreed: usize,
    pub(crate) disagreed: usize,
}

/// Where the environment and the agent are; nothing, and why, if a run is not possible.
pub(crate) struct Place {
    pub(crate) python: PathBuf,
    vllm: PathBuf,
    model: PathBuf,
    agent: PathBuf,
}

impl Place {
    /// From what `cargo xtask test --vllm` sets.
    pub(crate) fn find() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("TACHOGRAPH_VLLM_ENV")?);
        let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/tachograph");
        Some(Self {
            python: folder.join("bin/python"),
            vllm: folder.join("bin/vllm"),
            model: PathBuf::from(std::env::var_os("TACHOGRAPH_VLLM_MODEL")?),
            agent: std::env::var_os("TACHOGRAPH_BIN").map_or_else(built, PathBuf::from),
        })
    }

    pub(crate) fn script(name: &str) -> String {
        format!("{}/vllm/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    pub(crate) fn serve(&self, case: &Case, door: &Door, spans: Option<u16>, log: PathBuf) -> Result<Running> {
        let (door, spans) = (door.flags()?, spans.map(|port| format!("http://127.0.0.1:{port}/v1/traces")));
        let mut command = case.through.to_vec();
        command.extend(match case.start {
            Start::Command => vec![word(&self.vllm)?, "serve"],
            Start::Module => vec![word(&self.python)?, "-m", "vllm.entrypoints.openai.api_server", "--model"],
        });
        command.extend([word(&self.model)?, "--served-model-name", "tiny", "--max-model-len", "1024"]);
        // Few seats, small steps and few blocks: queueing, chunked prefill and preemption really occur.
        command.extend(["--max-num-seqs", "4", "--max-num-batched-tokens", "256", "--num-gpu-blocks-override", "12"]);
        command.extend(["--enforce-eager", "--enable-prompt-tokens-details"]);
        command.extend(spans.iter().flat_map(|url| ["--otlp-traces-endpoint", url]));
        command.extend(door.iter().map(String::as_str));
        command.extend(case.flags);
        let mut environment = vec![
            ("HF_HUB_OFFLINE", "1"),
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_BSP_SCHEDULE_DELAY", "500"),
        ];
        environment.extend(case.environment);
        Running::start(&command, &environment, log)
    }

    pub(crate) fn record(&self, port: u16, settings: &[(&str, &str)], log: PathBuf) -> Result<Running> {
        let listen = format!("127.0.0.1:{port}");
        // Often, so that it falls into the moments when nothing moves.
        let mut environment = vec![("TACHOGRAPH_LISTEN", listen.as_str()), ("TACHOGRAPH_SCRAPE_INTERVAL_SECONDS", "1")];
        // Whatever else runs on this machine is recorded too.
        let kept = LIMIT.to_string();
        environment.push(("TACHOGRAPH_REQUESTS_KEPT", &kept));
        environment.extend(settings);
        Running::start(&[word(&self.agent)?, "run"], &environment, log)
    }

    /// Sends a mix of `vllm/mixes` with the stand-in's client; what that saw is written to `out`.
    pub(crate) fn send(&self, port: u16, mix: &str, first: u32, out: &Path, log: PathBuf) -> Result<Running> {
        let (port, first, mix) = (port.to_string(), first.to_string(), Self::script(&format!("mixes/{mix}.json")));
        let mut command = vec!["env", "-C", env!("CARGO_MANIFEST_DIR"), word(&self.python)?, "-m", "standin", "load"];
        command.extend(["--port", &port, "--mix", &mix, "--first", &first, "--out", word(out)?, "--seconds", "200"]);
        Running::start(&command, &[("PYTHONDONTWRITEBYTECODE", "1")], log)
    }

    /// Starts all, drives the load, gathers, and ends all.
    pub(crate) fn run(&self, case: &Case) -> Result<Ground> {
        let folder = Folder::new("agent")?;
        let listens = free_port()?;
        let start_agent = || -> Result<Running> {
            let mut agent = self.record(listens, &[], folder.file("agent.log"))?;
            agent.until(30, |_| ask(listens, "GET", "/readyz", "").ok())?;
            Ok(agent)
        };
        let early = if case.first == First::Agent { Some(start_agent()?) } else { None };
        let mut server = Server::start(self, case)?;
        server.until_ready()?;
        let mut agent = early.map_or_else(start_agent, Ok)?;
        server.until_recorded(&mut agent, listens)?;
        let load = server.begin(self, listens, case.share)?;
        server.ground(listens, load)
    }
}

/// Sends one request and says whether the agent has recorded any.
pub(crate) fn knock(serves: &Door, listens: u16, engine: u32) -> Result<bool> {
    let body = format!(r#"{{"model":"tiny","prompt":"knock","max_tokens":2,"temperature":{KNOCK}}}"#);
    serves.ask("POST", "/v1/completions", &body)?;
    sleep(Duration::from_millis(500));
    Ok(!records(listens, engine)?.is_empty())
}
