//! Engines in containers that start and stop while the agent runs, which has the least capabilities: each request recorded
//! from the first on, under the host's process id, with the container, the pod and the unit where it was served.

use agent_tests::container::Container;
use agent_tests::container::Group;
use agent_tests::container::Hierarchy;
use agent_tests::container::Layer;
use agent_tests::container::PLAIN;
use agent_tests::container::Root;
use agent_tests::gate;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Wire;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const UID: &str = "2f9a3c51-7d1e-4b0a-9c55-0a1b2c3d4e5f";

/// Both see files that are not the host's under the host's names, and both see the same ones.
#[test]
fn two_containers_of_one_image_are_told_apart() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (mut stage, layer) = (Stage::open(&tools)?, Layer::new(&tools.python)?);
    for wire in [Wire::Plain, Wire::Tls] {
        let [one, other] = [Root::Pivot, Root::Chroot].map(|root| Container { root, layer: Some(&layer), ..PLAIN });
        let mut players = [stage.enter_in(&one, "plain", wire)?, stage.enter_in(&other, "plain", wire)?];
        let loads = players.each_mut().map(|player| player.begin("calm"));
        for (player, load) in players.into_iter().zip(loads) {
            let seen = load?.finish()?;
            stage.leave(player, seen)?.verify()?;
        }
    }
    stage.until_empty()
}

#[test]
fn an_engine_with_namespaces_of_its_own_is_traced_from_its_first_request() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (mut stage, layer) = (Stage::open(&tools)?, Layer::new(&tools.python)?);
    let own: [&[&str]; 4] = [&["pid"], &["net"], &["user"], &["pid", "net", "uts", "ipc", "cgroup"]];
    for own in own {
        let container = Container { own, root: Root::Host, ..PLAIN };
        plays(&mut stage, &container)?;
    }
    plays(&mut stage, &Container { own: own[3], root: Root::Pivot, layer: Some(&layer), ..PLAIN })?;
    stage.until_empty()
}

#[test]
fn a_control_group_names_container_pod_and_unit() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let under = UID.replace('-', "_");
    let docker = format!("system.slice/docker-{ID}.scope");
    let kubelet = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
    );
    let cgroupfs = format!("kubepods/besteffort/pod{UID}/{ID}");
    let groups = [
        (Hierarchy::Unified, docker.clone(), json!({ "id": ID, "runtime": "docker" }), None, None),
        (Hierarchy::Unified, kubelet, json!({ "id": ID, "runtime": "containerd" }), Some(UID), None),
        (Hierarchy::Unified, cgroupfs, json!({ "id": ID, "runtime": null }), Some(UID), None),
        (Hierarchy::Unified, "system.slice/vllm.service".to_owned(), Value::Null, None, Some("vllm.service")),
        (Hierarchy::Named, docker, json!({ "id": ID, "runtime": "docker" }), None, None),
    ];
    for (hierarchy, path, container, pod_uid, unit) in groups {
        if !hierarchy.is_here() {
            continue;
        }
        let group = Group { hierarchy, path };
        let pids = plays(&mut stage, &Container { group: Some(&group), own: &["pid"], ..PLAIN })?;
        let place = json!({ "container": container, "pod_uid": pod_uid, "unit": unit });
        assert_eq!(places(&stage, pids)?, [place], "{group:?}");
    }
    stage.until_empty()
}

/// A player in a container gets one load as soon as it serves, and leaves; its processes.
fn plays(stage: &mut Stage, container: &Container<'_>) -> Result<[u64; 2]> {
    let mut player: Player = stage.enter_in(container, "plain", Wire::Plain)?;
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
    let mut places: Vec<Value> = ours.filter_map(|request| request.get("place").cloned()).collect();
    places.dedup();
    Ok(places)
}
