//! An engine in a pod's control group, and a cluster that knows the pod: who served is in the record, also while the API
//! server is away.

use agent_tests::apiserver::ApiServer;
use agent_tests::apiserver::pod;
use agent_tests::container::Container;
use agent_tests::container::Group;
use agent_tests::container::Hierarchy;
use agent_tests::container::PLAIN;
use agent_tests::gate;
use agent_tests::scratch::Scratch;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

const ID: &str = "1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a";
const UID: &str = "3f9a3c51-7d1e-4b0a-9c55-0a1b2c3d4e5f";

#[test]
fn a_record_names_the_pod_also_while_the_api_server_is_away() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let (server, scratch) = (ApiServer::start()?, Scratch::new("kubernetes")?);
    server.put(pod(UID, "gpu-1", ID));
    let file = scratch.file("kubeconfig");
    server.kubeconfig(&file)?;
    let file = file.to_str().context("a path in UTF-8")?;
    let settings = [("TACHOGRAPH_KUBERNETES_KUBECONFIG", file), ("TACHOGRAPH_KUBERNETES_NODE", "gpu-1")];
    let mut stage = Stage::open_with(&tools, &settings)?;
    stage.agent.until(|snapshot| snapshot.pointer("/kubernetes/pods") == Some(&json!(1)))?;
    let group = group();
    let mut player = stage.enter_in(&Container { group: Some(&group), ..PLAIN }, "plain", Wire::Plain)?;
    let pids = player.pids;
    let name = format!("vllm-6c5f9b-{UID}");
    let here = json!({
        "namespace": "serving", "pod": name, "pod_uid": UID, "node": "gpu-1", "leader_worker": null,
        "labels": { "app.kubernetes.io/name": "vllm" },
        "owners": [
            { "kind": "ReplicaSet", "name": "vllm-6c5f9b", "by": "reference" },
            { "kind": "Deployment", "name": "vllm", "by": "pod_template_hash" },
        ],
        "container": {
            "name": "server",
            "image": {
                "name": "vllm/vllm-openai", "tag": "v0.32.0", "digest": "docker.io/vllm/vllm-openai@sha256:abcd",
            },
        },
    });
    let first = plays(&stage, &mut player)?;
    assert_eq!(identities(&stage, pids)?, vec![here.clone(); first]);
    let page = stage.agent.metrics()?;
    let info = format!(
        "tachograph_engine_kubernetes_info{{engine=\"{}\",k8s_namespace_name=\"serving\",k8s_pod_name=\"{name}\"",
        pids[0]
    );
    assert_eq!(page.matches(&info).count(), 1, "one series for the engine");
    server.down();
    stage.agent.until(|snapshot| trouble(snapshot).is_some())?;
    let second = plays(&stage, &mut player)?;
    assert_eq!(identities(&stage, pids)?, vec![here; first + second]);
    let page = stage.agent.metrics()?;
    let age = page.lines().find_map(|line| line.strip_prefix("tachograph_kubernetes_age_seconds "));
    assert!(age.context("no age")?.parse::<f64>()? > 0.0);
    server.up()?;
    stage.agent.until(|snapshot| trouble(snapshot).is_none())
}

#[test]
fn without_a_cluster_a_record_has_ids_and_says_why_it_has_no_more() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let group = group();
    let mut player = stage.enter_in(&Container { group: Some(&group), ..PLAIN }, "plain", Wire::Plain)?;
    plays(&stage, &mut player)?;
    for record in ours(&stage, player.pids)? {
        let told = ["/place/pod_uid", "/kubernetes", "/null_reasons/kubernetes"].map(|at| record.pointer(at));
        assert_eq!(told, [Some(&json!(UID)), Some(&Value::Null), Some(&json!("not_asked"))]);
    }
    Ok(())
}

/// As containerd has it where the kubelet leaves systemd alone.
fn group() -> Group {
    let hierarchy = if Hierarchy::Unified.is_here() { Hierarchy::Unified } else { Hierarchy::Named };
    Group { hierarchy, path: format!("kubepods/besteffort/pod{UID}/{ID}") }
}

fn trouble(snapshot: &Value) -> Option<&str> {
    snapshot.pointer("/kubernetes/trouble").and_then(Value::as_str)
}

/// One more load, recorded; how many requests it had.
fn plays(stage: &Stage, player: &mut Player) -> Result<usize> {
    let before = ours(stage, player.pids)?.len();
    let seen = player.load("calm")?.len();
    stage.until_recorded(player, before + seen)?;
    Ok(seen)
}

fn ours(stage: &Stage, pids: [u64; 2]) -> Result<Vec<Value>> {
    let mut requests = stage.agent.requests()?;
    requests.retain(|request| {
        request.pointer("/target/pid").and_then(Value::as_u64).is_some_and(|pid| pids.contains(&pid))
    });
    Ok(requests)
}

/// Who served the requests of these processes.
fn identities(stage: &Stage, pids: [u64; 2]) -> Result<Vec<Value>> {
    Ok(ours(stage, pids)?.iter().filter_map(|request| request.get("kubernetes").cloned()).collect())
}
