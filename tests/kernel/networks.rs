//! A server in a network namespace of its own: it is found where it listens there, and asked there.

use agent_tests::gate;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
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
use tachograph::discover::procfs;
use tachograph::engine::scrape;
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

    let process = ProcessId { pid, start_ticks: 1 };
    let target = Target {
        process,
        engine: EngineId(process),
        kind: EngineKind::Vllm,
        role: Role::Frontend,
        objects: BTreeSet::new(),
        closes: Closes::ByClose,
        late: false,
    };
    let found = engines::addresses(&[&target]).pop().context("no target")?;
    assert_eq!(found.network, Some(pid));
    let clock: Arc<dyn Clock> = Arc::new(System);
    let ask = |target: &scrape::Target| scrape::once(scrape::Config::default(), target, &clock);
    assert_eq!(ask(&found)?.scraped?.running, Some(4.0));
    assert!(ask(&scrape::Target { network: None, ..found })?.scraped.is_err(), "nobody listens there outside");
    assert_eq!(procfs::is_elsewhere(Pid(std::process::id())), Some(false), "and this thread has not moved");
    Ok(())
}
