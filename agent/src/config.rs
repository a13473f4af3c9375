//! Flags, environment and file in, one validated [`Config`] out.
//!
//! Each setting has one name in three spellings: `otlp.endpoint` in the file, `--otlp-endpoint` as a flag,
//! `TACHOGRAPH_OTLP_ENDPOINT` in the environment. A flag wins over the environment, that over the file,
//! that over the default. A variable that is not ours is no error, even with our prefix: an orchestrator
//! sets `TACHOGRAPH_SERVICE_HOST` and the like for a service of this name.

use crate::cluster;
use crate::config::partial::Partial;
use crate::config::value::Level;
use crate::config::value::Switch;
use crate::config::value::TargetRule;
use crate::correlate;
use crate::correlate::redact::Rules;
use crate::engine::scrape;
use crate::engine::scrape::Secret;
use crate::export::otlp::llm::Calls;
use crate::export::otlp::settings as otlp;
use crate::gpu;
use crate::kit;
use crate::serve::door;
use crate::stream::content::Capture;
use clap::Args as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;
use file::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

mod file;
pub mod pages;
pub mod partial;
pub mod value;

#[cfg(test)]
mod chart;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// The exit code of a setting that cannot be used.
pub const EXIT_USAGE: u8 = 64;

/// Read when no other file is named, and then only if it is there.
pub const FILE: &str = "/etc/tachograph/tachograph.toml";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "tachograph", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record the requests of this node and serve and export them.
    Run {
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
    /// Say what the agent needs, what is there, and what to do about the rest.
    Check {
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
    /// Write what the probes see into a file.
    Record {
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How long; without it, until interrupted.
        #[arg(long, value_name = "SECONDS")]
        seconds: Option<u64>,
        /// Keep everything as it is instead of masking what no record is made of; the file is readable by its
        /// owner only.
        #[arg(long)]
        with_content: bool,
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
    /// Write settings of the monitoring stack, made from the catalog of metrics and these settings.
    Generate {
        /// Which.
        what: kit::What,
        /// The folder; files in it are written over.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Where the stack runs: on this machine, or in a Kubernetes cluster.
        #[arg(long, default_value = "box")]
        layout: kit::Layout,
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
    /// Write the manual pages and the completions of shells, for packages.
    #[command(hide = true)]
    Pages {
        /// The folder; files in it are written over.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
    /// Run a recorded file through everything behind the probes.
    Replay {
        /// The file.
        file: PathBuf,
        /// Settings.
        #[command(flatten)]
        flags: Flags,
    },
}

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// The settings file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub settings: Partial,
}

impl Args {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    ///
    /// What clap says, to be printed by its `print`; [`exit_code`] tells what to end with. Also help and
    /// version come this way.
    pub fn read(line: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> Result<Self, clap::Error> {
        Self::try_parse_from(line)
    }

    /// The settings of whatever command.
    pub fn flags(&self) -> &Flags {
        match &self.command {
            Command::Run { flags }
            | Command::Check { flags }
            | Command::Record { flags, .. }
            | Command::Generate { flags, .. }
            | Command::Pages { flags, .. }
            | Command::Replay { flags, .. } => flags,
        }
    }
}

/// The exit code after clap has spoken: help and version are no failure.
pub fn exit_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { EXIT_USAGE } else { 0 }
}

/// A setting that cannot be used, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something in the settings file is wrong.
    #[error("{}: line {line}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// The key, what is wrong with it, and what is allowed.
        what: String,
    },
    /// A variable has a bad value.
    #[error("{variable}: {what}")]
    Variable {
        /// Which.
        variable: String,
        /// What is wrong with it.
        what: String,
    },
    /// A setting does not go with another, or does not mean anything.
    #[error("{key}: {what}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The collector's settings are wrong.
    #[error(transparent)]
    Otlp(#[from] otlp::Bad),
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the listener listens.
    pub listen: SocketAddr,
    /// Who may come in there.
    pub serve: door::Settings,
    /// What the correlator keeps and counts.
    pub correlate: correlate::state::Settings,
    /// Which share of requests shall keep the objectives.
    pub goals: kit::slo::Goals,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// Whether losses are kept one by one, which only tests read.
    pub keep_losses: bool,
    /// Whether probes are attached by perf events even where the kernel has better, which only tests want.
    pub perf_events: bool,
    /// Bytes of one request body that are copied.
    pub body_cap_bytes: u64,
    /// How much is captured.
    pub level: Level,
    /// Whether prompts and answers are captured, and how much of them.
    pub content: Option<Capture>,
    /// Servers that discovery would not find by itself.
    pub targets: Vec<TargetRule>,
    /// The export.
    pub otlp: otlp::Settings,
    /// NVML.
    pub nvml: gpu::nvml::Config,
    /// The engines' own metrics.
    pub scrape: Scrape,
    /// How the API server of the cluster is asked, or why it is not.
    pub kubernetes: Result<cluster::Config, String>,
    /// Between two passes over `/proc`.
    pub discover_interval: Duration,
    /// Which log lines are written, in the syntax of `tracing`'s filters.
    pub log: String,
}

/// The engines' own metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// Whether to read them.
    pub enabled: bool,
    /// Between two scrapes.
    pub interval: Duration,
    /// How long one scrape may take.
    pub timeout: Duration,
    /// The key that a server asks for.
    pub api_key: Option<Secret>,
    /// Whether to keep the capability of entering network namespaces.
    pub network_namespaces: bool,
}

impl Scrape {
    /// As the scraper takes them.
    pub fn settings(&self) -> scrape::Config {
        scrape::Config {
            period: self.interval,
            timeout: self.timeout,
            api_key: self.api_key.clone(),
            ..scrape::Config::default()
        }
    }
}

/// What surrounds the command line: the environment, files, and the host's name.
pub struct Around<'a> {
    /// A variable's value.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text.
    pub read: &'a dyn Fn(&Path) -> std::io::Result<String>,
    /// The host's name.
    pub host: String,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Around<'_> {
    /// Those of this process.
    pub fn system() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            env: &|name| std::env::var(name).ok(),
            read: &|path| std::fs::read_to_string(path),
            host: host.trim().to_owned(),
        }
    }
}

impl Config {
    /// Brings all sources together.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, by its name; the process shall end with [`EXIT_USAGE`].
    pub fn load(flags: &Flags, around: &Around<'_>) -> Result<Self, Error> {
        let env = from_environment(around.env)?;
        let file = File::read(flags.config.as_ref().or(env.config.as_ref()), around.read)?;
        let above = flags.settings.clone().or(env.settings);
        let of = |file| Self::of(above.clone(), file, around);
        of(file.settings.clone()).map_err(|error| {
            let Some((key, line)) = file.place(&error) else { return error };
            // What is wrong without it too is not wrong in the file.
            let without = of(file.without(&key)).err().map(|error| error.to_string());
            if without == Some(error.to_string()) { error } else { file.error(line, None, &error.to_string()) }
        })
    }

    fn of(above: Partial, file: Partial, around: &Around<'_>) -> Result<Self, Error> {
        let sources = otlp::Sources { above: &above.otlp.collector(), env: around.env, below: &file.otlp.collector() };
        let traces = sources.endpoint(otlp::Signal::Traces)?;
        let metrics = sources.endpoint(otlp::Signal::Metrics)?;
        let logs = sources.endpoint(otlp::Signal::Logs)?;
        let mut resource = sources.resource(&around.host)?;
        let all = above.or(file);
        let level = all.level.unwrap_or(Level::Full);
        let (content, redact) = content(all.content, level)?;
        let correlate = correlate::state::Settings::default();
        let goals = all.slo.goals();
        let cluster_name = all.kubernetes.cluster.clone();
        let kubernetes = kubernetes(all.kubernetes, around)?;
        let node = kubernetes.as_ref().ok().map(|config| config.node.clone());
        for (key, value) in [("k8s.node.name", node), ("k8s.cluster.name", cluster_name)] {
            // What OTEL_RESOURCE_ATTRIBUTES says stands.
            if let Some(value) = value.filter(|_| resource.iter().all(|(known, _)| known != key)) {
                resource.push((key.to_owned(), value));
            }
        }
        Ok(Self {
            listen: all.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9478))),
            serve: door(all.serve)?,
            correlate: correlate::state::Settings {
                requests_kept: all.requests_kept.unwrap_or(correlate.requests_kept),
                series_cap: all.series_cap.unwrap_or(correlate.series_cap),
                objectives: all.slo.objectives(),
                prices: correlate::prices::Prices {
                    gpu_hour: all.prices.gpu_hour.unwrap_or_default(),
                    tokens: all.prices.tokens.unwrap_or_default(),
                },
                users: all.prices.users.unwrap_or(correlate.users),
                redact,
            },
            goals,
            ring_bytes: all.ring_bytes.map_or(16 << 20, |bytes| bytes.0),
            keep_losses: all.keep_losses.unwrap_or(false),
            perf_events: all.perf_events.unwrap_or(false),
            body_cap_bytes: all.body_cap_bytes.unwrap_or(16 << 20),
            level,
            content,
            targets: all.targets.unwrap_or_default(),
            otlp: otlp::Settings {
                traces,
                metrics,
                logs,
                resource,
                llm_calls: all.otlp.llm_calls.map_or_else(Calls::default, value::LlmCalls::calls),
                log_shares: all.logs.shares(),
                queue_bytes: all.otlp.queue_bytes.unwrap_or(otlp::QUEUE_BYTES),
                interval: value::duration(all.otlp.interval_seconds, otlp::INTERVAL),
                linger: otlp::LINGER,
                flush: otlp::FLUSH,
                retry: crate::export::otlp::retry::Policy::default(),
            },
            nvml: gpu::nvml::Config {
                enabled: all.nvml.enabled.unwrap_or(true),
                library: all.nvml.library,
                interval: value::duration(all.nvml.interval_seconds, gpu::nvml::Config::INTERVAL),
            },
            scrape: Scrape {
                enabled: all.scrape.enabled.unwrap_or(true),
                interval: value::duration(all.scrape.interval_seconds, Duration::from_secs(5)),
                timeout: value::duration(all.scrape.timeout_seconds, Duration::from_secs(2)),
                api_key: api_key(all.scrape.api_key_file, around)?,
                network_namespaces: all.scrape.network_namespaces.unwrap_or(false),
            },
            kubernetes,
            discover_interval: value::duration(all.discover.interval_seconds, Duration::from_secs(5)),
            log: log(all.log)?,
        })
    }
}

impl Config {
    /// What `generate` makes its files of.
    pub fn kit(&self, layout: kit::Layout) -> kit::Kit {
        kit::Kit {
            layout,
            objectives: self.correlate.objectives.clone(),
            goals: self.goals.clone(),
            prices: self.correlate.prices.clone(),
            port: self.listen.port(),
        }
    }
}

/// Which log lines are written.
fn log(filter: Option<String>) -> Result<String, Error> {
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(bad) => {
            let what = format!("`{filter}` is no filter such as `info` or `tachograph::engine=debug,info`: {bad}");
            Err(Error::Setting { key: "log", what })
        }
    }
}

/// Who may come in; what is half said is said to be so.
fn door(settings: partial::Serve) -> Result<door::Settings, Error> {
    let partial::Serve { tls_cert_file, tls_key_file, tls_client_ca_file, basic_auth_file, bearer_token_file } =
        settings;
    let lacks = |key, what: &str| Err(Error::Setting { key, what: format!("needs {what} too") });
    let tls = match (tls_cert_file, tls_key_file, tls_client_ca_file) {
        (Some(certificate), Some(key), client_authorities) => Some(door::Tls { certificate, key, client_authorities }),
        (Some(_), None, _) => return lacks("serve.tls_cert_file", "serve.tls_key_file"),
        (None, Some(_), _) => return lacks("serve.tls_key_file", "serve.tls_cert_file"),
        (None, None, Some(_)) => return lacks("serve.tls_client_ca_file", "serve.tls_cert_file"),
        (None, None, None) => None,
    };
    Ok(door::Settings { tls, basic_auth_file, bearer_token_file })
}

/// Of each side of a request, unless set.
const CONTENT_BYTES: usize = 16_384;

/// How much is captured, and what is taken out of it. Rules are read where nothing is captured too, so that a bad one
/// is found before it matters.
fn content(settings: partial::Content, level: Level) -> Result<(Option<Capture>, Option<Arc<Rules>>), Error> {
    let rules = Rules::new(settings.redact_defaults.unwrap_or(true), &settings.redact.unwrap_or_default());
    let rules = rules.map_err(|bad| Error::Setting { key: "content.redact", what: bad.to_string() })?;
    if !settings.capture.unwrap_or(false) {
        return Ok((None, None));
    }
    if level != Level::Full {
        let what = "needs level `full`, for another level leaves bodies out".to_owned();
        return Err(Error::Setting { key: "content.capture", what });
    }
    let bytes = settings.max_bytes.map_or(CONTENT_BYTES, |bytes| bytes.0);
    Ok((Some(Capture::new(bytes)), Some(Arc::new(rules))))
}

/// The variable that holds the key itself. No flag does: command lines are public.
const API_KEY: &str = "TACHOGRAPH_SCRAPE_API_KEY";

fn api_key(file: Option<PathBuf>, around: &Around<'_>) -> Result<Option<Secret>, Error> {
    let written = match file {
        Some(path) => Some((around.read)(&path).map_err(|error| Error::Unreadable { path, error })?),
        None => (around.env)(API_KEY),
    };
    Ok(written.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).map(Secret))
}

/// How the API server is asked, or in one sentence why it is not.
fn kubernetes(settings: partial::Kubernetes, around: &Around<'_>) -> Result<Result<cluster::Config, String>, Error> {
    let partial::Kubernetes { enabled, node, cluster: _, labels, kubeconfig } = settings;
    let account = || {
        let server = (around.env)(cluster::settings::SERVER).is_some_and(|server| !server.is_empty());
        server && (around.read)(Path::new(cluster::settings::TOKEN)).is_ok()
    };
    match enabled.unwrap_or(Switch::Auto) {
        Switch::False => return Ok(Err("kubernetes.enabled is false".to_owned())),
        Switch::Auto if kubeconfig.is_none() && !account() => {
            return Ok(Err("there is neither a service account of a pod here nor a kubernetes.kubeconfig".to_owned()));
        }
        Switch::Auto | Switch::True => {}
    }
    let node = node.unwrap_or_else(|| around.host.to_lowercase());
    // It stands in a selector, where other characters would mean something.
    if node.is_empty() || !node.chars().all(|it| matches!(it, 'a'..='z' | '0'..='9' | '-' | '.')) {
        let what = format!("`{node}` is no name of a node: lower case letters, digits, `-` and `.`");
        return Err(Error::Setting { key: "kubernetes.node", what });
    }
    let labels = labels.map(|labels| labels.into_iter().filter(|label| !label.is_empty()).collect());
    let labels = labels.map_or_else(cluster::labels::List::default, cluster::labels::List);
    Ok(Ok(cluster::Config::new(node, labels, kubeconfig)))
}

/// The variables of all flags, read by the rules of the flags.
fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Flags, Error> {
    let parser = Flags::augment_args(clap::Command::new("environment").no_binary_name(true));
    let mut found = Flags::default();
    for flag in parser.get_arguments().filter_map(clap::Arg::get_long) {
        let variable = format!("TACHOGRAPH_{}", flag.replace('-', "_").to_uppercase());
        let Some(value) = env(&variable).filter(|value| !value.is_empty()) else { continue };
        let one = parser.clone().try_get_matches_from([format!("--{flag}={value}")]);
        let one = one
            .and_then(|matches| Flags::from_arg_matches(&matches))
            .map_err(|error| Error::Variable { variable, what: cause(&error) })?;
        found = Flags { config: found.config.or(one.config), settings: found.settings.or(one.settings) };
    }
    Ok(found)
}

/// The sentence of a flag's error without the flag, which nobody has written.
fn cause(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once("': ").map_or(line, |(_flag, cause)| cause).to_owned()
}
