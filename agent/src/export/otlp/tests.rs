//! The export against collectors that take, refuse, hang, or are not there.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::Finished;
use crate::correlate::Request;
use crate::correlate::Update;
use crate::correlate::sample::ANCHOR;
use crate::correlate::sample::busy;
use crate::correlate::sample::streamed;
use crate::export::otlp::Exporter;
use crate::export::otlp::llm::Calls;
use crate::export::otlp::queue::weight;
use crate::export::otlp::retry::Policy;
use crate::export::otlp::settings::Compression;
use crate::export::otlp::settings::Endpoint;
use crate::export::otlp::settings::Headers;
use crate::export::otlp::settings::Protocol;
use crate::export::otlp::settings::Settings;
use crate::export::otlp::share::Shares;
use crate::vitals::Vitals;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use prost::Message as _;
use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;

/// What a fake collector answers, the last for ever, and what it got.
#[derive(Default)]
struct Collector {
    answers: Mutex<VecDeque<(u16, Vec<u8>)>>,
    got: Mutex<Vec<(Uri, HeaderMap, Bytes)>>,
}

impl Collector {
    async fn start(answers: &[(u16, Vec<u8>)]) -> (Arc<Self>, String) {
        let collector = Arc::new(Self { answers: Mutex::new(answers.to_vec().into()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(Self::answer).with_state(Arc::clone(&collector));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    #[expect(clippy::unused_async, reason = "a handler is async")]
    async fn answer(
        State(collector): State<Arc<Self>>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, &'static str); 1], Vec<u8>) {
        collector.got.lock().unwrap().push((uri, headers, body));
        let mut answers = collector.answers.lock().unwrap();
        let (status, body) = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap();
        (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], body)
    }

    fn got(&self) -> Vec<(Uri, HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }
}

fn settings(url: &str, protocol: Protocol) -> Settings {
    let endpoint = Endpoint {
        url: url.to_owned(),
        protocol,
        headers: Headers(vec![("x-tenant".to_owned(), "a".to_owned())]),
        compression: Compression::None,
        timeout: Duration::from_mins(1),
        certificate: None,
        client: None,
    };
    Settings {
        traces: Some(endpoint),
        metrics: None,
        logs: None,
        resource: vec![("service.name".to_owned(), "test".to_owned())],
        llm_calls: Calls::default(),
        log_shares: Shares::default(),
        queue_bytes: 1 << 20,
        interval: Duration::from_hours(1),
        linger: Duration::from_millis(1),
        flush: Duration::from_mins(1),
        retry: Policy {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            attempts: 3,
            patience: Duration::from_mins(1),
        },
    }
}

fn start(settings: &Settings) -> (Exporter, Arc<Vitals>) {
    let vitals = Arc::new(Vitals::default());
    let reader = Arc::new(|| busy().snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 }));
    (Exporter::start(settings, &vitals, reader).unwrap(), vitals)
}

fn finished(request: Request) -> Arc<Finished> {
    busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0)
}

/// Spans of one [`streamed`] request: itself and six phases.
const SPANS: u64 = 7;

/// Sends `requests` and ends; sent, dropped and failed attempts.
async fn outcome(settings: &Settings, requests: usize) -> (u64, u64, u64) {
    let (exporter, vitals) = start(settings);
    for _ in 0..requests {
        exporter.offer(&finished(streamed(1)));
    }
    exporter.shutdown().await;
    (vitals.spans_sent.get(), vitals.spans_dropped.get(), vitals.export_failures.get())
}

#[tokio::test]
async fn what_is_taken_arrives_whole() {
    let (collector, url) = Collector::start(&[(200, Vec::new())]).await;
    assert_eq!(outcome(&settings(&format!("{url}/v1/traces"), Protocol::Http), 3).await, (3 * SPANS, 0, 0));
    let mut spans = 0;
    for (uri, headers, body) in collector.got() {
        assert_eq!((uri.path(), headers["x-tenant"].as_bytes()), ("/v1/traces", "a".as_bytes()));
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let message = ExportTraceServiceRequest::decode(body).unwrap();
        assert_eq!(message.resource_spans[0].resource.as_ref().unwrap().attributes[0].key, "service.name");
        spans += message.resource_spans[0].scope_spans[0].spans.len() as u64;
    }
    assert_eq!(spans, 3 * SPANS);
}

#[tokio::test]
async fn compression_packs_the_same_bytes() {
    let (collector, url) = Collector::start(&[(200, Vec::new())]).await;
    let mut settings = settings(&url, Protocol::Http);
    settings.traces.as_mut().unwrap().compression = Compression::Gzip;
    assert_eq!(outcome(&settings, 1).await, (SPANS, 0, 0));
    let (_, headers, body) = collector.got().remove(0);
    assert_eq!(headers["content-encoding"], "gzip");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut bytes).unwrap();
    assert_eq!(ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap().resource_spans.len(), 1);
}

#[tokio::test]
async fn a_busy_collector_is_asked_again() {
    let (collector, url) = Collector::start(&[(503, Vec::new()), (429, Vec::new()), (200, Vec::new())]).await;
    assert_eq!(outcome(&settings(&url, Protocol::Http), 1).await, (SPANS, 0, 2));
    let bodies: Vec<Bytes> = collector.got().into_iter().map(|(_, _, body)| body).collect();
    assert!(bodies.len() == 3 && bodies.windows(2).all(|two| two[0] == two[1]), "the same message each time");
}

#[tokio::test]
async fn a_collector_that_stays_busy_is_given_up_and_counted() {
    let (collector, url) = Collector::start(&[(503, Vec::new())]).await;
    assert_eq!(outcome(&settings(&url, Protocol::Http), 1).await, (0, SPANS, 3));
    assert_eq!(collector.got().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let (collector, url) = Collector::start(&[(400, Vec::new())]).await;
    assert_eq!(outcome(&settings(&url, Protocol::Http), 1).await, (0, SPANS, 1));
    assert_eq!(collector.got().len(), 1);
}

#[tokio::test]
async fn spans_that_the_collector_refuses_are_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let (_collector, url) = Collector::start(&[(200, body)]).await;
    assert_eq!(outcome(&settings(&url, Protocol::Http), 1).await, (SPANS - 2, 2, 0));
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_arrival() {
    let (_collector, url) = Collector::start(&[(200, vec![0xff; 100_000])]).await;
    assert_eq!(outcome(&settings(&url, Protocol::Http), 1).await, (SPANS, 0, 0));
}

#[tokio::test]
async fn nobody_there_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for protocol in [Protocol::Http, Protocol::Grpc] {
        assert_eq!(outcome(&settings(&url, protocol), 2).await.1, 2 * SPANS, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_holds_a_bounded_queue() {
    // Accepts by the backlog alone and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let mut settings = settings(&url, protocol);
        settings.traces.as_mut().unwrap().timeout = Duration::from_millis(20);
        settings.queue_bytes = 20 * weight(&finished(streamed(1)));
        let (exporter, vitals) = start(&settings);
        for _ in 0..100 {
            exporter.offer(&finished(streamed(1)));
            assert!(exporter.spans.as_ref().unwrap().bytes() <= settings.queue_bytes);
            tokio::task::yield_now().await;
        }
        assert!(vitals.spans_dropped.get() >= 80 * SPANS, "what found no room is counted at once");
        exporter.shutdown().await;
        assert_eq!((vitals.spans_sent.get(), vitals.spans_dropped.get()), (0, 100 * SPANS), "{protocol:?}");
    }
}

#[tokio::test]
async fn the_end_waits_for_no_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("http://{}", listener.local_addr().unwrap()), Protocol::Http);
    settings.flush = Duration::from_millis(50);
    assert_eq!(outcome(&settings, 3).await, (0, 3 * SPANS, 0), "what was under way is counted too");
}

#[tokio::test]
async fn callers_that_do_not_sample_get_no_span() {
    let (collector, url) = Collector::start(&[(200, Vec::new())]).await;
    let (exporter, vitals) = start(&settings(&url, Protocol::Http));
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".to_owned());
    exporter.offer(&finished(Request { traceparent, ..streamed(1) }));
    exporter.shutdown().await;
    assert_eq!((collector.got().len(), vitals.spans_sent.get(), vitals.spans_dropped.get()), (0, 0, 0));
}

/// A gRPC collector that is first not ready, and then refuses one span of what it takes.
#[derive(Default)]
struct Grpc {
    got: Arc<Mutex<Vec<(MetadataMap, ExportTraceServiceRequest)>>>,
}

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let (metadata, _, message) = request.into_parts();
        let mut got = self.got.lock().unwrap();
        got.push((metadata, message));
        if got.len() == 1 {
            return Err(tonic::Status::unavailable("starting"));
        }
        let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: String::new() };
        Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

#[tokio::test]
async fn grpc_does_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("http://{}", listener.local_addr().unwrap()), Protocol::Grpc);
    settings.traces.as_mut().unwrap().compression = Compression::Gzip;
    let collector = Grpc::default();
    let got = Arc::clone(&collector.got);
    let service = TraceServiceServer::new(collector).accept_compressed(CompressionEncoding::Gzip);
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
    assert_eq!(outcome(&settings, 1).await, (SPANS - 1, 1, 1));
    let got = got.lock().unwrap();
    let [(_, first), (metadata, second)] = got.as_slice() else { panic!("{} attempts", got.len()) };
    assert_eq!(first, second, "the same message each time");
    let header = |name| metadata.get(name).unwrap().to_str().unwrap();
    assert_eq!((header("x-tenant"), header("grpc-encoding")), ("a", "gzip"));
    assert_eq!(second.resource_spans[0].scope_spans[0].spans.len() as u64, SPANS);
}

#[tokio::test]
async fn metrics_are_pushed_at_the_end_too() {
    let (collector, url) = Collector::start(&[(200, Vec::new())]).await;
    let mut settings = settings(&url, Protocol::Http);
    settings.metrics = settings.traces.take();
    let (exporter, _vitals) = start(&settings);
    exporter.offer(&finished(streamed(1)));
    exporter.shutdown().await;
    let (_, _, body) = collector.got().remove(0);
    let message = ExportMetricsServiceRequest::decode(body).unwrap();
    let metrics = &message.resource_metrics[0].scope_metrics[0].metrics;
    assert!(metrics.iter().any(|metric| metric.name == "gen_ai.server.request.duration"));
}
