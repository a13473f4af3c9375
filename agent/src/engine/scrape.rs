//! [`Target`]s in; the [`Outcome`] of asking each, once a period, out.
//!
//! The servers asked are processes of this node, found by their own listening sockets. Still nothing they answer
//! is trusted: size and time have caps, redirects are not followed.

use crate::clock::Clock;
use crate::clock::MonoNs;
use crate::engine::Facts;
use crate::engine::Sample;
use crate::engine::collect::Collector;
use crate::engine::facts;
use crate::engine::text::Format;
use crate::engine::text::Parser;
use crate::ident::EngineId;
use crate::ident::Pid;
use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

mod network;

pub use reqwest::Url;

/// Both formats are read, so whatever the server prefers is welcome.
const ACCEPTED: &str =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5,*/*;q=0.1";

/// By which a server, and the agent itself, can tell these requests from traffic.
pub const USER_AGENT: &str = concat!("tachograph/", env!("CARGO_PKG_VERSION"));

/// Between two times that an engine is asked for facts: adapters come and go.
const FACTS_NS: u64 = 60_000_000_000;
/// Bytes of an answer with facts.
const FACTS_BYTES: usize = 1 << 20;

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
    #[error("it is in a network namespace of its own, and entering that needs CAP_SYS_ADMIN: {0}")]
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
                Ok((outcome, after)) => {
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

/// A client with the caps built in.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: Client,
    config: Config,
}

impl Scraper {
    /// Makes the client, and installs the process's TLS provider if nobody has.
    pub fn new(config: Config) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that another thread was first, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(config.timeout)
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(1)
            // The certificate names the public host, and the address here is one on which the traced process
            // itself listens, on this node.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| Error::Client(chain(&error)))?;
        Ok(Self { client, config })
    }

    /// One round for one engine: its page, and now and then its facts.
    async fn ask(&self, target: Target, known: Known, clock: Arc<dyn Clock>) -> (Outcome, Known) {
        let engine = target.engine;
        let url = target.pages.get(known.page).cloned();
        let shown = url.as_ref().map(Url::to_string);
        let before = known.clone();
        let facts =
            || before.facts.clone().map_or_else(|| Arc::new(Facts::of_command_line(&target.words)), |(_, it)| it);
        let failed = |error| Outcome { engine, url: shown.clone(), scraped: Err(error), facts: facts() };
        let Some(url) = url else { return (failed(Error::NoPort), known) };
        let Some(pid) = target.network else { return self.ask_here(&target, url, known, clock.as_ref()).await };
        let inside = {
            let (config, target, known) = (self.config.clone(), target.clone(), known.clone());
            // A client of its own: idle connections belong to the runtime that made them.
            network::inside(pid, move || async move {
                let scraper = Self::new(config)?;
                Ok(scraper.ask_here(&target, url, known, clock.as_ref()).await)
            })
        };
        inside.await.and_then(|done| done).unwrap_or_else(|error| (failed(error), known))
    }

    async fn ask_here(&self, target: &Target, url: Url, mut known: Known, clock: &dyn Clock) -> (Outcome, Known) {
        let scraped = self.scrape(target.engine, url.clone(), clock).await;
        if let Err(error) = &scraped
            && error.is_elsewhere()
        {
            known.page = (known.page + 1) % target.pages.len().max(1);
        }
        let now = clock.now();
        let facts = match known.facts {
            Some((at, facts)) if now.since(at).is_some_and(|age| age < FACTS_NS) => (at, facts),
            _ => (now, Arc::new(self.facts(target, &url).await)),
        };
        known.facts = Some(facts.clone());
        let outcome = Outcome { engine: target.engine, url: Some(url.to_string()), scraped, facts: facts.1 };
        (outcome, known)
    }

    /// One bounded GET, read to a sample.
    pub async fn scrape(&self, engine: EngineId, url: Url, clock: &dyn Clock) -> Result<Sample, Error> {
        let asked = clock.now();
        let (content_type, page) = self.get(url, self.config.max_bytes).await?;
        let at = clock.now();
        let page = str::from_utf8(&page).map_err(|_not_utf8| Error::NotText)?;

        let mut parser = Parser::new(Format::of(content_type.as_deref(), page));
        let mut collector = Collector::default();
        for line in page.split_inclusive('\n') {
            if let Some(point) = parser.line(line) {
                collector.take(&point);
            }
        }
        if parser.is_cut() {
            return Err(Error::Cut);
        }
        let bad_lines = parser.bad_lines();
        collector.finish(engine, asked, at).ok_or(Error::NoGauges { bad_lines })
    }

    async fn facts(&self, target: &Target, page: &Url) -> Facts {
        let mut facts = Facts::of_command_line(&target.words);
        match self.answer(page, "/v1/models", facts::models).await {
            Ok(models) => facts.models = models,
            Err(why) => {
                facts.models.extend(facts.started_with());
                facts.missing.insert("models", why);
            }
        }
        match self.answer(page, "/version", facts::version).await {
            Ok(version) => facts.version = Some(version),
            Err(why) => {
                facts.missing.insert("version", why);
            }
        }
        facts
    }

    async fn answer<T>(&self, page: &Url, path: &str, read: fn(&[u8]) -> Option<T>) -> Result<T, String> {
        let mut url = page.clone();
        url.set_path(path);
        let (_, answer) = self.get(url, FACTS_BYTES).await.map_err(|error| format!("{path}: {error}"))?;
        read(&answer).ok_or_else(|| format!("{path}: answered with something else"))
    }

    /// The content type and the body of an answer with status 200.
    async fn get(&self, url: Url, max_bytes: usize) -> Result<(Option<String>, Vec<u8>), Error> {
        let mut request = self.client.get(url).header(ACCEPT, ACCEPTED);
        if let Some(Secret(key)) = &self.config.api_key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => return Err(Error::Key(status.as_u16())),
            StatusCode::NOT_FOUND => return Err(Error::Closed),
            status => return Err(Error::Status(status.as_u16())),
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok((content_type, self.body(response, max_bytes).await?))
    }

    async fn body(&self, mut response: Response, max_bytes: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + piece.len() > max_bytes {
                return Err(Error::TooLarge(max_bytes));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn failed(&self, error: &reqwest::Error) -> Error {
        if error.is_timeout() { Error::Timeout(self.config.timeout) } else { Error::Http(chain(error)) }
    }
}

/// An error with its causes; the outermost alone seldom says why.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
