//! The listener over real sockets.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::sample::busy;
use crate::serve::Site;
use crate::serve::door::Door;
use crate::serve::door::Doors;
use crate::serve::door::Settings;
use crate::serve::guests::Guests;
use crate::serve::guests::Patience;
use crate::serve::guests::Peer;
use crate::serve::routes;
use crate::serve::serve;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;

mod gate;

/// How the door stands when its settings are these.
fn doors(settings: &Settings) -> Doors {
    watch::channel(Arc::new(Door::open(settings, &Arc::default()).unwrap())).1
}

fn open() -> Doors {
    doors(&Settings::default())
}

fn site() -> Site {
    Site { reader: Arc::new(|| busy().snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 })), ready: Arc::default() }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends a whole request, and reads until the other side closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(address: SocketAddr, method: &str, path: &str, accept: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    exchange(address, &request).await
}

#[tokio::test]
async fn every_route_answers() {
    let (listener, address) = listener().await;
    let site = site();
    let ready = Arc::clone(&site.ready);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(listener, site, open(), stopped));
    for (method, path, accept, status, says) in [
        ("GET", "/", "*/*", 200, "/api/v1/snapshot"),
        ("GET", "/metrics", "*/*", 200, "content-type: text/plain; version=0.0.4"),
        ("GET", "/metrics", "application/openmetrics-text; version=1.0.0", 200, "\n# EOF\n"),
        ("GET", "/healthz", "*/*", 200, "ok"),
        ("GET", "/readyz", "*/*", 503, "not ready"),
        ("GET", "/api/v1/requests?limit=1", "*/*", 200, "\"returned\":1"),
        ("GET", "/api/v1/requests?limit=x", "*/*", 400, "\"key\":\"limit\""),
        ("GET", "/api/v1/snapshot", "*/*", 200, "\"targets\":[{"),
        ("HEAD", "/metrics", "*/*", 200, "content-length: "),
        ("GET", "/nothing", "*/*", 404, ""),
    ] {
        let answer = ask(address, method, path, accept).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert!(answer.contains(says), "{method} {path}: {answer}");
        assert!(method != "HEAD" || answer.ends_with("\r\n\r\n"), "no body");
    }
    ready.store(true, Ordering::Relaxed);
    assert!(ask(address, "GET", "/readyz", "*/*").await.contains(" 200 "));
    stop.send(true).unwrap();
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn nothing_can_be_written() {
    let (listener, address) = listener().await;
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, site(), open(), stopped));
    for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/requests", "/api/v1/snapshot"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "MADEUP"] {
            let answer = ask(address, method, path, "*/*").await;
            assert!(
                answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET,HEAD"),
                "{method} {path}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_http_or_too_long_is_turned_away() {
    let (listener, address) = listener().await;
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, site(), open(), stopped));
    assert!(exchange(address, "\u{0}\u{1}nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close while we still write.
    let _broken = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200 "));
}

/// Serves one guest at a time, with little patience.
async fn one_at_a_time(patience: Patience, doors: Doors) -> SocketAddr {
    let (listener, address) = listener().await;
    let guests = Guests::new(listener, 1, patience, doors.clone());
    let routes = routes(site(), doors).into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(guests, routes).await });
    address
}

const SHORT: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_hours(1);

#[tokio::test]
async fn an_idle_guest_makes_room_for_the_next() {
    let address = one_at_a_time(Patience { handshake: NEVER, idle: SHORT }, open()).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTT").await.unwrap();
    assert!(ask(address, "GET", "/healthz", "*/*").await.contains(" 200 "), "served when the first is cut");
}

#[tokio::test]
async fn a_guest_who_sends_slowly_is_cut_like_one_who_is_idle() {
    let address = one_at_a_time(Patience { handshake: NEVER, idle: SHORT }, open()).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
    let mut tick = tokio::time::interval(SHORT / 10);
    while slow.write_all(b"y").await.is_ok() {
        tick.tick().await;
    }
    assert!(ask(address, "GET", "/healthz", "*/*").await.contains(" 200 "));
}
