//! Flags, environment and file in, one validated [`Config`] out.
//!
//! Each setting has one name in three spellings: `otlp.endpoint` in the file, `--otlp-endpoint` as a flag,
//! `TACHOGRAPH_OTLP_ENDPOINT` in the environment. A flag wins over the environment, that over the file,
//! that over the default. A variable that is not ours is no error, even with our prefix: an orchestrator
//! sets `TACHOGRAPH_SERVICE_HOST` and the like for a service of this name.

use crate::config::partial::Partial;
use crate::config::value::Level;
use crate::config::value::TargetRule;
use crate::correlate;
use crate::correlate::redact::Rules;
use crate::engine::scrape;
use crate::engine::scrape::Secret;
use crate::export::otlp::llm::Calls;
use crate::export::otlp::settings as otlp;
use crate::gpu;
use crate::kit;
use crate::stream::content::Capture;
use clap::Args as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub mod pages;
pub mod partial;
pub mod value;

#[cfg(test)]
mod generated;
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
    /// The settings file holds an unknown key or a bad value; the message names key and line.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the parser says.
        error: Box<toml::de::Error>,
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
        let file = from_file(flags.config.as_ref().or(env.config.as_ref()), around.read)?;
        let above = flags.settings.clone().or(env.settings);
        let sources = otlp::Sources { above: &above.otlp.collector(), env: around.env, below: &file.otlp.collector() };
        let traces = sources.endpoint(otlp::Signal::Traces)?;
        let metrics = sources.endpoint(otlp::Signal::Metrics)?;
        let logs = sources.endpoint(otlp::Signal::Logs)?;
        let resource = sources.resource(&around.host)?;
        let all = above.or(file);
        let level = all.level.unwrap_or(Level::Full);
        let (content, redact) = content(all.content, level)?;
        let correlate = correlate::state::Settings::default();
        let goals = all.slo.goals();
        Ok(Self {
            listen: all.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9478))),
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
            discover_interval: value::duration(all.discover.interval_seconds, Duration::from_secs(5)),
            log: all.log.unwrap_or_else(|| "info".to_owned()),
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

fn from_file(named: Option<&PathBuf>, read: &dyn Fn(&Path) -> std::io::Result<String>) -> Result<Partial, Error> {
    let path = named.map_or(Path::new(FILE), PathBuf::as_path);
    match read(path) {
        Ok(text) => {
            toml::from_str(&text).map_err(|error| Error::File { path: path.to_owned(), error: Box::new(error) })
        }
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Partial::default()),
        Err(error) => Err(Error::Unreadable { path: path.to_owned(), error }),
    }
}
