//! One message in, one attempt to deliver it, and what the collector made of it out.

use crate::clock::Clock as _;
use crate::clock::System;
use crate::export::otlp::retry::Again;
use crate::export::otlp::retry::Failure;
use crate::export::otlp::settings::Compression;
use crate::export::otlp::settings::Endpoint;
use crate::export::otlp::settings::Protocol;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use reqwest::header;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;
use tonic::Code;
use tonic::Extensions;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::Certificate;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Identity;

/// An answer is a few bytes; what is longer is not read.
const ANSWER_MAX: usize = 64 << 10;

/// What goes to the collector.
#[derive(Debug)]
pub enum Message {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Metrics.
    Metrics(ExportMetricsServiceRequest),
    /// Logs.
    Logs(ExportLogsServiceRequest),
}

/// What of an accepted message the collector refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partly {
    /// Spans, data points or log records.
    pub rejected: u64,
    /// Its reason, or its warning.
    pub why: String,
}

/// An endpoint that no transport can be made for.
#[derive(Debug, thiserror::Error)]
#[error("OTLP endpoint {url} cannot be used: {what}")]
pub struct Unusable {
    /// Where it should go.
    pub url: String,
    /// What is in the way.
    pub what: String,
}

/// A way to one collector.
#[derive(Debug)]
pub enum Transport {
    /// gRPC over HTTP/2.
    Grpc {
        /// Connects when it is used, and again after a break.
        channel: Channel,
        /// Headers.
        metadata: MetadataMap,
        /// How messages are packed.
        compression: Compression,
    },
    /// Protobuf over HTTP/1.1.
    Http {
        /// Connects when it is used, and keeps connections.
        client: reqwest::Client,
        /// Where.
        url: String,
        /// Headers.
        headers: header::HeaderMap,
        /// How messages are packed.
        compression: Compression,
    },
}

impl Transport {
    /// Reads the certificates and checks address and headers; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// What cannot be used, in words.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Unusable> {
        let made = match endpoint.protocol {
            Protocol::Grpc => Self::grpc(endpoint),
            Protocol::Http => Self::http(endpoint),
        };
        made.map_err(|what| Unusable { url: endpoint.url.clone(), what })
    }

    fn grpc(endpoint: &Endpoint) -> Result<Self, String> {
        let mut to = tonic::transport::Endpoint::from_shared(endpoint.url.clone()).map_err(|error| chain(&error))?;
        if endpoint.url.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            tls = match pem(endpoint.certificate.as_ref())? {
                Some(authorities) => tls.ca_certificate(Certificate::from_pem(authorities)),
                None => tls.with_enabled_roots(),
            };
            if let Some((certificate, key)) = client_pem(endpoint)? {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            to = to.tls_config(tls).map_err(|error| chain(&error))?;
        }
        let headers = header_map(endpoint)?;
        Ok(Self::Grpc {
            channel: to.connect_lazy(),
            metadata: MetadataMap::from_headers(headers),
            compression: endpoint.compression,
        })
    }

    fn http(endpoint: &Endpoint) -> Result<Self, String> {
        // The client looks for the process's provider also where it will never speak TLS; a provider
        // that is already installed is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if let Some(authorities) = pem(endpoint.certificate.as_ref())? {
            let authorities = reqwest::Certificate::from_pem_bundle(&authorities).map_err(|error| chain(&error))?;
            builder = builder.tls_certs_only(authorities);
        } else if endpoint.url.starts_with("http://") {
            // A host without certificates can still speak plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        if let Some((mut identity, key)) = client_pem(endpoint)? {
            identity.push(b'\n');
            identity.extend(key);
            let identity = reqwest::Identity::from_pem(&identity).map_err(|error| chain(&error))?;
            builder = builder.identity(identity);
        }
        reqwest::Url::parse(&endpoint.url).map_err(|error| chain(&error))?;
        let mut headers = header_map(endpoint)?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if endpoint.compression == Compression::Gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self::Http {
            client: builder.build().map_err(|error| chain(&error))?,
            url: endpoint.url.clone(),
            headers,
            compression: endpoint.compression,
        })
    }

    /// One attempt, without a limit of time.
    ///
    /// # Errors
    ///
    /// Why the message did not arrive, and whether another attempt makes sense.
    pub async fn send(&self, message: &Message) -> Result<Partly, Failure> {
        match self {
            Self::Grpc { channel, metadata, compression } => {
                send_grpc(channel.clone(), metadata.clone(), *compression, message).await
            }
            Self::Http { client, url, headers, compression } => {
                let body = packed(message, *compression)?;
                let request = client.post(url).headers(headers.clone()).body(body);
                let response = request.send().await.map_err(|error| later(chain(&error)))?;
                answer(response, message).await
            }
        }
    }
}

async fn send_grpc(
    channel: Channel,
    metadata: MetadataMap,
    compression: Compression,
    message: &Message,
) -> Result<Partly, Failure> {
    let gzip = (compression == Compression::Gzip).then_some(CompressionEncoding::Gzip);
    match message {
        Message::Traces(spans) => {
            let mut client = TraceServiceClient::new(channel);
            if let Some(gzip) = gzip {
                client = client.send_compressed(gzip);
            }
            let request = tonic::Request::from_parts(metadata, Extensions::default(), spans.clone());
            let response = client.export(request).await.map_err(|status| refused(&status))?;
            Ok(partly_spans(response.into_inner()))
        }
        Message::Metrics(metrics) => {
            let mut client = MetricsServiceClient::new(channel);
            if let Some(gzip) = gzip {
                client = client.send_compressed(gzip);
            }
            let request = tonic::Request::from_parts(metadata, Extensions::default(), metrics.clone());
            let response = client.export(request).await.map_err(|status| refused(&status))?;
            Ok(partly_points(response.into_inner()))
        }
        Message::Logs(logs) => {
            let mut client = LogsServiceClient::new(channel);
            if let Some(gzip) = gzip {
                client = client.send_compressed(gzip);
            }
            let request = tonic::Request::from_parts(metadata, Extensions::default(), logs.clone());
            let response = client.export(request).await.map_err(|status| refused(&status))?;
            Ok(partly_logs(response.into_inner()))
        }
    }
}

/// The codes that the OTLP specification calls retryable, and whatever went wrong on the way there.
fn refused(status: &tonic::Status) -> Failure {
    let on_the_way = std::error::Error::source(status).is_some();
    let again = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => retry_info(status.details()).map_or(Again::Later, Again::After),
        Code::ResourceExhausted => retry_info(status.details()).map_or(Again::Never, Again::After),
        _ if on_the_way => Again::Later,
        _ => Again::Never,
    };
    Failure { what: format!("gRPC {}: {}", status.code(), status.message()), again }
}

async fn answer(mut response: reqwest::Response, message: &Message) -> Result<Partly, Failure> {
    let status = response.status();
    if !status.is_success() {
        let again = match status.as_u16() {
            429 | 502 | 503 | 504 => retry_after(response.headers(), wall()).map_or(Again::Later, Again::After),
            _ => Again::Never,
        };
        return Err(Failure { what: format!("HTTP {status}"), again });
    }
    // The message has arrived; an answer that cannot be read does not undo that.
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            return Ok(Partly::default());
        }
    }
    Ok(match message {
        Message::Traces(_) => ExportTraceServiceResponse::decode(body.as_slice()).map(partly_spans),
        Message::Metrics(_) => ExportMetricsServiceResponse::decode(body.as_slice()).map(partly_points),
        Message::Logs(_) => ExportLogsServiceResponse::decode(body.as_slice()).map(partly_logs),
    }
    .unwrap_or_default())
}

fn partly_spans(response: ExportTraceServiceResponse) -> Partly {
    let partial = response.partial_success.unwrap_or_default();
    Partly { rejected: u64::try_from(partial.rejected_spans).unwrap_or(0), why: partial.error_message }
}

fn partly_points(response: ExportMetricsServiceResponse) -> Partly {
    let partial = response.partial_success.unwrap_or_default();
    Partly { rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0), why: partial.error_message }
}

fn partly_logs(response: ExportLogsServiceResponse) -> Partly {
    let partial = response.partial_success.unwrap_or_default();
    Partly { rejected: u64::try_from(partial.rejected_log_records).unwrap_or(0), why: partial.error_message }
}

fn packed(message: &Message, compression: Compression) -> Result<Vec<u8>, Failure> {
    let bytes = match message {
        Message::Traces(spans) => spans.encode_to_vec(),
        Message::Metrics(metrics) => metrics.encode_to_vec(),
        Message::Logs(logs) => logs.encode_to_vec(),
    };
    if compression == Compression::None {
        return Ok(bytes);
    }
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes)
        .and_then(|()| gzip.finish())
        .map_err(|error| Failure { what: chain(&error), again: Again::Never })
}

/// Seconds, or until a date on the collector's own clock; `ours` is taken where it does not tell it.
fn retry_after(headers: &header::HeaderMap, ours: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |name| httpdate::parse_http_date(text(name)?).ok();
    if let Ok(seconds) = text(header::RETRY_AFTER)?.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = date(header::DATE).unwrap_or(ours);
    Some(date(header::RETRY_AFTER)?.duration_since(now).unwrap_or_default())
}

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(System.anchor().unix_ns)
}

/// The delay of a `google.rpc.RetryInfo` among the details of a status.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = rpc::Status::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = rpc::RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(delay.seconds).unwrap_or(0), u32::try_from(delay.nanos).unwrap_or(0)))
}

/// The few messages of `google.rpc` that stand in the details of a gRPC status.
mod rpc {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(message, repeated, tag = "3")]
        pub(super) details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        pub(super) retry_delay: Option<Delay>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Delay {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
}

fn later(what: String) -> Failure {
    Failure { what, again: Again::Later }
}

fn header_map(endpoint: &Endpoint) -> Result<header::HeaderMap, String> {
    let mut map = header::HeaderMap::new();
    for (name, value) in &endpoint.headers.0 {
        let key: HeaderName = name.parse().map_err(|_bad| format!("`{name}` is no header name"))?;
        let mut value: HeaderValue = value.parse().map_err(|_bad| format!("header `{name}` has a forbidden value"))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    let agent = HeaderValue::from_static(concat!("tachograph/", env!("CARGO_PKG_VERSION")));
    map.entry(header::USER_AGENT).or_insert(agent);
    Ok(map)
}

fn pem(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    path.map(read).transpose()
}

/// Our own certificate and its key, both as PEM.
type ClientPem = (Vec<u8>, Vec<u8>);

fn client_pem(endpoint: &Endpoint) -> Result<Option<ClientPem>, String> {
    let Some((certificate, key)) = &endpoint.client else { return Ok(None) };
    Ok(pem(Some(certificate))?.zip(pem(Some(key))?))
}

/// An error with all of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::settings::Headers;

    #[test]
    fn a_refusal_is_told_from_a_delay() {
        let info = rpc::RetryInfo { retry_delay: Some(rpc::Delay { seconds: 2, nanos: 500_000_000 }) };
        let any =
            rpc::Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: info.encode_to_vec() };
        let details = rpc::Status { details: vec![any] }.encode_to_vec();
        let after = Again::After(Duration::from_millis(2_500));
        for (code, with, again) in [
            (Code::Unavailable, false, Again::Later),
            (Code::Unavailable, true, after),
            (Code::ResourceExhausted, false, Again::Never),
            (Code::ResourceExhausted, true, after),
            (Code::DeadlineExceeded, false, Again::Later),
            (Code::InvalidArgument, true, Again::Never),
            (Code::Unauthenticated, false, Again::Never),
            (Code::Unimplemented, false, Again::Never),
        ] {
            let details = if with { details.clone() } else { b"\xff".to_vec() };
            let status = tonic::Status::with_details(code, "", details.into());
            assert_eq!(refused(&status).again, again, "{code:?} {with}");
        }
    }

    #[test]
    fn a_delay_is_seconds_or_a_date() {
        let ours = httpdate::parse_http_date("Fri, 27 Nov 2026 10:00:00 GMT").unwrap();
        let (later, date) = ("Fri, 27 Nov 2026 10:02:00 GMT", "Fri, 27 Nov 2026 10:01:30 GMT");
        for (after, date, expected) in [
            ("120", None, Some(120)),
            (" 0 ", Some(date), Some(0)),
            (later, None, Some(120)),
            (later, Some(date), Some(30)),
            (later, Some("no date"), Some(120)),
            ("Friday, 27-Nov-26 10:02:00 GMT", None, Some(120)),
            ("Thu, 26 Nov 2026 10:00:00 GMT", None, Some(0)),
            ("-1", None, None),
            ("soon", Some(date), None),
        ] {
            let pairs = [(header::RETRY_AFTER, Some(after)), (header::DATE, date)];
            let headers = pairs.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_static(value?))));
            let found = retry_after(&headers.collect(), ours);
            assert_eq!(found, expected.map(Duration::from_secs), "{after} at {date:?}");
        }
        assert_eq!(retry_after(&header::HeaderMap::new(), ours), None);
    }

    #[test]
    fn headers_are_checked_and_hidden() {
        let endpoint = |headers: &[(&str, &str)]| Endpoint {
            url: "http://c".to_owned(),
            protocol: Protocol::Http,
            headers: Headers(headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            compression: Compression::None,
            timeout: Duration::from_secs(1),
            certificate: None,
            client: None,
        };
        let map = header_map(&endpoint(&[("authorization", "s3cret")])).unwrap();
        assert!(!format!("{map:?}").contains("s3cret"));
        assert!(header_map(&endpoint(&[("a b", "c")])).is_err());
        let bad = header_map(&endpoint(&[("a", "s3cret\n")])).unwrap_err();
        assert!(!bad.contains("s3cret"));
    }
}
