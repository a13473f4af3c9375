//! Scrapes against a server in this process that answers whatever bytes the test wants.

use super::*;
use crate::clock::System;
use crate::ident::ProcessId;
use std::net::SocketAddr;
use std::sync::mpsc;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

const ENGINE: EngineId = EngineId(ProcessId { pid: Pid(7), start_ticks: 1 });
const PAGE: &str = "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 3.0\n";

/// What the server does after it has read a request's head.
#[derive(Clone)]
enum Answer {
    Bytes(String),
    Silence,
}

async fn server(answer: Answer) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            drop(heads.send(String::from_utf8_lossy(&head[..length]).into_owned()));
            match &answer {
                Answer::Bytes(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
                Answer::Silence => std::future::pending().await,
            }
        }
    });
    (address, seen)
}

fn answer(status: &str, headers: &str, body: &str) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

async fn scrape_with(config: Config, answer: Answer) -> Result<Sample, Error> {
    let (address, _seen) = server(answer).await;
    let url = Url::parse(&format!("http://{address}/metrics")).unwrap();
    Scraper::new(config).unwrap().scrape(ENGINE, url, &System).await
}

async fn scrape(answer: Answer) -> Result<Sample, Error> {
    scrape_with(Config::default(), answer).await
}

#[tokio::test]
async fn a_page_becomes_a_sample() {
    for content_type in ["content-type: text/plain; version=0.0.4\r\n", "content-type: application/json\r\n", ""] {
        let sample = scrape(answer("200 OK", content_type, PAGE)).await.unwrap();
        assert_eq!((sample.dialect, sample.running), ("vllm", Some(3.0)));
        assert_eq!(sample.waiting, None, "what is not on the page is unknown");
        assert_eq!(sample.models, ["tiny"]);
        assert!(sample.asked <= sample.at);
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    let openmetrics = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    let html = "<html>\n<body>\n</body>\n</html>\n";
    for (what, answer, expected) in [
        ("server error", answer("500 Internal Server Error", "", PAGE), Error::Status(500)),
        ("redirect", answer("302 Found", "location: http://127.0.0.1:1/\r\n", PAGE), Error::Status(302)),
        ("no page", answer("404 Not Found", "", ""), Error::Closed),
        ("key", answer("401 Unauthorized", "", ""), Error::Key(401)),
        ("wrong key", answer("403 Forbidden", "", ""), Error::Key(403)),
        ("no content", answer("204 No Content", "", ""), Error::Status(204)),
        ("web page", answer("200 OK", "content-type: text/html\r\n", html), Error::NoGauges { bad_lines: 4 }),
        ("empty", answer("200 OK", "", ""), Error::NoGauges { bad_lines: 0 }),
        ("other metrics", answer("200 OK", "", "up 1\n"), Error::NoGauges { bad_lines: 0 }),
        ("cut at a line", answer("200 OK", openmetrics, PAGE), Error::Cut),
    ] {
        assert_eq!(scrape(answer).await, Err(expected), "{what}");
    }
}

#[tokio::test]
async fn a_body_shorter_than_promised_is_no_page() {
    let short = Answer::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{PAGE}"));
    assert!(matches!(scrape(short).await, Err(Error::Http(_))));
    assert!(matches!(scrape(Answer::Bytes("SSH-2.0-x\r\n".to_owned())).await, Err(Error::Http(_))));
}

#[tokio::test]
async fn size_and_time_have_caps() {
    let config = || Config { max_bytes: PAGE.len(), timeout: Duration::from_millis(50), ..Config::default() };
    let twice = PAGE.repeat(2);
    let chunked =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{twice}\r\n0\r\n\r\n", twice.len());
    let too_large = Err(Error::TooLarge(PAGE.len()));
    assert_eq!(scrape_with(config(), answer("200 OK", "", &twice)).await, too_large);
    assert_eq!(scrape_with(config(), Answer::Bytes(chunked)).await, too_large);
    assert_eq!(scrape_with(config(), Answer::Silence).await, Err(Error::Timeout(Duration::from_millis(50))));
}

#[tokio::test]
async fn both_formats_are_asked_for_and_the_agent_gives_its_name() {
    let (address, seen) = server(answer("200 OK", "", PAGE)).await;
    let url = Url::parse(&format!("http://{address}/metrics")).unwrap();
    Scraper::new(Config::default()).unwrap().scrape(ENGINE, url, &System).await.unwrap();
    let head = seen.recv().unwrap();
    for part in ["GET /metrics HTTP/1.1", "text/plain;version=0.0.4", "application/openmetrics-text", USER_AGENT] {
        assert!(head.contains(part), "{part} in {head}");
    }
}

fn target(pid: u32, pages: &[String]) -> Target {
    let engine = EngineId(ProcessId { pid: Pid(pid), start_ticks: 1 });
    let pages = pages.iter().map(|page| Url::parse(page).unwrap()).collect();
    let words = "vllm serve m --dtype half".split(' ').map(str::to_owned).collect();
    Target { engine, pages, network: None, words }
}

/// A server that answers each path with what stands for it, and 404 to others.
async fn pages(pages: &'static [(&str, &str, &str)]) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let asked = pages.iter().find(|(path, ..)| head.starts_with(&format!("GET {path} ")));
            let (_, status, body) = asked.copied().unwrap_or(("", "404 Not Found", "{}"));
            drop(heads.send(head));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

async fn ask(config: Config, target: Target, rounds: usize) -> Outcome {
    let scraper = Scraper::new(config).unwrap();
    let mut known = Known::default();
    for _ in 1..rounds {
        known = scraper.ask(target.clone(), known, Arc::new(System)).await.1;
    }
    scraper.ask(target, known, Arc::new(System)).await.0
}

#[tokio::test]
async fn facts_come_with_the_page_and_each_has_its_reason_where_it_does_not() {
    let (address, _seen) = pages(&[
        ("/metrics", "200 OK", PAGE),
        ("/v1/models", "401 Unauthorized", ""),
        ("/version", "200 OK", r#"{"version":"9.9"}"#),
    ])
    .await;
    let outcome = ask(Config::default(), target(7, &[format!("http://{address}/metrics")]), 1).await;
    assert!(outcome.scraped.is_ok());
    let Facts { version, models, flags, missing } = &*outcome.facts;
    assert_eq!((version.as_deref(), models[0].id.as_str(), flags["dtype"].as_str()), (Some("9.9"), "m", "half"));
    assert!(missing["models"].contains("API key") && !missing.contains_key("version"), "{missing:?}");
}

/// A server that is about to begin is asked for facts when it first answers, not a minute later.
#[tokio::test]
async fn a_silent_server_is_not_asked_for_facts() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = ask(Config::default(), target(7, &[format!("http://{free}/metrics")]), 1).await;
    assert!(matches!(outcome.scraped, Err(Error::Http(_))));
    assert!(outcome.facts.missing.is_empty(), "nobody said no: {:?}", outcome.facts.missing);
    let (address, _seen) =
        pages(&[("/metrics", "404 Not Found", ""), ("/version", "200 OK", r#"{"version":"9"}"#)]).await;
    let outcome = ask(Config::default(), target(7, &[format!("http://{address}/metrics")]), 2).await;
    assert_eq!((outcome.scraped, outcome.facts.version.as_deref()), (Err(Error::Closed), Some("9")));
}

#[tokio::test]
async fn the_page_is_looked_for_where_it_may_be() {
    let (address, _seen) = pages(&[("/metrics", "200 OK", "[{}]"), ("/prometheus/metrics", "200 OK", PAGE)]).await;
    let places = ["/metrics", "/v1/metrics", "/prometheus/metrics"].map(|path| format!("http://{address}{path}"));
    let found = |rounds| ask(Config::default(), target(7, &places), rounds);
    assert_eq!(found(1).await.scraped, Err(Error::NoGauges { bad_lines: 1 }));
    assert_eq!(found(2).await.scraped, Err(Error::Closed));
    assert!(found(3).await.scraped.is_ok() && found(9).await.scraped.is_ok(), "and is kept");
}

/// Where it answers and where it might answer are asked in turn; what is told is what it said.
#[tokio::test]
async fn a_refusal_tells_more_than_a_silent_place() {
    let (address, _seen) = pages(&[]).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let places = [free, address].map(|address| format!("http://{address}/metrics"));
    assert!(matches!(ask(Config::default(), target(7, &places), 1).await.scraped, Err(Error::Http(_))));
    for rounds in 2..6 {
        let outcome = ask(Config::default(), target(7, &places), rounds).await;
        assert_eq!((outcome.scraped, outcome.url), (Err(Error::Closed), Some(places[1].clone())));
    }
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let (address, seen) = pages(&[("/metrics", "200 OK", PAGE)]).await;
    let config = Config { api_key: Some(Secret("k3y".to_owned())), ..Config::default() };
    assert!(!format!("{config:?}").contains("k3y"));
    ask(config, target(7, &[format!("http://{address}/metrics")]), 1).await;
    assert!(seen.recv().unwrap().contains("authorization: Bearer k3y"));
}

#[tokio::test]
async fn an_engine_without_a_port_or_a_namespace_says_so() {
    assert_eq!(ask(Config::default(), target(7, &[]), 1).await.scraped, Err(Error::NoPort));
    let gone = Target { network: Some(Pid(u32::MAX)), ..target(7, &["http://127.0.0.1:1/metrics".to_owned()]) };
    let outcome = ask(Config::default(), gone, 1).await;
    assert!(matches!(outcome.scraped, Err(Error::Network(_))), "{outcome:?}");
    assert_eq!(outcome.facts.flags["dtype"], "half", "what the command line says is known all the same");
}

#[tokio::test]
async fn one_silent_engine_does_not_cost_another_its_sample() {
    let url = |address| format!("http://{address}/metrics");
    let silent = target(8, &[url(server(Answer::Silence).await.0)]);
    let speaks = target(7, &[url(server(answer("200 OK", "", PAGE)).await.0)]);
    let (silent_id, id) = (silent.engine, speaks.engine);
    let (publish, targets) = watch::channel(vec![silent, speaks]);
    let (results, seen) = mpsc::channel();
    let config = Config { timeout: Duration::from_millis(100), period: Duration::from_millis(1), ..Config::default() };
    let sink = move |outcome: Outcome| results.send((outcome.engine, outcome.scraped.is_ok())).unwrap_or_default();
    let running = tokio::spawn(run(config, targets, Arc::new(System), sink));
    let first_round = tokio::task::spawn_blocking(move || [seen.recv().unwrap(), seen.recv().unwrap()]).await.unwrap();
    assert_eq!(first_round, [(id, true), (silent_id, false)]);
    drop(publish);
    running.await.unwrap();
}
