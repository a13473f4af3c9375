//! What to ask in, the API server's answers out: pages of a list, lines of a watch. Every answer is bounded in time
//! and size.

use crate::cluster::Config;
use crate::cluster::object::Object;
use futures_util::AsyncBufReadExt as _;
use futures_util::AsyncReadExt as _;
use futures_util::io::AsyncBufRead;
use kube::Client;
use kube::api::ListParams;
use kube::api::VersionMatch;
use kube::api::WatchEvent;
use kube::api::WatchParams;
use kube::config::KubeConfigOptions;
use kube::config::Kubeconfig;
use kube::core::Request;
use serde::Deserialize;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// Pods of one page, where the server pages.
const PAGE: u32 = 250;
/// Bytes of one page.
const PAGE_BYTES: u64 = 64 << 20;
/// Bytes of one event: an object of the API has at most 1.5 MiB.
const LINE_BYTES: u64 = 4 << 20;
/// How long the server keeps one watch open; a little under what its own default may be.
const WATCH_SECONDS: u32 = 290;

/// Why the API server's answer is of no use, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no way to ask.
    #[error("the cluster cannot be asked: {0}")]
    Settings(String),
    /// No connection, or no answer in time.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// 401 or 403.
    #[error("the API server refuses (status {code}): {what}")]
    Refused {
        /// 401: it does not know us; 403: a rule is missing.
        code: u16,
        /// What it says.
        what: String,
    },
    /// 410: what was asked for is too old, so all must be asked for anew.
    #[error("the API server has forgotten the state that was known (status 410)")]
    Gone,
    /// Any other status.
    #[error("the API server answers with status {code}: {what}")]
    Status {
        /// The status.
        code: u16,
        /// What it says.
        what: String,
    },
    /// It breaks off or cannot be read.
    #[error("the API server's answer is broken: {0}")]
    Broken(String),
    /// A watch that says nothing, not even that nothing has happened.
    #[error("the watch has said nothing for {0:?}")]
    Silent(Duration),
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused { code: 403, .. } => {
                Some("let a ClusterRole of the agent's service account get, list and watch pods")
            }
            Self::Refused { .. } => Some("give the agent a service account's token, or a kubeconfig that is valid"),
            Self::Settings(_) => Some("see kubernetes.enabled and kubernetes.kubeconfig"),
            _ => None,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => refusal(status.code, &status.reason, status.message),
            kube::Error::SerdeError(error) => Self::Broken(error.to_string()),
            kube::Error::ReadEvents(error) => Self::Broken(chain(&error)),
            kube::Error::InferKubeconfig(error) => Self::Settings(chain(&error)),
            other => Self::Unreachable(chain(&other)),
        }
    }
}

fn refusal(code: u16, reason: &str, what: String) -> Error {
    match code {
        401 | 403 => Error::Refused { code, what },
        410 => Error::Gone,
        _ if matches!(reason, "Expired" | "Gone") => Error::Gone,
        _ => Error::Status { code, what },
    }
}

/// An error with its causes: the outer ones tell little. One that repeats its cause says it once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// From which state of the cluster a list is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Whatever the server has at hand: the cheapest for it, and the watch that follows brings it up to date.
    Any,
    /// Nothing older than what was known.
    NotOlder(String),
    /// The newest, which costs the server most.
    Newest,
}

/// All pods of the node at one moment.
#[derive(Debug)]
pub struct List {
    /// The pods.
    pub pods: Vec<Object>,
    /// Which state of the cluster that is.
    pub version: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Option<Vec<Object>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    more: Option<String>,
}

/// Something that a watch says.
#[derive(Debug)]
pub enum Event {
    /// A pod is new, or has changed.
    Is(Object),
    /// A pod was deleted.
    Was(Object),
    /// Everything up to this state has been told.
    Upto(String),
}

/// A connection to the API server, made anew after each failure: tokens, certificates and addresses change.
pub struct Session {
    client: Client,
    pods: Request,
    fields: String,
    timeout: Duration,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl Session {
    /// Reads how to ask. Nothing is asked yet.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that another thread was first, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let mut access = match &config.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| Error::Settings(chain(&error)))?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
            }
            .map_err(|error| Error::Settings(chain(&error)))?,
            None => kube::Config::incluster().map_err(|error| Error::Settings(chain(&error)))?,
        };
        access.connect_timeout = Some(config.timeout);
        // Pauses are ours: see `follow`.
        access.default_retry = false;
        Ok(Self {
            client: Client::try_from(access).map_err(|error| Error::Settings(chain(&error)))?,
            pods: Request::new("/api/v1/pods"),
            fields: format!("spec.nodeName={}", config.node),
            timeout: config.timeout,
        })
    }

    /// All pods of the node.
    pub async fn list(&self, since: &Since) -> Result<List, Error> {
        let base = ListParams::default().fields(&self.fields);
        let mut params = match since {
            Since::Any => ListParams { resource_version: Some("0".to_owned()), ..base },
            Since::NotOlder(version) => ListParams {
                resource_version: Some(version.clone()),
                version_match: Some(VersionMatch::NotOlderThan),
                ..base
            },
            Since::Newest => base.limit(PAGE),
        };
        let mut pods = Vec::new();
        loop {
            let page = tokio::time::timeout(self.timeout, self.page(&params)).await;
            let page = page.map_err(|_late| Error::Unreachable(format!("no list within {:?}", self.timeout)))??;
            pods.extend(page.items.unwrap_or_default());
            match page.metadata.more.filter(|more| !more.is_empty()) {
                None => return Ok(List { pods, version: page.metadata.resource_version }),
                Some(_) if pods.len() > crate::cluster::pods::PODS => {
                    return Err(Error::Broken(format!("more than {} pods on one node", crate::cluster::pods::PODS)));
                }
                Some(more) => {
                    params = ListParams::default().fields(&self.fields).limit(PAGE).continue_token(&more);
                }
            }
        }
    }

    async fn page(&self, params: &ListParams) -> Result<Page, Error> {
        let request = self.pods.list(params).map_err(|error| Error::Settings(error.to_string()))?;
        let answer = self.client.request_stream(request).await?;
        let mut text = Vec::new();
        let mut answer = std::pin::pin!(answer.take(PAGE_BYTES));
        answer.read_to_end(&mut text).await.map_err(|error| Error::Broken(chain(&error)))?;
        serde_json::from_slice(&text).map_err(|error| Error::Broken(error.to_string()))
    }

    /// What happens after a state of the cluster.
    pub async fn watch(&self, version: &str) -> Result<Watch, Error> {
        let params = WatchParams::default().fields(&self.fields).timeout(WATCH_SECONDS);
        let request = self.pods.watch(&params, version).map_err(|error| Error::Settings(error.to_string()))?;
        let answer = tokio::time::timeout(self.timeout, self.client.request_stream(request)).await;
        let answer = answer.map_err(|_late| Error::Unreachable(format!("no watch within {:?}", self.timeout)))??;
        Ok(Watch { answer: Box::pin(answer), line: Vec::new() })
    }
}

/// A watch that is open.
pub struct Watch {
    answer: Pin<Box<dyn AsyncBufRead + Send>>,
    line: Vec<u8>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// The next event; `None` when the server has ended the watch in good order.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        self.line.clear();
        let mut bounded = (&mut self.answer).take(LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut self.line).await;
        read.map_err(|error| Error::Broken(chain(&error)))?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            return Err(Error::Broken("an event that does not end".to_owned()));
        }
        let event = serde_json::from_slice::<WatchEvent<Object>>(&self.line);
        match event.map_err(|error| Error::Broken(error.to_string()))? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => Ok(Some(Event::Is(pod))),
            WatchEvent::Deleted(pod) => Ok(Some(Event::Was(pod))),
            WatchEvent::Bookmark(mark) => Ok(Some(Event::Upto(mark.metadata.resource_version))),
            WatchEvent::Error(status) => Err(refusal(status.code, &status.reason, status.message)),
        }
    }
}
