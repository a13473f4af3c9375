//! Scrapes against a server in this process that answers whatever bytes the test wants.

use super::*;
use crate::clock::System;
use crate::ident::Pid;
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

async fn scrape_with(config: Config, answer: Answer) -> Result<Scraped, Error> {
    let (address, _seen) = server(answer).await;
    let url = Url::parse(&format!("http://{address}/metrics")).unwrap();
    Scraper::new(config).unwrap().scrape(ENGINE, url, &System).await
}

async fn scrape(answer: Answer) -> Result<Scraped, Error> {
    scrape_with(Config::default(), answer).await
}

#[tokio::test]
async fn a_page_becomes_a_sample() {
    for content_type in ["content-type: text/plain; version=0.0.4\r\n", "content-type: application/json\r\n", ""] {
        let scraped = scrape(answer("200 OK", content_type, PAGE)).await.unwrap();
        assert_eq!((scraped.dialect, scraped.bad_lines), ("vllm", 0));
        assert_eq!(scraped.sample.running, Some(3.0));
        assert_eq!(scraped.sample.waiting, None, "what is not on the page is unknown");
        assert_eq!(scraped.sample.models, ["tiny"]);
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    let openmetrics = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    let html = "<html>\n<body>\n</body>\n</html>\n";
    for (what, answer, expected) in [
        ("server error", answer("500 Internal Server Error", "", PAGE), Error::Status(500)),
        ("redirect", answer("302 Found", "location: http://127.0.0.1:1/\r\n", PAGE), Error::Status(302)),
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

#[tokio::test]
async fn one_silent_engine_does_not_cost_another_its_sample() {
    let silent = EngineId(ProcessId { pid: Pid(8), start_ticks: 1 });
    let targets = [(silent, server(Answer::Silence).await.0), (ENGINE, server(answer("200 OK", "", PAGE)).await.0)];
    let urls = targets.map(|(engine, address)| (engine, Url::parse(&format!("http://{address}/metrics")).unwrap()));
    let (publish, targets) = watch::channel(urls.to_vec());
    let (results, seen) = mpsc::channel();
    let config = Config { timeout: Duration::from_millis(100), period: Duration::from_millis(1), ..Config::default() };
    let sink = move |engine, result: Result<Scraped, Error>| results.send((engine, result.is_ok())).unwrap_or_default();
    let running = tokio::spawn(run(config, targets, Arc::new(System), sink));
    let first_round = tokio::task::spawn_blocking(move || [seen.recv().unwrap(), seen.recv().unwrap()]).await.unwrap();
    assert_eq!(first_round, [(ENGINE, true), (silent, false)]);
    drop(publish);
    running.await.unwrap();
}
