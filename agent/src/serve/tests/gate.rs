//! Certificates, passwords and tokens over real sockets: who gets in, and who is told what.

use super::NEVER;
use super::SHORT;
use super::ask;
use super::doors;
use super::exchange;
use super::listener;
use super::one_at_a_time;
use super::site;
use crate::serve::door::Door;
use crate::serve::door::Doors;
use crate::serve::door::Settings;
use crate::serve::door::Tls;
use crate::serve::guests::Patience;
use crate::serve::serve;
use crate::vitals::Vitals;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::CertificateParams;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::TLS12;
use rustls::version::TLS13;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tachograph-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority of certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `localhost`, and its key.
    fn issue(&self) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }

    /// The same as files, with these authorities of clients.
    fn files(&self, folder: &Folder, clients: Option<&Self>) -> Settings {
        let [cert, key] = self.issue();
        let tls = Tls {
            certificate: folder.write("tls.crt", &cert),
            key: folder.write("tls.key", &key),
            client_authorities: clients.map(|clients| folder.write("ca.crt", &clients.pem)),
        };
        Settings { tls: Some(tls), ..Settings::default() }
    }

    /// Somebody who trusts it, and may have a certificate of somebody's.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Self>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let config = match own.map(Self::issue) {
            None => builder.with_no_client_auth(),
            Some([cert, key]) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn greet(client: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from("localhost").unwrap(), TcpStream::connect(address).await?).await
}

async fn get(client: &TlsConnector, address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = greet(client, address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Serves until the sender is gone.
async fn served(doors: Doors) -> (SocketAddr, watch::Sender<bool>) {
    let (listener, address) = listener().await;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, site(), doors, stopped));
    (address, stop)
}

async fn with_credentials(address: SocketAddr, path: &str, header: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{header}\r\n")).await
}

fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials))
}

#[tokio::test]
async fn only_who_has_a_password_or_token_sees_more_than_health() {
    let folder = Folder::new("gate");
    let hash = bcrypt::hash("s3:cret", 4).unwrap();
    let users = Some(folder.write("users", &format!("prom:{hash}\n")));
    let tokens = Some(folder.write("tokens", "t0ken\n"));
    let vitals = Arc::new(Vitals::default());
    let refused = || vitals.listener_refused.get();
    let bearer = |token: &str| format!("authorization: bEaReR  {token}\r\n");
    for (users, tokens, password, token) in
        [(users.clone(), None, 200, 401), (None, tokens.clone(), 401, 200), (users, tokens, 200, 200)]
    {
        let settings = Settings { tls: None, basic_auth_file: users, bearer_token_file: tokens };
        let door = Door::open(&settings, &vitals).unwrap();
        let (address, _stop) = served(watch::channel(Arc::new(door)).1).await;
        for (header, status) in [
            (String::new(), 401),
            (basic("prom:s3:cret"), password),
            (basic("prom:s3:cret"), password),
            (basic("prom:s3"), 401),
            (basic("nobody:s3:cret"), 401),
            (basic("prom"), 401),
            ("Authorization: Basic ???\r\n".to_owned(), 401),
            ("Authorization: Digest a\r\n".to_owned(), 401),
            ("Authorization: Basic\r\n".to_owned(), 401),
            (bearer("t0ken"), token),
            (bearer("t0ke"), 401),
            (format!("{}{}", bearer("t0ken"), bearer("t0ken")), 401),
        ] {
            let before = refused();
            let answer = with_credentials(address, "/metrics", &header).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{header}: {answer}");
            assert_eq!(refused() - before, u64::from(status == 401));
            let challenges = ["Basic realm", "Bearer realm"].map(|it| answer.contains(&format!("authenticate: {it}")));
            let asked = [settings.basic_auth_file.is_some(), settings.bearer_token_file.is_some()];
            assert_eq!(challenges, if status == 401 { asked } else { [false; 2] });
        }
        for (path, status) in [
            ("/healthz", 200),
            ("/readyz", 503),
            ("/", 401),
            ("/api/v1/requests", 401),
            ("/api/v1/snapshot", 401),
            ("/nothing", 401),
        ] {
            let answer = ask(address, "GET", path, "*/*").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn tls_is_spoken_in_both_versions_and_nothing_else_is() {
    let (folder, authority) = (Folder::new("tls"), Authority::new());
    let (address, _stop) = served(doors(&authority.files(&folder, None))).await;
    for version in BOTH {
        let answer = get(&authority.client(&[version], None), address, "/metrics").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("tachograph_build_info"), "{version:?}");
    }
    assert!(greet(&Authority::new().client(&BOTH, None), address).await.is_err(), "somebody who trusts others");
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"));
}

#[tokio::test]
async fn where_certificates_are_asked_for_one_of_the_authority_lets_in() {
    let (folder, authority, clients) = (Folder::new("mtls"), Authority::new(), Authority::new());
    let (address, _stop) = served(doors(&authority.files(&folder, Some(&clients)))).await;
    for version in BOTH {
        let without = authority.client(&[version], None);
        assert!(get(&without, address, "/healthz").await.unwrap().contains(" 200 "));
        assert!(get(&without, address, "/metrics").await.unwrap().contains(" 403 "));
        let own = authority.client(&[version], Some(&clients));
        assert!(get(&own, address, "/metrics").await.unwrap().contains(" 200 "));
        let foreign = authority.client(&[version], Some(&Authority::new()));
        assert!(get(&foreign, address, "/healthz").await.is_err());
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let (folder, authority) = (Folder::new("renewed"), Authority::new());
    let (address, _stop) = served(doors(&authority.files(&folder, None))).await;
    let client = authority.client(&BOTH, None);
    let shown = async || {
        let stream = greet(&client, address).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let old = shown().await;
    authority.files(&folder, None);
    while shown().await == old {
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn a_handshake_that_is_not_ended_makes_room_for_the_next() {
    let (folder, authority) = (Folder::new("slow"), Authority::new());
    let patience = Patience { handshake: SHORT, idle: NEVER };
    let address = one_at_a_time(patience, doors(&authority.files(&folder, None))).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut tick = tokio::time::interval(SHORT / 10);
    while slow.write_all(&[0]).await.is_ok() {
        tick.tick().await;
    }
    assert!(get(&authority.client(&BOTH, None), address, "/healthz").await.unwrap().contains(" 200 "));
}

#[test]
fn files_that_cannot_be_used_are_named_by_their_setting() {
    let (folder, authority) = (Folder::new("bad"), Authority::new());
    let good = authority.files(&folder, None);
    let tls = good.tls.clone().unwrap();
    let [_, other_key] = authority.issue();
    let with = |tls| Settings { tls: Some(tls), ..Settings::default() };
    let text = folder.write("text", "no PEM");
    for (settings, says) in [
        (with(Tls { certificate: text.clone(), ..tls.clone() }), "serve.tls_cert_file: the certificate: no cert"),
        (with(Tls { key: text.clone(), ..tls.clone() }), "serve.tls_cert_file: the key: "),
        (with(Tls { key: folder.write("other", &other_key), ..tls.clone() }), "serve.tls_cert_file: "),
        (with(Tls { client_authorities: Some(text.clone()), ..tls.clone() }), "serve.tls_cert_file: the client CA: "),
        (with(Tls { certificate: folder.0.join("none"), ..tls }), "/none: No such file"),
        (Settings { basic_auth_file: Some(text), ..Settings::default() }, "serve.basic_auth_file: line 1 "),
        (Settings { bearer_token_file: Some(folder.write("empty", "")), ..Settings::default() }, "serve.bearer_token"),
    ] {
        let error = Door::open(&settings, &Arc::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    assert!(Door::open(&good, &Arc::default()).is_ok());
}
