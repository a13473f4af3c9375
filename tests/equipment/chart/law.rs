//! Rendered objects in; what an agent may not be and is, out: the law of privileges and of what the cluster grants.

#![expect(clippy::indexing_slicing, reason = "JSON that lacks a key gives null, which each law judges")]

use crate::chart::render::Helm;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// What every agent holds.
const CAPABILITIES: [&str; 3] = ["BPF", "PERFMON", "SYS_PTRACE"];

/// These start no container and grant no right.
const HARMLESS: [&str; 7] =
    ["ConfigMap", "NetworkPolicy", "PodMonitor", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor"];

/// Breaches, by their names; `more` is what this case adds to the capabilities.
pub(super) fn breaches(objects: &[Value], more: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut agents = 0;
    let (mut roles, mut bindings) = (Vec::new(), Vec::new());
    for object in objects {
        match object["kind"].as_str() {
            Some("DaemonSet") => {
                agents += 1;
                pod(&object["spec"]["template"]["spec"], more, &mut found);
            }
            Some("ClusterRole") => {
                must(&mut found, "role", object["rules"] == rules());
                roles.push(&object["metadata"]["name"]);
            }
            Some("ClusterRoleBinding") => bindings.push(&object["roleRef"]["name"]),
            Some(kind) if HARMLESS.contains(&kind) => {}
            other => found.push(format!("kind {other:?}")),
        }
    }
    must(&mut found, "one agent", agents == 1);
    must(&mut found, "binding", bindings == roles);
    let token = objects.iter().find_map(|object| object.pointer("/spec/template/spec/automountServiceAccountToken"));
    must(&mut found, "token", token == Some(&json!(roles.len() == 1)));
    found
}

fn rules() -> Value {
    json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}])
}

fn must(found: &mut Vec<String>, law: &str, kept: bool) {
    if !kept {
        found.push(law.to_owned());
    }
}

fn pod(pod: &Value, more: &[&str], found: &mut Vec<String>) {
    must(found, "hostPID", pod["hostPID"] == true);
    must(found, "hostIPC", pod["hostIPC"].is_null());
    must(found, "init containers", pod["initContainers"].is_null() && pod["ephemeralContainers"].is_null());
    let containers = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    must(found, "one container", containers.len() == 1);
    for container in containers {
        let security = &container["securityContext"];
        must(found, "privileged", security["privileged"] == false);
        must(found, "escalation", security["allowPrivilegeEscalation"] == false);
        must(found, "root filesystem", security["readOnlyRootFilesystem"] == true);
        must(found, "seccomp", security["seccompProfile"]["type"].as_str().is_some_and(|it| it != "Unconfined"));
        must(found, "drop", security["capabilities"]["drop"] == json!(["ALL"]));
        let listed = security["capabilities"]["add"].as_array().into_iter().flatten();
        let listed: BTreeSet<&str> = listed.filter_map(Value::as_str).collect();
        let allowed: BTreeSet<&str> = CAPABILITIES.iter().chain(more).copied().collect();
        must(found, "capabilities", listed == allowed);
        must(found, "limits", container["resources"]["limits"]["memory"].is_string());
        must(found, "processor limit", container["resources"]["limits"]["cpu"].is_null());
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        must(found, "mounts", mounts.into_iter().all(|mount| mount["readOnly"] == true));
        for probe in ["livenessProbe", "readinessProbe"] {
            must(found, probe, container[probe]["httpGet"]["port"] == "metrics");
        }
    }
}

/// Each law has an input that breaks it and nothing else.
#[test]
fn every_law_can_be_broken() -> Result<()> {
    let Some(helm) = Helm::find()? else { return Ok(()) };
    let whole = helm.judge(&[("1.37", helm.render("defaults", &[])?)])?.remove(0).objects;
    let pod = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let within = |base: &str, rest: &str| format!("{base}{rest}");
    for (kind, path, value, law) in [
        ("DaemonSet", within(pod, "/hostPID"), json!(false), "hostPID"),
        ("DaemonSet", within(pod, "/automountServiceAccountToken"), json!(false), "token"),
        ("DaemonSet", within(container, "/securityContext/privileged"), json!(true), "privileged"),
        ("DaemonSet", within(container, "/securityContext/allowPrivilegeEscalation"), json!(true), "escalation"),
        ("DaemonSet", within(container, "/securityContext/readOnlyRootFilesystem"), json!(null), "root filesystem"),
        ("DaemonSet", within(container, "/securityContext/seccompProfile/type"), json!("Unconfined"), "seccomp"),
        ("DaemonSet", within(container, "/securityContext/capabilities/drop"), json!([]), "drop"),
        ("DaemonSet", within(container, "/securityContext/capabilities/add/0"), json!("SYS_ADMIN"), "capabilities"),
        ("DaemonSet", within(container, "/resources/limits"), json!({}), "limits"),
        ("DaemonSet", within(container, "/volumeMounts/0/readOnly"), json!(false), "mounts"),
        ("DaemonSet", within(container, "/livenessProbe/httpGet/port"), json!(1), "livenessProbe"),
        ("DaemonSet", "/kind".to_owned(), json!("Pod"), "kind Some(\"Pod\")"),
        ("ClusterRole", "/rules/0/verbs/0".to_owned(), json!("*"), "role"),
        ("ClusterRoleBinding", "/roleRef/name".to_owned(), json!("cluster-admin"), "binding"),
        ("ClusterRole", "/rules/0/resources/0".to_owned(), json!("secrets"), "role"),
    ] {
        let mut broken = whole.clone();
        let object = broken.iter_mut().find(|object| object["kind"] == kind);
        let place = object.and_then(|object| object.pointer_mut(&path));
        *place.ok_or_else(|| anyhow::anyhow!("no {path} in the {kind}"))? = value;
        let found = breaches(&broken, &["DAC_READ_SEARCH"]);
        assert!(found.iter().any(|breach| breach == law), "{kind} {path}: {found:?}");
    }
    Ok(())
}
