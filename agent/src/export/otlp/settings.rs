//! Our own settings and the standard `OTEL_*` variables in, one endpoint for each signal out.

use crate::export::otlp::llm::Calls;
use crate::export::otlp::retry::Policy;
use crate::export::otlp::share::Shares;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes that each queue holds at most, unless set.
pub const QUEUE_BYTES: usize = 16 << 20;

/// Between two pushes of metrics, unless set.
pub const INTERVAL: Duration = Duration::from_secs(15);

/// How long a span or a log waits for others to make a batch with.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long the end of the agent waits for what is still queued.
pub const FLUSH: Duration = Duration::from_secs(5);

/// What the standard prescribes where no timeout is set.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How to speak to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, usually port 4317.
    Grpc,
    /// Protobuf over HTTP, usually port 4318.
    Http,
}

/// How messages are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Logs.
    Logs,
}

impl Signal {
    const fn variable(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

/// Headers for every request; their values may be secrets and are never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// One collector for one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where: the whole URL over HTTP, scheme and authority for gRPC.
    pub url: String,
    /// How.
    pub protocol: Protocol,
    /// With which headers.
    pub headers: Headers,
    /// How messages are packed.
    pub compression: Compression,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// PEM file of the authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// All of the export.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Endpoint>,
    /// Where metrics go; `None`: nowhere.
    pub metrics: Option<Endpoint>,
    /// Where logs go; `None`: nowhere.
    pub logs: Option<Endpoint>,
    /// What is true of everything we send.
    pub resource: Vec<(String, String)>,
    /// Which spans viewers of LLM calls shall take for one.
    pub llm_calls: Calls,
    /// Which requests have a log.
    pub log_shares: Shares,
    /// Bytes that the queue of spans holds at most, and as many that of logs.
    pub queue_bytes: usize,
    /// Between two pushes of metrics.
    pub interval: Duration,
    /// How long a span or a log waits for others.
    pub linger: Duration,
    /// How long the end of the agent waits.
    pub flush: Duration,
    /// How long to try.
    pub retry: Policy,
}

/// The collector as one source of our own settings names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    /// A URL; over HTTP, `/v1/traces`, `/v1/metrics` and `/v1/logs` are added to it.
    pub endpoint: Option<String>,
    /// `grpc` or `http/protobuf`.
    pub protocol: Option<String>,
    /// `name=value,name=value`, values percent-encoded.
    pub headers: Option<String>,
    /// `gzip` or `none`.
    pub compression: Option<String>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct Bad {
    /// The setting or the variable.
    pub setting: String,
    /// What is wrong with it.
    pub what: String,
}

/// Where a value may come from: what stands in `above` wins over the variables of `env`, and those over
/// what stands in `below`.
pub struct Sources<'a> {
    /// Flags and our own variables.
    pub above: &'a Partial,
    /// The environment; an empty value counts as none.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The file.
    pub below: &'a Partial,
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// A value and the name of what it was set by.
struct Found {
    value: String,
    setting: String,
    for_signal: bool,
}

impl Found {
    fn bad(&self, what: impl Into<String>) -> Bad {
        Bad { setting: self.setting.clone(), what: what.into() }
    }
}

impl Sources<'_> {
    /// The collector for a signal, or none where nothing names one.
    ///
    /// # Errors
    ///
    /// The first value that cannot be read.
    pub fn endpoint(&self, signal: Signal) -> Result<Option<Endpoint>, Bad> {
        let off = |name: &str, word: &str| self.variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        if off("OTEL_SDK_DISABLED", "true") || off(&format!("OTEL_{}_EXPORTER", signal.variable()), "none") {
            return Ok(None);
        }
        let Some(address) = self.find(signal, "ENDPOINT", |own| own.endpoint.as_ref()) else { return Ok(None) };
        let protocol = match self.find(signal, "PROTOCOL", |own| own.protocol.as_ref()) {
            None => Protocol::Http,
            Some(found) => match found.value.as_str() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::Http,
                other => return Err(found.bad(format!("`{other}` is neither grpc nor http/protobuf"))),
            },
        };
        let compression = match self.find(signal, "COMPRESSION", |own| own.compression.as_ref()) {
            None => Compression::None,
            Some(found) => match found.value.as_str() {
                "gzip" => Compression::Gzip,
                "none" => Compression::None,
                other => return Err(found.bad(format!("`{other}` is neither gzip nor none"))),
            },
        };
        let headers = match self.find(signal, "HEADERS", |own| own.headers.as_ref()) {
            None => Headers::default(),
            Some(found) => Headers(pairs(&found.value).map_err(|what| found.bad(what))?),
        };
        let file = |key: &str| self.standard(signal, key).map(|found| PathBuf::from(found.value));
        Ok(Some(Endpoint {
            url: self.url(signal, protocol, &address)?,
            protocol,
            headers,
            compression,
            timeout: self.timeout(signal)?,
            certificate: file("CERTIFICATE"),
            client: file("CLIENT_CERTIFICATE").zip(file("CLIENT_KEY")),
        }))
    }

    /// What is true of everything we send.
    ///
    /// # Errors
    ///
    /// A list of attributes that cannot be read.
    pub fn resource(&self, host: &str) -> Result<Vec<(String, String)>, Bad> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let given = pairs(&self.variable(ATTRIBUTES).unwrap_or_default())
            .map_err(|what| Bad { setting: ATTRIBUTES.to_owned(), what })?;
        let mut resource = vec![
            ("service.name".to_owned(), "tachograph".to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("host.name".to_owned(), host.to_owned()),
        ];
        let named = self.variable("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
        for (key, value) in given.into_iter().chain(named) {
            resource.retain(|(known, _)| *known != key);
            resource.push((key, value));
        }
        Ok(resource)
    }

    fn url(&self, signal: Signal, protocol: Protocol, address: &Found) -> Result<String, Bad> {
        let value = address.value.trim_end_matches('/');
        match (protocol, value.split_once("://")) {
            (Protocol::Http, Some(("http" | "https", _))) => {
                Ok(if address.for_signal { address.value.clone() } else { format!("{value}{}", signal.path()) })
            }
            (Protocol::Grpc, Some(("http" | "https", _))) => Ok(value.to_owned()),
            (Protocol::Grpc, None) => {
                let insecure = self.standard(signal, "INSECURE").is_some_and(|f| f.value.eq_ignore_ascii_case("true"));
                Ok(format!("{}://{value}", if insecure { "http" } else { "https" }))
            }
            (_, _) => Err(address.bad(format!("`{}` does not begin with http:// or https://", address.value))),
        }
    }

    fn timeout(&self, signal: Signal) -> Result<Duration, Bad> {
        if let Some(own) = self.above.timeout {
            return Ok(own);
        }
        let Some(found) = self.standard(signal, "TIMEOUT") else { return Ok(self.below.timeout.unwrap_or(TIMEOUT)) };
        match found.value.parse() {
            Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
            _ => Err(found.bad(format!("`{}` is no number of milliseconds above 0", found.value))),
        }
    }

    /// The first source that has a value.
    fn find(&self, signal: Signal, key: &str, own: fn(&Partial) -> Option<&String>) -> Option<Found> {
        let ours = |partial| {
            let value: &String = own(partial)?;
            Some(Found { value: value.clone(), setting: format!("otlp.{}", key.to_lowercase()), for_signal: false })
        };
        ours(self.above).or_else(|| self.standard(signal, key)).or_else(|| ours(self.below))
    }

    /// The variable of the signal, else that of all signals.
    fn standard(&self, signal: Signal, key: &str) -> Option<Found> {
        let read = |setting: String, for_signal| Some(Found { value: self.variable(&setting)?, setting, for_signal });
        read(format!("OTEL_EXPORTER_OTLP_{}_{key}", signal.variable()), true)
            .or_else(|| read(format!("OTEL_EXPORTER_OTLP_{key}"), false))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// `name=value,name=value` with percent-encoded values.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            // The item may be a secret, so it is not repeated.
            let (name, value) = item.split_once('=').ok_or("an item is not name=value")?;
            let value = decoded(value.trim()).ok_or("a value is not percent-encoded UTF-8")?;
            Ok((name.trim().to_owned(), value))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(
        above: &Partial,
        env: &[(&str, &str)],
        below: &Partial,
        signal: Signal,
    ) -> Result<Option<Endpoint>, String> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Sources { above, env: &env, below }.endpoint(signal).map_err(|bad| bad.to_string())
    }

    fn url(env: &[(&str, &str)], signal: Signal) -> Option<String> {
        endpoint(&Partial::default(), env, &Partial::default(), signal).unwrap().map(|endpoint| endpoint.url)
    }

    #[test]
    fn each_signal_finds_its_address() {
        const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x/");
        const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        for (env, traces, metrics) in [
            (vec![], None, None),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None, None),
            (vec![ALL], Some("http://c:4318/v1/traces"), Some("http://c:4318/v1/metrics")),
            (vec![TRACES], Some("http://t/x/"), None),
            (vec![ALL, TRACES], Some("http://t/x/"), Some("http://c:4318/v1/metrics")),
            (vec![ALL, GRPC], Some("http://c:4318"), Some("http://c:4318")),
            (vec![ALL, ("OTEL_METRICS_EXPORTER", "none")], Some("http://c:4318/v1/traces"), None),
            (vec![ALL, ("OTEL_SDK_DISABLED", "TRUE")], None, None),
            (vec![GRPC, ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")], Some("https://c:4317"), Some("https://c:4317")),
            (
                vec![GRPC, ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"), ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true")],
                Some("https://c:4317"),
                Some("http://c:4317"),
            ),
        ] {
            assert_eq!(url(&env, Signal::Traces).as_deref(), traces, "{env:?}");
            assert_eq!(url(&env, Signal::Metrics).as_deref(), metrics, "{env:?}");
        }
    }

    #[test]
    fn flags_win_over_variables_and_those_over_the_file() {
        let named = |host: &str| Partial {
            endpoint: Some(format!("http://{host}")),
            timeout: Some(Duration::from_secs(host.len() as u64)),
            ..Partial::default()
        };
        let env: &[(&str, &str)] =
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")];
        let none = Partial::default();
        for (above, env, url, ms) in [
            (&named("flag"), env, "http://flag/v1/traces", 4_000),
            (&none, env, "http://env/v1/traces", 2_500),
            (&none, &[], "http://f/v1/traces", 1_000),
        ] {
            let endpoint = endpoint(above, env, &named("f"), Signal::Traces).unwrap().unwrap();
            assert_eq!((endpoint.url.as_str(), endpoint.timeout.as_millis()), (url, ms));
        }
    }

    #[test]
    fn everything_else_is_read_and_no_secret_is_shown() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret, x-tenant=a=b,"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/me.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/me.key"),
        ];
        let endpoint = endpoint(&Partial::default(), &env, &Partial::default(), Signal::Traces).unwrap().unwrap();
        let headers = [("authorization", "Bearer s3cret"), ("x-tenant", "a=b")];
        assert_eq!(endpoint.headers.0, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((endpoint.compression, endpoint.timeout), (Compression::Gzip, TIMEOUT));
        assert_eq!(endpoint.certificate, Some(PathBuf::from("/ca.pem")));
        assert_eq!(endpoint.client, Some((PathBuf::from("/me.pem"), PathBuf::from("/me.key"))));
        assert!(!format!("{endpoint:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        const AT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
        for (key, value, says) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "`http/json` is neither"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd", "`zstd` is neither"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "`soon` is no number"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "`0` is no number"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "an item is not name=value"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz", "a value is not percent-encoded"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "c:4318", "does not begin with http://"),
        ] {
            let bad = endpoint(&Partial::default(), &[AT, (key, value)], &Partial::default(), Signal::Traces);
            let bad = bad.unwrap_err();
            assert!(bad.starts_with(key) && bad.contains(says) && !bad.contains("s3cret"), "{bad}");
        }
    }

    #[test]
    fn the_resource_names_the_service_and_the_host() {
        let resource = |env: &[(&str, &str)]| {
            let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let sources = Sources { above: &Partial::default(), env: &env, below: &Partial::default() };
            let mut resource = sources.resource("box").unwrap();
            resource.retain(|(key, _)| key != "service.version");
            resource.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(resource(&[]), ["service.name=tachograph", "host.name=box"]);
        let env = [("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,zone=b%2Cc"), ("OTEL_SERVICE_NAME", "d")];
        assert_eq!(resource(&env), ["host.name=box", "zone=b,c", "service.name=d"]);
    }
}
