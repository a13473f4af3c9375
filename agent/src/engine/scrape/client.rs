//! A [`Target`] in; its page read to a [`Sample`], and its facts, out. Every answer is bounded in time and size.

use crate::clock::Clock;
use crate::engine::Facts;
use crate::engine::Sample;
use crate::engine::collect::Collector;
use crate::engine::facts;
use crate::engine::scrape::Config;
use crate::engine::scrape::Error;
use crate::engine::scrape::Known;
use crate::engine::scrape::Outcome;
use crate::engine::scrape::Secret;
use crate::engine::scrape::Target;
use crate::engine::scrape::USER_AGENT;
use crate::engine::scrape::Url;
use crate::engine::scrape::network;
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

/// Both formats are read, so whatever the server prefers is welcome.
const ACCEPTED: &str =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5,*/*;q=0.1";

/// Between two times that an engine is asked for facts: adapters come and go.
const FACTS_NS: u64 = 60_000_000_000;
/// Bytes of an answer with facts.
const FACTS_BYTES: usize = 1 << 20;

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
    pub(super) async fn ask(&self, target: Target, mut known: Known, clock: Arc<dyn Clock>) -> (Outcome, Known) {
        let engine = target.engine;
        known.page = known.page.min(target.pages.len().saturating_sub(1));
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
        let mut scraped = self.scrape(target.engine, url.clone(), clock).await;
        if let Err(error) = &scraped
            && error.is_elsewhere()
        {
            known.page = (known.page + 1) % target.pages.len().max(1);
        }
        let now = clock.now();
        // One that does not answer may be about to begin: its facts can wait for its first answer.
        let is_silent = matches!(scraped, Err(Error::Http(_) | Error::Timeout(_)));
        let facts = match known.facts.take() {
            Some((at, facts)) if is_silent || now.since(at).is_some_and(|age| age < FACTS_NS) => {
                known.facts = Some((at, Arc::clone(&facts)));
                facts
            }
            None if is_silent => Arc::new(Facts::of_command_line(&target.words)),
            _ => {
                let facts = Arc::new(self.facts(target, &url).await);
                known.facts = Some((now, Arc::clone(&facts)));
                facts
            }
        };
        let mut asked = url;
        match (&scraped, &known.refusal) {
            (Err(Error::Http(_)), Some((url, refusal))) => {
                asked = url.clone();
                scraped = Err(refusal.clone());
            }
            (Err(Error::Http(_)), None) => {}
            (Err(error), _) => known.refusal = Some((asked.clone(), error.clone())),
            (Ok(_), _) => known.refusal = None,
        }
        let outcome = Outcome { engine: target.engine, url: Some(asked.to_string()), scraped, facts };
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
