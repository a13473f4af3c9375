//! Servers in a network namespace of their own, behind TLS, or without a port: each is asked where it is, or says why not.

use agent_tests::gate;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tachograph::clock::Clock;
use tachograph::clock::System;
use tachograph::discover::Closes;
use tachograph::discover::Target;
use tachograph::discover::cgroup::Place;
use tachograph::discover::procfs;
use tachograph::engine::Sample;
use tachograph::engine::scrape;
use tachograph::engine::scrape::Error;
use tachograph::ident::EngineId;
use tachograph::ident::EngineKind;
use tachograph::ident::Pid;
use tachograph::ident::ProcessId;
use tachograph::ident::Role;
use tachograph::run::engines;

const START: Duration = Duration::from_secs(30);
/// Serves a folder on a port that this machine's own namespace does not know, and ends by itself.
const SERVER: &str = "import sys, signal, http.server as h, functools as f; signal.alarm(120); \
    h.HTTPServer(('127.0.0.1', 8000), f.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1])).serve_forever()";

/// Where the engine of this one process is asked.
fn target(pid: Pid) -> Result<scrape::Target> {
    let process = ProcessId { pid, start_ticks: 1 };
    let target = Target {
        process,
        engine: EngineId(process),
        kind: EngineKind::Vllm,
        role: Role::Frontend,
        objects: BTreeSet::new(),
        closes: Closes::ByClose,
        late: false,
        place: Place::default(),
    };
    engines::addresses(&[&target]).pop().context("no target")
}

fn ask(target: &scrape::Target) -> Result<Sample, Error> {
    let clock: Arc<dyn Clock> = Arc::new(System);
    scrape::once(scrape::Config::default(), target, &clock)?.scraped
}

#[test]
fn an_engine_behind_tls_is_asked_there_and_one_without_a_port_says_so() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    for (wire, answers) in [(Wire::Plain, true), (Wire::Tls, true), (Wire::Unix, false)] {
        let scratch = Scratch::new("metrics")?;
        let engine = Standin::start(&tools.python, &scratch, "plain", wire)?;
        let sample = ask(&target(Pid(u32::try_from(engine.pid())?))?);
        if answers {
            assert_eq!(sample?.running, Some(0.0), "{wire:?}");
        } else {
            assert_eq!(sample, Err(Error::NoPort));
        }
    }
    Ok(())
}

#[test]
fn an_engine_in_a_network_namespace_of_its_own_is_asked_there() -> Result<()> {
    if gate::kernel()?.is_none() {
        return Ok(());
    }
    let scratch = Scratch::new("networks")?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/engine_metrics");
    std::fs::copy(fixtures.join("vllm-0.32.0-python.prom"), scratch.file("metrics"))?;
    let mut serve = Command::new("unshare");
    serve.args(["-n", "sh", "-c", "ip link set lo up && exec python3 -c \"$0\" \"$1\"", SERVER]).arg(scratch.path());
    let mut server = Running::start("server", &mut serve, scratch.file("log"))?;
    let pid = Pid(server.pid());
    server.until_ready(START, || !procfs::listeners(pid).is_empty())?;

    let found = target(pid)?;
    assert_eq!(found.network, Some(pid));
    assert_eq!(ask(&found)?.running, Some(4.0));
    assert!(ask(&scrape::Target { network: None, ..found }).is_err(), "nobody listens there outside");
    assert_eq!(procfs::is_elsewhere(Pid(std::process::id())), Some(false), "and this thread has not moved");
    Ok(())
}
