//! A real Prometheus scrapes an agent that speaks TLS and asks for a password; curl sees what others are told.

use crate::programs::Programs;
use crate::prometheus::Prometheus;
use agent_tests::agent::metric;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use anyhow::Result;
use anyhow::ensure;
use std::process::Command;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(90);
const SCRAPED: Duration = Duration::from_secs(20);
/// `scrape me`, as `htpasswd -B` would have it.
const USER: &str = "prometheus:$2y$10$abcdefghijklmnopqrstuurG2GXJQOvqnWJu7U/d8BQXKn0Kic2XO\n";

const KNOWN: [&str; 2] = ["--user", "prometheus:scrape me"];

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn prometheus_comes_in_with_tls_and_a_password_and_others_do_not() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let (scratch, ports) = (Scratch::new("gated")?, http::free_ports::<2>()?);
    let [port, scraper] = ports;
    let [certificate, key, users] = ["tls.crt", "tls.key", "users"].map(|name| scratch.file(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=agent"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    output(&mut openssl)?;
    std::fs::write(&users, USER)?;
    let mut agent = Command::new(&programs.tools.agent);
    agent.arg("run").arg(format!("--listen=127.0.0.1:{port}"));
    agent.arg("--serve-tls-cert-file").arg(&certificate).arg("--serve-tls-key-file").arg(&key);
    agent.arg("--serve-basic-auth-file").arg(&users);
    let mut agent = Running::start("the agent", &mut agent, scratch.file("agent.log"))?;
    agent.words_when(START, |words| words.contains("serving /metrics"))?;

    let curl = |more: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "%{http_code}", "--cacert"]);
        output(curl.arg(&certificate).args(more).arg(format!("https://127.0.0.1:{port}{path}")))
    };
    for path in ["/", "/metrics", "/api/v1/requests", "/api/v1/snapshot"] {
        assert!(curl(&[], path)?.ends_with("401"), "{path}");
        assert!(curl(&["--user", "prometheus:let me in"], path)?.ends_with("401"), "{path}");
        assert!(curl(&KNOWN, path)?.ends_with("200"), "{path}");
        assert!(curl(&["--tlsv1.2", "--tls-max", "1.2", KNOWN[0], KNOWN[1]], path)?.ends_with("200"), "{path}");
    }
    assert!(curl(&[], "/healthz")?.ends_with("200"));

    let settings = scratch.file("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- job_name: tachograph\n  \
         scheme: https\n  tls_config: {{ca_file: {}}}\n  basic_auth: {{username: prometheus, password: scrape me}}\n  \
         static_configs:\n  - targets: ['127.0.0.1:{port}']\n",
        certificate.display()
    );
    std::fs::write(&settings, text)?;
    let prometheus = Prometheus::with(&programs, &scratch, &settings, scraper)?;
    let stored = |name: &str| prometheus.sum(name, &[]).ok().and_then(|table| table.into_values().next());
    prometheus.until(SCRAPED, || stored("tachograph_build_info") == Some(1.0) && stored("up") == Some(1.0))?;
    // Two for each path without or with a wrong password; Prometheus was never refused.
    assert_eq!(metric(&curl(&KNOWN, "/metrics")?, "tachograph_agent_listener_refused_total")?, 8.0);
    agent.stop(STOP)?;
    Ok(())
}
