//! Addresses of `/metrics` in, [`Scraped`] gauges or the [`Error`] out, once a period and engine.
//!
//! The servers scraped are processes of this node, found by their own listening sockets. Still nothing they
//! answer is trusted: size and time have caps, redirects are not followed.

use crate::clock::Clock;
use crate::engine::Sample;
use crate::engine::names::Collector;
use crate::engine::text::Format;
use crate::engine::text::Parser;
use crate::ident::EngineId;
use reqwest::Client;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use reqwest::Url;

/// Both formats are read, so whatever the server prefers is welcome.
const ACCEPTED: &str =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5,*/*;q=0.1";

/// By which a server, and the agent itself, can tell these requests from traffic.
pub const USER_AGENT: &str = concat!("tachograph/", env!("CARGO_PKG_VERSION"));

/// Settings of the scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Between two scrapes of one engine. A page costs the engine's event loop milliseconds, so this is not short.
    pub period: Duration,
    /// For one scrape, from connecting to the last byte.
    pub timeout: Duration,
    /// Bytes of one page.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { period: Duration::from_secs(5), timeout: Duration::from_secs(2), max_bytes: 8 << 20 }
    }
}

/// What one page gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Scraped {
    /// The gauges.
    pub sample: Sample,
    /// Whose names they have, see [`super::names::Gauges::engine`].
    pub dialect: &'static str,
    /// Lines that are none of the format's, and were passed over.
    pub bad_lines: u64,
}

/// Why a scrape gave nothing, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No client can be made here.
    #[error("scraping is not possible here: {0}")]
    Client(String),
    /// No connection, or it broke.
    #[error("no answer: {0}")]
    Http(String),
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Any status but 200. A redirect is among them.
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

/// Scrapes `targets` once a period, each for itself, until their sender is dropped.
pub async fn run(
    config: Config,
    targets: watch::Receiver<Vec<(EngineId, Url)>>,
    clock: Arc<dyn Clock>,
    sink: impl Fn(EngineId, Result<Scraped, Error>) + Send,
) {
    let scraper = match Scraper::new(config.clone()) {
        Ok(scraper) => scraper,
        Err(error) => {
            tracing::warn!(%error, "engines are not scraped");
            return;
        }
    };
    let mut tick = tokio::time::interval(config.period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while targets.has_changed().is_ok() {
        tick.tick().await;
        let mut round = JoinSet::new();
        for (engine, url) in targets.borrow().iter().cloned() {
            let (scraper, clock) = (scraper.clone(), Arc::clone(&clock));
            round.spawn(async move { (engine, scraper.scrape(engine, url, clock.as_ref()).await) });
        }
        while let Some(done) = round.join_next().await {
            match done {
                Ok((engine, result)) => sink(engine, result),
                Err(error) => tracing::warn!(%error, "a scrape ended without a result"),
            }
        }
    }
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
            // The certificate names the public host, and the address here is this node's own. No secret is sent.
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| Error::Client(chain(&error)))?;
        Ok(Self { client, config })
    }

    /// One bounded GET, read to gauges.
    pub async fn scrape(&self, engine: EngineId, url: Url, clock: &dyn Clock) -> Result<Scraped, Error> {
        let request = self.client.get(url).header(ACCEPT, ACCEPTED);
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status().as_u16()));
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let page = self.page(response).await?;
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
        let gauges = collector.finish().ok_or(Error::NoGauges { bad_lines })?;
        let sample = Sample {
            engine,
            at,
            running: gauges.running,
            waiting: gauges.waiting,
            kv_usage: gauges.kv_usage,
            models: gauges.models,
        };
        Ok(Scraped { sample, dialect: gauges.engine, bad_lines })
    }

    async fn page(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut page = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if page.len() + piece.len() > self.config.max_bytes {
                return Err(Error::TooLarge(self.config.max_bytes));
            }
            page.extend_from_slice(&piece);
        }
        Ok(page)
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
