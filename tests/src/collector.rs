//! A collector for logs over OTLP (protobuf over HTTP, unpacked): exports in, the JSON bodies of the records out.

use crate::http;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message as _;
use serde_json::Value;
use std::io::BufReader;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const EVERY: Duration = Duration::from_millis(50);

/// A collector, for as long as this process lives.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Listens.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, got) = (listener.local_addr()?.port(), Arc::default());
        let collector = Self { port, got: Arc::clone(&got) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let got = Arc::clone(&got);
                std::thread::spawn(move || serve(&stream, &got));
            }
        });
        Ok(collector)
    }

    /// Where logs go, as `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT` names it.
    pub fn logs_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/logs", self.port)
    }

    /// The records that fit, once there are as many.
    pub fn when(&self, count: usize, within: Duration, fits: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let deadline = System.now().plus(within);
        loop {
            let mut found = self.got.lock().unwrap_or_else(PoisonError::into_inner).clone();
            found.retain(&fits);
            if found.len() >= count {
                return Ok(found);
            }
            ensure!(System.now() < deadline, "{} records of {count}", found.len());
            std::thread::sleep(EVERY);
        }
    }
}

/// Takes exports until the connection ends or makes no sense.
fn serve(stream: &TcpStream, got: &Mutex<Vec<Value>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((_, body)) = http::hear(&mut reader)? {
        let export = ExportLogsServiceRequest::decode(body.as_slice())?;
        let scopes = export.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        for record in scopes.flat_map(|scope| scope.log_records) {
            let Some(Any::StringValue(text)) = record.body.and_then(|body| body.value) else { continue };
            let body = serde_json::from_str(&text).with_context(|| text.clone())?;
            got.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        }
        (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}
