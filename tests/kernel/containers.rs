//! Engines in containers that start and stop while the agent runs, which has the least capabilities: each request recorded
//! from the first on, under the host's process id, with the container, the pod and the unit where it was served.

use agent_tests::agent::Agent;
use agent_tests::agent::PERF_EVENTS;
use agent_tests::agent::traced;
use agent_tests::container::Container;
use agent_tests::container::Group;
use agent_tests::container::Hierarchy;
use agent_tests::container::Layer;
use agent_tests::container::PLAIN;
use agent_tests::container::Root;
use agent_tests::gate;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use tachograph::discover::procfs;
use tachograph::ident::Pid;

/// A server in C.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/container/server.c");
const START: Duration = Duration::from_secs(30);
const RECORDED: Duration = Duration::from_secs(15);
const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const UID: &str = "2f9a3c51-7d1e-4b0a-9c55-0a1b2c3d4e5f";

/// Both see files that are not the host's under the host's names, and both see the same ones.
#[test]
fn two_containers_of_one_image_are_told_apart() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (mut stage, layer) = (Stage::open(&tools)?, Layer::new(&tools.python)?);
    let [one, other] = [Root::Pivot, Root::Chroot].map(|root| Container { root, layer: Some(&layer), ..PLAIN });
    let mut players = [stage.enter_in(&one, "plain", Wire::Tls)?, stage.enter_in(&other, "plain", Wire::Plain)?];
    let loads = players.each_mut().map(|player| player.begin("calm"));
    for (player, load) in players.into_iter().zip(loads) {
        let seen = load?.finish()?;
        stage.leave(player, seen)?.verify()?;
    }
    stage.until_empty()
}

#[test]
fn an_engine_in_a_container_of_each_kind_is_traced_and_its_place_named() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (mut stage, layer) = (Stage::open(&tools)?, Layer::new(&tools.python)?);
    let under = UID.replace('-', "_");
    let docker = format!("system.slice/docker-{ID}.scope");
    let systemd = format!("kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope");
    let cgroupfs = format!("kubepods/besteffort/pod{UID}/{ID}");
    let by = |runtime| json!({ "id": ID, "runtime": runtime });
    let (pid, net, all): (&[&str], &[&str], &[&str]) = (&["pid"], &["net"], &["pid", "net", "uts", "ipc", "cgroup"]);
    let (unified, named) = (Hierarchy::Unified, Hierarchy::Named);
    let pivot = Container { root: Root::Pivot, layer: Some(&layer), filtered: true, own: all, ..PLAIN };
    let kinds = [
        (Container { own: pid, ..PLAIN }, unified, docker.clone(), json!([by(Some("docker")), null, null])),
        (Container { own: net, ..PLAIN }, unified, cgroupfs, json!([by(None), UID, null])),
        (
            Container { own: &["user"], ..PLAIN },
            unified,
            "a.slice/vllm.service".into(),
            json!([null, null, "vllm.service"]),
        ),
        (pivot, unified, systemd, json!([by(Some("containerd")), UID, null])),
        (pivot, named, docker, json!([by(Some("docker")), null, null])),
    ];
    for (container, hierarchy, path, place) in kinds {
        if !hierarchy.is_here() {
            continue;
        }
        let group = Group { hierarchy, path };
        let pids = plays(&mut stage, &Container { group: Some(&group), ..container })?;
        assert_eq!(places(&stage, pids)?, [place], "{group:?}");
    }
    stage.until_empty()
}

/// Whatever a probe brings into a process, the filter knows none of it.
#[test]
fn an_engine_under_a_filter_outlives_the_agent() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let mut player = stage.enter_in(&Container { filtered: true, ..PLAIN }, "plain", Wire::Plain)?;
    for pid in player.pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    let before = player.load("calm")?;
    stage.until_recorded(&player, before.len())?;
    stage.agent.kill()?;
    let after = player.load("calm")?;
    assert_eq!(after.len(), before.len());
    for seen in after {
        assert_eq!((seen.status, seen.end.as_deref()), (Some(200), Some("complete")), "{seen:?}");
    }
    Ok(())
}

/// As an upgrade in a running container does it. Who had its probes keeps them; who comes later needs a capability to find
/// the file that is still in use, and says so where it has none.
#[test]
fn a_library_is_replaced_under_a_running_engine() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (mut stage, layer) = (Stage::open(&tools)?, Layer::new(&tools.python)?);
    let container = Container { root: Root::Pivot, layer: Some(&layer), ..PLAIN };
    let mut player = stage.enter_in(&container, "plain", Wire::Plain)?;
    let core = player.pids[1];
    let files = procfs::mapped_files(Pid(u32::try_from(core)?));
    let library = files.keys().find(|path| path.contains("libzmq")).context("no libzmq")?;
    let (inside, new) = (format!("/proc/{core}/root{library}"), format!("/proc/{core}/root{library}.new"));
    std::fs::copy(&inside, &new)?;
    std::fs::rename(&new, &inside)?;
    for (settings, list) in [(&[][..], "skipped"), (&[PERF_EVENTS], "attached")] {
        let scratch = Scratch::new("later")?;
        let later = Agent::start(&tools.agent, &scratch, settings)?;
        let lines = lines(&later.snapshot()?, core, list);
        assert!(lines.iter().any(|line| line.contains("libzmq") && line.contains("(deleted)")), "{list}: {lines:?}");
        later.stop()?;
    }
    let seen = player.load("calm")?;
    let skipped = lines(&stage.agent.snapshot()?, core, "skipped");
    assert!(!skipped.iter().any(|line| line.contains("(deleted)")), "{skipped:?}");
    stage.leave(player, seen)?.verify().map(drop)
}

/// With its C library beside it, which is traced, and within it, which is said.
#[test]
fn a_server_with_musl_is_traced_or_named() -> Result<()> {
    let Some(tools) = gate::musl()? else { return Ok(()) };
    let stage = Stage::open_with(&tools, &[("TACHOGRAPH_TARGET", "exe=server-*")])?;
    let scratch = Scratch::new("musl")?;
    for (name, how, is_seen) in [("server-shared", "-O1", true), ("server-static", "-static", false)] {
        let (program, port) = (scratch.file(name), http::free_port()?);
        let mut compile = Command::new(gate::MUSL);
        compile.args([how, "-o"]).arg(&program).args(["-x", "c", SERVER]);
        assert!(compile.status()?.success(), "{name} is compiled");
        let mut server = Running::start("a server", Command::new(&program).arg(port.to_string()), scratch.file("log"))?;
        let pid = u64::from(server.pid());
        server.until_ready(START, || stage.agent.snapshot().is_ok_and(|snapshot| traced(&snapshot).contains(&pid)))?;
        let answer = http::say(port, "/v1/chat/completions", r#"{"model":"m","messages":[]}"#)?;
        assert!(answer.contains("chatcmpl-musl"), "{answer}");
        let records = stage.agent.records_when(&[pid], usize::from(is_seen), RECORDED)?;
        let told: Vec<_> = records.iter().map(|record| (record.status.as_u64(), record.output_tokens)).collect();
        assert_eq!(told, if is_seen { vec![(Some(200), Some(1))] } else { vec![] }, "{name}");
        let skipped = lines(&stage.agent.snapshot()?, pid, "skipped");
        assert_eq!(skipped.iter().any(|why| why.starts_with("the C library")), !is_seen, "{name}: {skipped:?}");
        server.kill()?;
    }
    Ok(())
}

/// A player in a container gets one load as soon as it serves, and leaves; its processes. Nobody waits for the agent,
/// which has the seconds in which the engine loads.
fn plays(stage: &mut Stage, container: &Container<'_>) -> Result<[u64; 2]> {
    let mut player: Player = stage.serves_in(container, "loading", Wire::Plain)?;
    let (seen, pids) = (player.load("calm")?, player.pids);
    stage.leave(player, seen)?.verify()?;
    Ok(pids)
}

/// Where the requests of these processes were served, each place once.
fn places(stage: &Stage, pids: [u64; 2]) -> Result<Vec<Value>> {
    let requests = stage.agent.requests()?;
    let ours = requests.iter().filter(|request| {
        request.pointer("/target/pid").and_then(Value::as_u64).is_some_and(|pid| pids.contains(&pid))
    });
    let three = |place: &Value| json!([place["container"], place["pod_uid"], place["unit"]]);
    let mut places: Vec<Value> = ours.filter_map(|request| request.get("place").map(three)).collect();
    places.dedup();
    Ok(places)
}

/// What is attached to a process, or what is not and why.
fn lines(snapshot: &Value, pid: u64, list: &str) -> Vec<String> {
    let targets = snapshot.get("targets").and_then(Value::as_array).into_iter().flatten();
    let ours = targets.filter(|target| target.get("pid").and_then(Value::as_u64) == Some(pid));
    let lines = ours.filter_map(|target| target.get(list)?.as_array()).flatten();
    lines.filter_map(Value::as_str).map(str::to_owned).collect()
}
