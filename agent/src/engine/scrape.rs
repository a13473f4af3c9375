//! [`Target`]s in; the [`Outcome`] of asking each, once a period, out.
//!
//! The servers asked are processes of this node, found by their own listening sockets. Still nothing they answer
//! is trusted: size and time have caps, redirects are not followed.

use crate::clock::Clock;
use crate::clock::MonoNs;
use crate::engine::Facts;
use crate::engine::Sample;
use crate::ident::EngineId;
use crate::ident::Pid;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

mod client;
mod network;

pub use client::Scraper;
pub use reqwest::Url;

/// By which a server, and the agent itself, can tell these requests from traffic.
pub const USER_AGENT: &str = concat!("tachograph/", env!("CARGO_PKG_VERSION"));

/// Settings of the scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Between two scrapes of one engine. A page costs the engine's event loop milliseconds, so this is not short.
    pub period: Duration,
    /// For one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Bytes of one page.
    pub max_bytes: usize,
    /// The key that a server asks for.
    pub api_key: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self { period: Duration::from_secs(5), timeout: Duration::from_secs(2), max_bytes: 8 << 20, api_key: None }
    }
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An engine to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The engine.
    pub engine: EngineId,
    /// Where its page may be, the likeliest first; none where it listens on no TCP port.
    pub pages: Vec<Url>,
    /// A process in whose network namespace that is, where it is not the agent's own.
    pub network: Option<Pid>,
    /// The command line of its first process.
    pub words: Vec<String>,
}

/// What asking an engine gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The engine.
    pub engine: EngineId,
    /// Where it was asked.
    pub url: Option<String>,
    /// The page.
    pub scraped: Result<Sample, Error>,
    /// What is known of it beside.
    pub facts: Arc<Facts>,
}

/// Why a scrape gave nothing, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No client can be made here.
    #[error("scraping is not possible here: {0}")]
    Client(String),
    /// It has no port to ask.
    #[error("it listens on no TCP port")]
    NoPort,
    /// Its network namespace cannot be entered.
    #[error(
        "it is in a network namespace of its own, and entering that needs CAP_SYS_ADMIN (see scrape.network_namespaces): {0}"
    )]
    Network(String),
    /// No connection, or it broke.
    #[error("no answer: {0}")]
    Http(String),
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// 401 or 403.
    #[error("it asks for an API key (status {0}): see scrape.api_key_file")]
    Key(u16),
    /// 404: the page is switched off, or elsewhere.
    #[error("it has no metrics page here (status 404)")]
    Closed,
    /// Any other status but 200. A redirect is among them.
    #[error("answered with status {0}")]
    Status(u16),
    /// The page is longer than the cap.
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
    /// The page is no UTF-8: encoded, or no metrics.
    #[error("answered with what is no text")]
    NotText,
    /// OpenMetrics without `# EOF`: ranks may be missing, so sums over them would be wrong.
    #[error("the page ends before its end mark")]
    Cut,
    /// No gauge of any known engine.
    #[error("no gauge of a known engine on the page ({bad_lines} lines were no metrics)")]
    NoGauges {
        /// Lines that are none of the format's.
        bad_lines: u64,
    },
}

impl Error {
    /// Whether another address of the same engine may answer better.
    fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Closed | Self::NoGauges { .. } | Self::NotText | Self::Http(_) | Self::Status(_))
    }
}

/// What is remembered of an engine between two rounds.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Which of its pages to ask.
    page: usize,
    facts: Option<(MonoNs, Arc<Facts>)>,
    /// What a page said that was there and had no numbers: it tells more than that another place is silent.
    refusal: Option<(Url, Error)>,
    /// Whether it told its numbers last time.
    told: Option<bool>,
}

impl Known {
    /// Says in the log what changed.
    fn learn(&mut self, outcome: &Outcome) {
        let engine = outcome.engine.0.pid.0;
        let told = Some(outcome.scraped.is_ok());
        match &outcome.scraped {
            _ if self.told == told => {}
            Ok(sample) => {
                tracing::info!(engine, dialect = sample.dialect, url = outcome.url, "engine tells its metrics");
            }
            Err(error) => tracing::info!(engine, %error, "engine does not tell its metrics"),
        }
        self.told = told;
    }
}

/// Asks `targets` once a period, each for itself, until their sender is dropped.
pub async fn run(
    config: Config,
    targets: watch::Receiver<Vec<Target>>,
    clock: Arc<dyn Clock>,
    sink: impl Fn(Outcome) + Send,
) {
    let scraper = match Scraper::new(config.clone()) {
        Ok(scraper) => scraper,
        Err(error) => {
            tracing::warn!(%error, "engines are not scraped");
            return;
        }
    };
    let mut known: BTreeMap<EngineId, Known> = BTreeMap::new();
    let mut tick = tokio::time::interval(config.period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while targets.has_changed().is_ok() {
        tick.tick().await;
        let mut round = JoinSet::new();
        let mut before = std::mem::take(&mut known);
        for target in targets.borrow().iter().cloned() {
            let known = before.remove(&target.engine).unwrap_or_default();
            let (scraper, clock) = (scraper.clone(), Arc::clone(&clock));
            round.spawn(async move { scraper.ask(target, known, clock).await });
        }
        while let Some(done) = round.join_next().await {
            match done {
                Ok((outcome, mut after)) => {
                    after.learn(&outcome);
                    known.insert(outcome.engine, after);
                    sink(outcome);
                }
                Err(error) => tracing::warn!(%error, "a scrape ended without a result"),
            }
        }
    }
}

/// Asks each of its pages once until one answers, in a runtime of its own.
pub fn once(config: Config, target: &Target, clock: &Arc<dyn Clock>) -> Result<Outcome, Error> {
    let scraper = Scraper::new(config)?;
    let runtime = network::runtime().map_err(|error| Error::Client(error.to_string()))?;
    runtime.block_on(async {
        let mut known = Known::default();
        loop {
            let page = known.page;
            let (outcome, after) = scraper.ask(target.clone(), known, Arc::clone(clock)).await;
            if outcome.scraped.is_ok() || after.page <= page {
                return Ok(outcome);
            }
            known = after;
        }
    })
}

#[cfg(test)]
mod tests;
