//! One source of settings in, those that it sets out: the one list of settings, for flags and file alike.

use crate::config::value::ContentBytes;
use crate::config::value::Level;
use crate::config::value::LlmCalls;
use crate::config::value::ModelSlo;
use crate::config::value::Portion;
use crate::config::value::RingBytes;
use crate::config::value::Seconds;
use crate::config::value::Share;
use crate::config::value::Switch;
use crate::config::value::TargetRule;
use crate::config::value::duration;
use crate::correlate::prices::GpuPrice;
use crate::correlate::prices::TokenPrice;
use crate::correlate::slo::Objective;
use crate::correlate::slo::Objectives;
use crate::export::otlp::settings::Partial as Collector;
use crate::export::otlp::settings::TIMEOUT;
use crate::export::otlp::share::Shares;
use crate::kit::slo::Goal;
use crate::kit::slo::Goals;
use clap::Args;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// All settings, each of which may be absent.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Partial {
    /// Where /metrics and the API are served [default: 127.0.0.1:9478]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Finished requests kept for the API [default: 1000]
    #[arg(long, value_name = "N")]
    pub requests_kept: Option<usize>,
    /// Series of metrics before a new model is counted as `other` [default: 1000]
    #[arg(long, value_name = "N")]
    pub series_cap: Option<usize>,
    /// Size of the kernel's ring, a power of two [default: 16777216]
    #[arg(long, value_name = "BYTES")]
    pub ring_bytes: Option<RingBytes>,
    /// Keep losses one by one, for tests
    #[arg(long, hide = true)]
    pub keep_losses: Option<bool>,
    /// Attach by perf events, as kernels before 6.6 do, for tests
    #[arg(long, hide = true)]
    pub perf_events: Option<bool>,
    /// How much of one request body is copied [default: 16777216]
    #[arg(long, value_name = "BYTES")]
    pub body_cap_bytes: Option<u64>,
    /// How much is captured [default: full]
    #[arg(long)]
    pub level: Option<Level>,
    /// Another server to trace: exe=NAME, port=N or pid=N, and engine=other, name=NAME; several by `;`
    #[arg(id = "target", long, value_name = "KEY=VALUE,…", value_delimiter = ';')]
    #[cfg_attr(test, schemars(with = "Option<Vec<crate::config::value::Written>>"))]
    pub targets: Option<Vec<TargetRule>>,
    /// Which log lines are written [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Thresholds.
    #[command(flatten)]
    pub slo: Slo,
    /// The collector.
    #[command(flatten)]
    pub otlp: Otlp,
    /// Logs of requests.
    #[command(flatten)]
    pub logs: Logs,
    /// NVML.
    #[command(flatten)]
    pub nvml: Nvml,
    /// The engines' own metrics.
    #[command(flatten)]
    pub scrape: Scrape,
    /// Discovery.
    #[command(flatten)]
    pub discover: Discover,
    /// The cluster that this node belongs to.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
    /// What things cost.
    #[command(flatten)]
    pub prices: Prices,
    /// What is asked and answered in words.
    #[command(flatten)]
    pub content: Content,
    /// Who may come in.
    #[command(flatten)]
    pub serve: Serve,
}

/// Who may come in.
#[expect(clippy::struct_field_names, reason = "the words of the Prometheus exporters")]
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// The listener's certificate in PEM form, with those that lead to its authority; with it TLS is spoken, and read anew when it changes
    #[arg(id = "serve-tls-cert-file", long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(id = "serve-tls-key-file", long, value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// The authorities of clients' certificates: without one of theirs nobody sees more than /healthz and /readyz
    #[arg(id = "serve-tls-client-ca-file", long, value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// A file of name:hash, as `htpasswd -B` makes it: who may come in by a password
    #[arg(id = "serve-basic-auth-file", long, value_name = "FILE")]
    pub basic_auth_file: Option<PathBuf>,
    /// A file of bearer tokens, one a line, any of which may come in
    #[arg(id = "serve-bearer-token-file", long, value_name = "FILE")]
    pub bearer_token_file: Option<PathBuf>,
}

/// What is asked and answered in words.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Whether prompts and answers are put into logs and spans; needs level full [default: false]
    #[arg(id = "content-capture", long, value_name = "BOOL")]
    pub capture: Option<bool>,
    /// How much of each side of a request, at most 65536 [default: 16384]
    #[arg(id = "content-max-bytes", long, value_name = "BYTES")]
    pub max_bytes: Option<ContentBytes>,
    /// What is taken out of them beside what the built-in rules find; several by a line break
    #[arg(id = "content-redact", long, value_name = "REGEX", value_delimiter = '\n')]
    pub redact: Option<Vec<String>>,
    /// Whether e-mail addresses, bearer tokens, API keys and card numbers are taken out [default: true]
    #[arg(id = "content-redact-defaults", long, value_name = "BOOL")]
    pub redact_defaults: Option<bool>,
}

/// What things cost, dollars.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// Of a GPU's hour: one for all, or by a part of the product's name, the first that fits
    #[arg(id = "prices-gpu-hour", long, value_name = "[NAME=]DOLLARS,…", value_delimiter = ',')]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub gpu_hour: Option<Vec<GpuPrice>>,
    /// Of a million prompt tokens and a million output tokens, for one model or all
    #[arg(id = "prices-tokens", long, value_name = "[MODEL=]INPUT/OUTPUT,…", value_delimiter = ',')]
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    pub tokens: Option<Vec<TokenPrice>>,
    /// Users whose use is added up in the snapshot [default: 0]
    #[arg(id = "prices-users", long, value_name = "N")]
    pub users: Option<usize>,
}

/// What requests may take; each threshold becomes a bucket bound.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// The longest time to first token
    #[arg(id = "slo-ttft-seconds", long, value_name = "SECONDS")]
    pub ttft_seconds: Option<Seconds>,
    /// The longest time for each token after the first
    #[arg(id = "slo-tpot-seconds", long, value_name = "SECONDS")]
    pub tpot_seconds: Option<Seconds>,
    /// The longest duration
    #[arg(id = "slo-duration-seconds", long, value_name = "SECONDS")]
    pub duration_seconds: Option<Seconds>,
    /// Whether a failure of the server is a miss [default: true where a time is set]
    #[arg(id = "slo-errors", long, value_name = "BOOL")]
    pub errors: Option<bool>,
    /// The share of requests that shall keep these times, for what `generate` makes [default: 0.95]
    #[arg(id = "slo-objective", long, value_name = "SHARE")]
    pub objective: Option<Share>,
    /// The share of requests that shall not fail, for what `generate` makes [default: 0.995]
    #[arg(id = "slo-availability", long, value_name = "SHARE")]
    pub availability: Option<Share>,
    /// Other limits for one model: model=NAME and any of ttft_seconds, tpot_seconds, duration_seconds, errors, objective, availability; several by `;`
    #[arg(id = "slo-models", long, value_name = "KEY=VALUE,…", value_delimiter = ';')]
    #[cfg_attr(test, schemars(with = "Option<Vec<crate::config::value::WrittenSlo>>"))]
    pub models: Option<Vec<ModelSlo>>,
}

/// The collector. The standard `OTEL_*` variables stand between our own and the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// Where spans, metrics and logs go; without it, nowhere
    #[arg(id = "otlp-endpoint", long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// grpc or http/protobuf [default: http/protobuf]
    #[arg(id = "otlp-protocol", long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Headers of every request to the collector
    #[arg(id = "otlp-headers", long, value_name = "NAME=VALUE,…", hide_env_values = true)]
    pub headers: Option<String>,
    /// gzip or none [default: none]
    #[arg(id = "otlp-compression", long, value_name = "METHOD")]
    pub compression: Option<String>,
    /// How long one attempt may take [default: 10]
    #[arg(id = "otlp-timeout-seconds", long, value_name = "SECONDS")]
    pub timeout_seconds: Option<Seconds>,
    /// Between two pushes of metrics [default: 15]
    #[arg(id = "otlp-interval-seconds", long, value_name = "SECONDS")]
    pub interval_seconds: Option<Seconds>,
    /// What waiting spans, and waiting logs, may take [default: 16777216]
    #[arg(id = "otlp-queue-bytes", long, value_name = "BYTES")]
    pub queue_bytes: Option<usize>,
    /// Which spans viewers of LLM calls shall take for one: roots (of requests that name no caller's span, which
    /// may tell the tokens itself), all or none [default: roots]
    #[arg(id = "otlp-llm-calls", long, hide_possible_values = true, value_name = "WHICH")]
    pub llm_calls: Option<LlmCalls>,
}

/// Which share of requests has a log, by how they ended.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Share with a log of requests that ended well and missed no objective [default: 1]
    #[arg(id = "logs-ok", long, value_name = "SHARE")]
    pub ok: Option<Portion>,
    /// The same of requests that ended well and missed an objective [default: 1]
    #[arg(id = "logs-slow", long, value_name = "SHARE")]
    pub slow: Option<Portion>,
    /// The same of refused requests, status 4xx [default: 1]
    #[arg(id = "logs-refused", long, value_name = "SHARE")]
    pub refused: Option<Portion>,
    /// The same of requests whose caller left [default: 1]
    #[arg(id = "logs-cancelled", long, value_name = "SHARE")]
    pub cancelled: Option<Portion>,
    /// The same of requests that the server failed [default: 1]
    #[arg(id = "logs-error", long, value_name = "SHARE")]
    pub error: Option<Portion>,
}

/// NVML.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Nvml {
    /// Whether GPUs are read [default: true]
    #[arg(id = "nvml-enabled", long, value_name = "BOOL")]
    pub enabled: Option<bool>,
    /// The NVML library, where it is not the system's
    #[arg(id = "nvml-library", long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Between two readings of power, energy and what else only counts, 0.02 to 1 [default: 0.1]
    #[arg(id = "nvml-interval-seconds", long, value_name = "SECONDS")]
    pub interval_seconds: Option<Seconds>,
}

/// The engines' own metrics.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Scrape {
    /// Whether the engines' own metrics are read [default: true]
    #[arg(id = "scrape-enabled", long, value_name = "BOOL")]
    pub enabled: Option<bool>,
    /// Between two scrapes [default: 5]
    #[arg(id = "scrape-interval-seconds", long, value_name = "SECONDS")]
    pub interval_seconds: Option<Seconds>,
    /// How long one scrape may take [default: 2]
    #[arg(id = "scrape-timeout-seconds", long, value_name = "SECONDS")]
    pub timeout_seconds: Option<Seconds>,
    /// A file with the API key that engines ask for; TACHOGRAPH_SCRAPE_API_KEY may hold the key itself
    #[arg(id = "scrape-api-key-file", long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Whether engines in network namespaces of their own are asked too, for which CAP_SYS_ADMIN is kept [default: false]
    #[arg(id = "scrape-network-namespaces", long, value_name = "BOOL")]
    pub network_namespaces: Option<bool>,
}

/// Discovery.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Discover {
    /// Between two passes over /proc [default: 5]
    #[arg(id = "discover-interval-seconds", long, value_name = "SECONDS")]
    pub interval_seconds: Option<Seconds>,
}

/// The cluster that this node belongs to.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Whether the API server is asked for the pods of this node; auto: where there is a service account or a kubeconfig
    /// [default: auto]
    #[cfg_attr(test, schemars(with = "Option<crate::config::value::WrittenSwitch>"))]
    #[arg(id = "kubernetes-enabled", long, hide_possible_values = true, value_name = "WHETHER")]
    pub enabled: Option<Switch>,
    /// This node's name in the cluster [default: the host's name]
    #[arg(id = "kubernetes-node", long, value_name = "NAME")]
    pub node: Option<String>,
    /// The cluster's name, for the resource of what is exported
    #[arg(id = "kubernetes-cluster", long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Labels of pods that go onto spans, logs and records; a `*` at the end stands for any end
    /// [default: app.kubernetes.io/ component, instance, name and version]
    #[arg(id = "kubernetes-labels", long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Option<Vec<String>>,
    /// Where the cluster and the key to it are written down, for an agent that runs in no pod
    #[arg(id = "kubernetes-kubeconfig", long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl Partial {
    /// What is set here, else what is set there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            requests_kept: self.requests_kept.or(other.requests_kept),
            series_cap: self.series_cap.or(other.series_cap),
            ring_bytes: self.ring_bytes.or(other.ring_bytes),
            keep_losses: self.keep_losses.or(other.keep_losses),
            perf_events: self.perf_events.or(other.perf_events),
            body_cap_bytes: self.body_cap_bytes.or(other.body_cap_bytes),
            level: self.level.or(other.level),
            targets: self.targets.or(other.targets),
            log: self.log.or(other.log),
            slo: Slo {
                ttft_seconds: self.slo.ttft_seconds.or(other.slo.ttft_seconds),
                tpot_seconds: self.slo.tpot_seconds.or(other.slo.tpot_seconds),
                duration_seconds: self.slo.duration_seconds.or(other.slo.duration_seconds),
                errors: self.slo.errors.or(other.slo.errors),
                objective: self.slo.objective.or(other.slo.objective),
                availability: self.slo.availability.or(other.slo.availability),
                models: self.slo.models.or(other.slo.models),
            },
            otlp: Otlp {
                endpoint: self.otlp.endpoint.or(other.otlp.endpoint),
                protocol: self.otlp.protocol.or(other.otlp.protocol),
                headers: self.otlp.headers.or(other.otlp.headers),
                compression: self.otlp.compression.or(other.otlp.compression),
                timeout_seconds: self.otlp.timeout_seconds.or(other.otlp.timeout_seconds),
                interval_seconds: self.otlp.interval_seconds.or(other.otlp.interval_seconds),
                queue_bytes: self.otlp.queue_bytes.or(other.otlp.queue_bytes),
                llm_calls: self.otlp.llm_calls.or(other.otlp.llm_calls),
            },
            logs: Logs {
                ok: self.logs.ok.or(other.logs.ok),
                slow: self.logs.slow.or(other.logs.slow),
                refused: self.logs.refused.or(other.logs.refused),
                cancelled: self.logs.cancelled.or(other.logs.cancelled),
                error: self.logs.error.or(other.logs.error),
            },
            nvml: Nvml {
                enabled: self.nvml.enabled.or(other.nvml.enabled),
                library: self.nvml.library.or(other.nvml.library),
                interval_seconds: self.nvml.interval_seconds.or(other.nvml.interval_seconds),
            },
            scrape: Scrape {
                enabled: self.scrape.enabled.or(other.scrape.enabled),
                interval_seconds: self.scrape.interval_seconds.or(other.scrape.interval_seconds),
                timeout_seconds: self.scrape.timeout_seconds.or(other.scrape.timeout_seconds),
                api_key_file: self.scrape.api_key_file.or(other.scrape.api_key_file),
                network_namespaces: self.scrape.network_namespaces.or(other.scrape.network_namespaces),
            },
            discover: Discover { interval_seconds: self.discover.interval_seconds.or(other.discover.interval_seconds) },
            kubernetes: Kubernetes {
                enabled: self.kubernetes.enabled.or(other.kubernetes.enabled),
                node: self.kubernetes.node.or(other.kubernetes.node),
                cluster: self.kubernetes.cluster.or(other.kubernetes.cluster),
                labels: self.kubernetes.labels.or(other.kubernetes.labels),
                kubeconfig: self.kubernetes.kubeconfig.or(other.kubernetes.kubeconfig),
            },
            prices: Prices {
                gpu_hour: self.prices.gpu_hour.or(other.prices.gpu_hour),
                tokens: self.prices.tokens.or(other.prices.tokens),
                users: self.prices.users.or(other.prices.users),
            },
            content: Content {
                capture: self.content.capture.or(other.content.capture),
                max_bytes: self.content.max_bytes.or(other.content.max_bytes),
                redact: self.content.redact.or(other.content.redact),
                redact_defaults: self.content.redact_defaults.or(other.content.redact_defaults),
            },
            serve: Serve {
                tls_cert_file: self.serve.tls_cert_file.or(other.serve.tls_cert_file),
                tls_key_file: self.serve.tls_key_file.or(other.serve.tls_key_file),
                tls_client_ca_file: self.serve.tls_client_ca_file.or(other.serve.tls_client_ca_file),
                basic_auth_file: self.serve.basic_auth_file.or(other.serve.basic_auth_file),
                bearer_token_file: self.serve.bearer_token_file.or(other.serve.bearer_token_file),
            },
        }
    }
}

impl Slo {
    /// Which share shall keep them; of two that name one model the last counts.
    pub fn goals(&self) -> Goals {
        let all =
            Goal { latency: self.objective.map(Share::number), availability: self.availability.map(Share::number) };
        let models = self.models.iter().flatten();
        Goals { all, models: models.map(|slo| (slo.model.clone(), slo.goal)).collect() }
    }

    /// As objectives; of two that name one model the last counts.
    pub fn objectives(self) -> Objectives {
        let all = Objective {
            ttft_seconds: self.ttft_seconds.map(Seconds::number),
            tpot_seconds: self.tpot_seconds.map(Seconds::number),
            duration_seconds: self.duration_seconds.map(Seconds::number),
            errors: self.errors,
        };
        let models = self.models.unwrap_or_default().into_iter();
        Objectives { all, models: models.map(|ModelSlo { model, objective, .. }| (model, objective)).collect() }
    }
}

impl Logs {
    /// As the export takes them.
    pub fn shares(&self) -> Shares {
        let Self { ok, slow, refused, cancelled, error } = self;
        let [ok, slow, refused, cancelled, error] =
            [ok, slow, refused, cancelled, error].map(|share| share.map_or(1.0, Portion::number));
        Shares { ok, slow, refused, cancelled, error }
    }
}

impl Otlp {
    /// The part that the `OTEL_*` variables can set too.
    pub fn collector(&self) -> Collector {
        Collector {
            endpoint: self.endpoint.clone(),
            protocol: self.protocol.clone(),
            headers: self.headers.clone(),
            compression: self.compression.clone(),
            timeout: self.timeout_seconds.map(|seconds| duration(Some(seconds), TIMEOUT)),
        }
    }
}
