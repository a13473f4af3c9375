//! Two vLLMs on one node in, one of which comes and the other leaves under load; a table of each out.

use crate::PLAIN;
use crate::place;
use crate::process::Folder;
use crate::process::ask;
use crate::process::free_port;
use crate::run::Case;
use crate::run::Ground;
use crate::run::Start;
use crate::server::Server;
use crate::table::judge;
use agent_tests::held::Held;
use agent_tests::standin::Wire;
use anyhow::Result;
use anyhow::ensure;

/// Behind TLS.
const SECURE: Case = Case { name: "tls", wire: Wire::Tls, ..PLAIN };
/// On a Unix socket, started by its module, through commands that become it and one that stays above it.
const LOCAL: Case = Case {
    name: "uds",
    wire: Wire::Unix,
    start: Start::Module,
    through: &["sh", "-c", "env taskset ff \"$0\" \"$@\"; exit $?"],
    ..PLAIN
};

fn verified(case: &Case, ground: &Ground) -> Result<()> {
    let wrong = judge(case, ground);
    ensure!(wrong.is_empty(), "{}:\n{}", case.name, wrong.join("\n"));
    Ok(())
}

#[test]
fn two_vllms_on_one_node() -> Result<()> {
    let Some(place) = place()? else { return Ok(()) };
    let folder = Folder::new("neighbours")?;
    let listens = free_port()?;
    let mut agent = place.record(listens, &[], folder.file("agent.log"))?;
    agent.until(30, |_| ask(listens, "GET", "/readyz", "").ok())?;
    let mut secure = Server::start(&place, &SECURE)?;
    secure.until_ready()?;
    secure.until_recorded(&mut agent, listens)?;

    let before = secure.begin(&place, listens, "0.1")?;
    let mut local = Server::start(&place, &LOCAL)?;
    verified(&SECURE, &secure.ground(listens, before)?)?;
    local.until_ready()?;
    local.until_recorded(&mut agent, listens)?;

    // The same temperatures and the same X-Request-Ids at the same time.
    let one = secure.begin(&place, listens, "0.3")?;
    let other = local.begin(&place, listens, "0.3")?;
    verified(&SECURE, &secure.ground(listens, one)?)?;
    verified(&LOCAL, &local.ground(listens, other)?)?;

    let gone = secure.pids();
    let held = |agent: u32| -> Result<usize> {
        let entries = Held::by(agent)?.entries;
        Ok(entries.iter().filter(|(pid, _)| gone.contains(pid)).count())
    };
    ensure!(held(agent.pid())? > 0, "nothing is held of a vLLM that serves");
    let after = local.begin(&place, listens, "0.1")?;
    drop(secure);
    verified(&LOCAL, &local.ground(listens, after)?)?;
    agent.until(60, |agent| held(agent.pid()).ok().filter(|&entries| entries == 0)).map(drop)
}
