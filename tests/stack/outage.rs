//! An outage in; a page at PagerDuty and a message in Slack out, by the kit's own rules and routes, and its end when it is over.
//!
//! The short windows of 5 and 30 minutes are 15 and 20 seconds here, and nobody waits to group.

use crate::evaluated::change;
use crate::evaluated::hastened;
use crate::kit;
use crate::programs::Programs;
use crate::prometheus::Prometheus;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::io::BufReader;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const START: Duration = Duration::from_secs(30);
/// How long the page, and its end, may take.
const TOLD: Duration = Duration::from_secs(90);
/// Loads without a failure, before.
const CALM: usize = 4;
const PAGE: &str = "LLMAvailabilitySLOBurn";

/// What somebody was told: at which address, and what.
type Told = (String, Value);

/// PagerDuty and Slack, as far as Alertmanager can tell.
fn receivers() -> Result<(u16, mpsc::Receiver<Told>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            // Who breaks off has told nothing.
            if let Ok(one) = hear(caller) {
                drop(tell.send(one));
            }
        }
    });
    Ok((port, told))
}

fn hear(mut caller: TcpStream) -> Result<Told> {
    let told = http::hear(&mut BufReader::new(&caller))?;
    write!(caller, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
    let (path, body) = told.context("nothing said")?;
    Ok((path, serde_json::from_slice(&body)?))
}

/// The kit's Alertmanager with its secrets in files, and its receivers here; and its port.
fn alertmanager(programs: &Programs, scratch: &Scratch, kit: &Path, receivers: u16) -> Result<(Running, Scratch, u16)> {
    let (mut command, inside, seen) = programs.alertmanager()?;
    std::fs::write(inside.file("pagerduty_routing_key"), "key")?;
    std::fs::write(inside.file("slack_url"), format!("http://127.0.0.1:{receivers}/slack"))?;
    let file = kit.join("alertmanager.yml");
    let own = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let mut changes = vec![("/etc/alertmanager/secrets".to_owned(), seen.display().to_string())];
    let waits = [("wait: 30s", "wait: 1s"), ("wait: 10s", "wait: 1s"), ("interval: 5m", "interval: 1s")];
    changes.extend(waits.map(own));
    changes.push((
        "\ninhibit_rules:".to_owned(),
        format!("\nglobal: {{pagerduty_url: \"http://127.0.0.1:{receivers}/pagerduty\"}}\ninhibit_rules:"),
    ));
    change(&file, &changes)?;
    std::fs::copy(file, inside.file("alertmanager.yml"))?;
    let port = http::free_port()?;
    command.arg(format!("--config.file={}", seen.join("alertmanager.yml").display()));
    command.arg(format!("--storage.path={}", seen.join("data").display())).arg("--cluster.listen-address=");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut running = Running::start("Alertmanager", &mut command, scratch.file("alertmanager.log"))?;
    running.until_ready(START, || http::get(port, "/-/ready").is_ok())?;
    Ok((running, inside, port))
}

/// PagerDuty's event of the page with this action.
fn is_page(told: &Told, action: &str) -> bool {
    told.0 == "/pagerduty" && told.1["event_action"] == action && told.1.to_string().contains(PAGE)
}

#[test]
fn an_outage_pages_and_its_end_resolves() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("outage")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let settings = kit::settings();
    let environment =
        [("TACHOGRAPH_CONFIG", settings.to_str().context("a path that is no text")?), ("OTEL_SDK_DISABLED", "true")];
    let agent = Agent::start(&programs.tools.agent, &scratch, &environment)?;
    let kit = kit::generated(&programs, &scratch, "box")?;
    let (receivers, told) = receivers()?;
    let (alertmanager, _inside, manager) = alertmanager(&programs, &scratch, &kit, receivers)?;
    hastened(&kit, &[(9478, agent.port()), (9093, manager)])?;
    let slo = [("[5m]", "[15s]"), ("[30m]", "[20s]"), ("* 30 >= 60", "* 1 >= 60")]
        .map(|(from, to)| (from.to_owned(), to.to_owned()));
    change(&kit.join("rules/slo.yml"), &slo)?;
    let _prometheus = Prometheus::with(&programs, &scratch, &kit.join("prometheus.yml"), http::free_port()?)?;

    let mut sent = 0;
    let mut load = |mix: &str| -> Result<()> {
        sent += u32::try_from(standin.load(&scratch, mix, sent)?.len())?;
        Ok(())
    };
    for _ in 0..CALM {
        load("calm")?;
    }
    let before: Vec<Told> = told.try_iter().collect();
    assert!(!before.iter().any(|told| is_page(told, "trigger")), "a page while all is well: {before:?}");
    let mut until = |mix: &str, action: &str| -> Result<Vec<Told>> {
        let (mut all, deadline) = (Vec::new(), System.now().plus(TOLD));
        while !all.iter().any(|told| is_page(told, action)) {
            ensure!(System.now() < deadline, "under {mix} no {action} within {TOLD:?}, only {all:?}");
            load(mix)?;
            all.extend(told.try_iter());
        }
        Ok(all)
    };
    let outage = System.now();
    let during = until("outage", "trigger")?;
    println!("paged {:.1} s after the outage began", seconds(outage));
    let page = during.iter().find(|told| is_page(told, "trigger")).context("no page")?;
    let summary = page.1["payload"]["summary"].as_str().unwrap_or_default();
    assert!(summary.contains("availability budget burns"), "{page:?}");
    let over = System.now();
    let after = until("calm", "resolve")?;
    println!("resolved {:.1} s after its end", seconds(over));
    let in_slack = |told: &Told| told.0 == "/slack" && told.1.to_string().contains(PAGE);
    assert!(during.iter().chain(&after).any(in_slack), "nothing in Slack: {}", alertmanager.words());
    agent.stop()?;
    Ok(())
}

fn seconds(since: tachograph::clock::MonoNs) -> f64 {
    System.now().since(since).map_or(0.0, |ns| ns as f64 / 1e9)
}
