//! Traced processes in; where each engine can be asked about itself, out.

use crate::discover;
use crate::discover::procfs;
use crate::engine::scrape;
use crate::engine::scrape::Url;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Role;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// vLLM's own default.
const VLLM_PORT: u16 = 8_000;
/// Places where one engine may be asked.
const PAGES: usize = 12;

/// Where servers that are no vLLM have their page: most of them, NIM, and `trtllm-serve`.
const PATHS: [&str; 3] = ["/metrics", "/v1/metrics", "/prometheus/metrics"];

/// A target for each engine among these processes, also where there is nothing to ask.
pub fn addresses(targets: &[&discover::Target]) -> Vec<scrape::Target> {
    let mut found: BTreeMap<EngineId, scrape::Target> = BTreeMap::new();
    for target in targets.iter().filter(|target| target.role == Role::Frontend) {
        let known = found.get(&target.engine);
        if known.is_some_and(|known| !known.pages.is_empty()) {
            continue;
        }
        let pid = target.process.pid;
        let words = procfs::cmdline(target.engine.0.pid);
        let pages = pages(target.kind, &words, procfs::listeners(pid).into_iter());
        let network = procfs::is_elsewhere(pid).unwrap_or(false).then_some(pid);
        found.insert(target.engine, scrape::Target { engine: target.engine, pages, network, words });
    }
    found.into_values().collect()
}

/// The port that the command line names comes first, then the usual one, then the lowest.
fn pages(kind: EngineKind, words: &[String], listeners: impl Iterator<Item = SocketAddr>) -> Vec<Url> {
    let asked: Option<u16> = argument(words, "--port").and_then(|port| port.parse().ok());
    let usual = (kind == EngineKind::Vllm).then_some(VLLM_PORT);
    let mut addresses: Vec<SocketAddr> = listeners.map(reachable).collect();
    addresses.sort_by_key(|address| (Some(address.port()) != asked, Some(address.port()) != usual, address.port()));
    addresses.dedup_by_key(|address| address.port());
    let (ports, paths) = if kind == EngineKind::Vllm { (1, 1) } else { (addresses.len(), PATHS.len()) };
    let is_tls = ["--ssl-certfile", "--ssl-keyfile"].iter().any(|name| argument(words, name).is_some());
    // A file of settings may have switched it on, too.
    let schemes: &[&str] = if is_tls { &["https"] } else { &["http", "https"] };
    let pages = schemes.iter().flat_map(|scheme| {
        addresses.iter().take(ports).flat_map(move |address| {
            PATHS.iter().take(paths).filter_map(move |path| Url::parse(&format!("{scheme}://{address}{path}")).ok())
        })
    });
    pages.take(PAGES).collect()
}

/// Who listens on every address is asked on the machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The value of `--name value` or `--name=value`.
fn argument<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
        "" => words.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_both_spellings() {
        let words = ["vllm", "serve", "m", "--port", "81", "--host=h", "--porter=x"].map(str::to_owned);
        assert_eq!(argument(&words, "--port"), Some("81"));
        assert_eq!(argument(&words, "--host"), Some("h"));
        assert_eq!(argument(&words, "--ssl-certfile"), None);
    }

    #[test]
    fn an_engine_is_asked_where_it_listens() {
        let first = |kind, line: &str, listeners: &[&str]| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let pages = pages(kind, &words, listeners.iter().map(|address| address.parse().unwrap()));
            (pages.first().map(Url::to_string).unwrap_or_default(), pages.len())
        };
        let vllm = |line, listeners: &[&str]| first(EngineKind::Vllm, line, listeners).0;
        for (line, listeners, expected) in [
            ("vllm serve m --port 81", &["0.0.0.0:80", "0.0.0.0:81"][..], "http://127.0.0.1:81/metrics"),
            ("vllm serve m", &["127.0.0.1:70", "127.0.0.1:8000"], "http://127.0.0.1:8000/metrics"),
            ("vllm serve m", &["127.0.0.1:90", "127.0.0.1:70"], "http://127.0.0.1:70/metrics"),
            ("vllm serve m", &["10.1.2.3:8000"], "http://10.1.2.3:8000/metrics"),
            ("vllm serve m", &["[::]:8000"], "http://[::1]:8000/metrics"),
            ("vllm serve m", &["0.0.0.0:8000", "[::]:8000"], "http://127.0.0.1:8000/metrics"),
            ("vllm serve m --ssl-certfile f", &["0.0.0.0:8000"], "https://127.0.0.1:8000/metrics"),
            ("vllm serve m --uds /s", &[], ""),
        ] {
            assert_eq!(vllm(line, listeners), expected, "{line} {listeners:?}");
        }
        let other = first(EngineKind::Other, "tritonserver", &["0.0.0.0:8000", "0.0.0.0:8002"]);
        assert_eq!(other, ("http://127.0.0.1:8000/metrics".to_owned(), 12));
    }
}
