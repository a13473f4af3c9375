//! The settings of the listener's certificates, passwords and tokens in; who may come in, out.
//!
//! The words are those of the Prometheus exporters. Everything but the probes of health is behind this.

use crate::serve::guests::Peer;
use crate::serve::secrets::Tokens;
use crate::serve::secrets::Users;
use crate::serve::tls;
use crate::serve::watched::Watched;
use crate::vitals::Vitals;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(1);

/// After a wrong password, this many times what its check took pass before the next check: guessing costs a fifth of
/// one processor.
const REST: u32 = 4;

/// As an operator sets it; without anything the door stands open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How TLS is spoken; without it, it is not.
    pub tls: Option<Tls>,
    /// A file of `name:hash`.
    pub basic_auth_file: Option<PathBuf>,
    /// A file of tokens.
    pub bearer_token_file: Option<PathBuf>,
}

impl Settings {
    /// Whether somebody must say who he is.
    pub fn asks(&self) -> bool {
        let certified = self.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        certified || self.basic_auth_file.is_some() || self.bearer_token_file.is_some()
    }
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients' certificates, where one is asked for.
    pub client_authorities: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Unusable {
    key: &'static str,
    what: String,
}

/// Who may come in.
#[derive(Debug)]
pub struct Door {
    tls: Option<Watched<ServerConfig>>,
    asks_certificate: bool,
    users: Option<Watched<Users>>,
    tokens: Option<Watched<Tokens>>,
    vitals: Arc<Vitals>,
    /// One check of a password at a time, so that the agent keeps its processor.
    turn: Arc<Semaphore>,
}

/// What a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Welcome,
    NoCertificate,
    Unknown,
}

impl Door {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// The first that cannot be used.
    pub fn open(settings: &Settings, vitals: &Arc<Vitals>) -> Result<Self, Unusable> {
        let named = |key| move |what| Unusable { key, what };
        let tls = settings.tls.as_ref().map(|Tls { certificate, key, client_authorities }| {
            let paths = [certificate, key].into_iter().chain(client_authorities).cloned().collect();
            Watched::open(paths, tls::server, EVERY, vitals).map_err(named("serve.tls_cert_file"))
        });
        let users = settings.basic_auth_file.as_ref().map(|path| {
            Watched::open(vec![path.clone()], Users::read, EVERY, vitals).map_err(named("serve.basic_auth_file"))
        });
        let tokens = settings.bearer_token_file.as_ref().map(|path| {
            Watched::open(vec![path.clone()], Tokens::read, EVERY, vitals).map_err(named("serve.bearer_token_file"))
        });
        Ok(Self {
            tls: tls.transpose()?,
            asks_certificate: settings.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some()),
            users: users.transpose()?,
            tokens: tokens.transpose()?,
            vitals: Arc::clone(vitals),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// What a new connection begins with; `None` where it is plain.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.get()))
    }

    async fn judge(&self, headers: &HeaderMap, certified: bool) -> Verdict {
        if self.asks_certificate && !certified {
            return Verdict::NoCertificate;
        }
        if self.users.is_none() && self.tokens.is_none() {
            return Verdict::Welcome;
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return Verdict::Unknown };
        let given = given.as_bytes();
        let space = given.iter().position(|byte| *byte == b' ').unwrap_or(given.len());
        let (scheme, rest) = given.split_at_checked(space).unwrap_or((given, &[]));
        let rest = rest.trim_ascii();
        let welcome = match (&self.users, &self.tokens) {
            (Some(users), _) if scheme.eq_ignore_ascii_case(b"basic") => self.knows(users.get(), rest).await,
            (_, Some(tokens)) if scheme.eq_ignore_ascii_case(b"bearer") => tokens.get().hold(rest),
            _ => false,
        };
        if welcome { Verdict::Welcome } else { Verdict::Unknown }
    }

    /// Whether these credentials, as the header has them, are right.
    async fn knows(&self, users: Arc<Users>, credentials: &[u8]) -> bool {
        let Ok(plain) = STANDARD.decode(credentials) else { return false };
        let Some(colon) = plain.iter().position(|byte| *byte == b':') else { return false };
        let (name, password) = plain.split_at_checked(colon).unwrap_or_default();
        let Ok(name) = String::from_utf8(name.to_vec()) else { return false };
        let password = password.get(1..).unwrap_or_default().to_vec();
        if users.recall(&name, &password) {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        let (told, verdict) = oneshot::channel();
        // A task of its own: the rest is kept also when the caller no longer waits.
        tokio::spawn(async move {
            let began = Instant::now();
            let check = move || users.recall(&name, &password) || users.check(&name, &password);
            let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
            let _gone = told.send(right);
            if !right {
                sleep(began.elapsed() * REST).await;
            }
            drop(turn);
        });
        verdict.await.unwrap_or(false)
    }

    fn refuse(&self, verdict: Verdict) -> Response {
        self.vitals.listener_refused.one();
        if verdict == Verdict::NoCertificate {
            return (StatusCode::FORBIDDEN, "a client certificate is asked for\n").into_response();
        }
        let mut response = (StatusCode::UNAUTHORIZED, "unauthorized\n").into_response();
        let basic = self.users.is_some().then_some("Basic realm=\"tachograph\", charset=\"UTF-8\"");
        let bearer = self.tokens.is_some().then_some("Bearer realm=\"tachograph\"");
        for challenge in basic.into_iter().chain(bearer) {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// The door as it is now.
pub type Doors = watch::Receiver<Arc<Door>>;

/// Lets a request pass, or answers it.
pub(super) async fn keep(
    State(doors): State<Doors>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let door = Arc::clone(&doors.borrow());
    match door.judge(request.headers(), peer.certified()).await {
        Verdict::Welcome => next.run(request).await,
        verdict => {
            tracing::debug!(peer = %peer.address, path = request.uri().path(), ?verdict, "refused");
            door.refuse(verdict)
        }
    }
}
