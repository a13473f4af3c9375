//! What runtimes, the kubelet and systemd write in, places out.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OUTER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UID: &str = "2f9a3c51-7d1e-4b0a-9c55-0a1b2c3d4e5f";
const UNDER: &str = "2f9a3c51_7d1e_4b0a_9c55_0a1b2c3d4e5f";
const HASH: &str = "7f3a9d0c1b2e4f5a6b7c8d9e0f1a2b3c";

/// `container runtime pod unit`, with `-` for what is absent.
fn told(text: &str) -> String {
    let text = [("ID", ID), ("OUTER", OUTER), ("UID", UID), ("UNDER", UNDER), ("HASH", HASH)]
        .iter()
        .fold(text.to_owned(), |text, (short, long)| text.replace(&format!("<{short}>"), long));
    let place = place(&text);
    let container = place.container.as_ref().map(|it| it.id.replace(ID, "ID").replace(OUTER, "OUTER"));
    let runtime = place.container.and_then(|it| it.runtime).map(|it| it.name().to_owned());
    let pod = place.pod_uid.map(|uid| uid.replace(UID, "UID").replace(HASH, "HASH"));
    [container, runtime, pod, place.unit].map(|it| it.unwrap_or_else(|| "-".to_owned())).join(" ")
}

fn hold(table: &[(&str, &str)]) {
    for (path, expected) in table {
        assert_eq!(told(&format!("0::{path}\n")), *expected, "{path}");
    }
}

#[test]
fn docker_and_containerd() {
    hold(&[
        ("/docker/<ID>", "ID docker - -"),
        ("/system.slice/docker-<ID>.scope", "ID docker - -"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<ID>.scope", "ID docker - -"),
        ("/my-parent/<ID>", "ID - - -"),
        ("/docker/<OUTER>/docker/<ID>", "ID docker - -"),
        ("/docker/<ID>/system.slice/vllm.service", "ID docker - vllm.service"),
        ("/system.slice/nerdctl-<ID>.scope", "ID containerd - -"),
        ("/default/<ID>", "ID - - -"),
        ("/system.slice/docker.service", "- - - docker.service"),
        ("/ecs/0a1b2c3d4e5f60718293a4b5c6d7e8f9/<ID>", "ID - - -"),
        ("/ecstasks.slice/ecstasks-0a1b2c3d.slice/docker-<ID>.scope", "ID docker - -"),
    ]);
}

#[test]
fn podman_and_what_watches_it() {
    hold(&[
        ("/machine.slice/libpod-<ID>.scope", "ID podman - -"),
        ("/machine.slice/libpod-<ID>.scope/container", "ID podman - -"),
        ("/libpod_parent/libpod-<ID>", "ID podman - -"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<ID>.scope/container", "ID podman - -"),
        ("/system.slice/vllm.service/libpod-payload-<ID>", "ID podman - vllm.service"),
        ("/machine.slice/libpod-conmon-<ID>.scope", "- - - -"),
        ("/libpod_parent/conmon", "- - - -"),
        ("/system.slice/vllm.service/libpod-payload-<OUTER>/docker/<ID>", "ID docker - -"),
    ]);
}

#[test]
fn kubernetes_with_both_drivers_and_every_class() {
    for class in ["", "/burstable", "/besteffort"] {
        hold(&[
            (&format!("/kubepods{class}/pod<UID>/<ID>"), "ID - UID -"),
            (&format!("/kubepods{class}/pod<UID>/crio-<ID>"), "ID cri-o UID -"),
            (&format!("/kubepods{class}/pod<HASH>/<ID>"), "ID - HASH -"),
        ]);
    }
    for class in ["", "-burstable", "-besteffort"] {
        let pods = format!("/kubepods.slice/kubepods{class}.slice/kubepods{class}");
        hold(&[
            (&format!("{pods}-pod<UNDER>.slice/cri-containerd-<ID>.scope"), "ID containerd UID -"),
            (&format!("{pods}-pod<UNDER>.slice/crio-<ID>.scope"), "ID cri-o UID -"),
            (&format!("{pods}-pod<UNDER>.slice/crio-<ID>.scope/container"), "ID cri-o UID -"),
            (&format!("{pods}-pod<UNDER>.slice/docker-<ID>.scope"), "ID docker UID -"),
            (&format!("{pods}-pod<UNDER>.slice/crio-conmon-<ID>.scope"), "- - UID -"),
            (&format!("{pods}-pod<HASH>.slice/cri-containerd-<ID>.scope"), "ID containerd HASH -"),
        ]);
    }
    hold(&[
        ("/kubepods/pod<UID>/<ID>/init.scope", "ID - UID init.scope"),
        ("/kubepods/burstable/podnone/<ID>", "ID - - -"),
    ]);
}

#[test]
fn clusters_in_containers_and_containers_in_pods() {
    let kind = "/docker/<OUTER>/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                kubelet-kubepods-burstable-pod<UNDER>.slice/cri-containerd-<ID>.scope";
    hold(&[
        (kind, "ID containerd UID -"),
        ("/docker/<OUTER>/kubelet/kubepods/besteffort/pod<UID>/<ID>", "ID - UID -"),
        ("/docker/<OUTER>/kubepods/burstable/pod<UID>/<ID>", "ID - UID -"),
        ("/system.slice/k3s.service/kubepods/pod<UID>/<ID>", "ID - UID -"),
        ("/kubepods/burstable/pod<UID>/<OUTER>/docker/<ID>", "ID docker UID -"),
        ("/system.slice/containerd.service/kubepods-pod<UNDER>.slice:cri-containerd:<ID>", "ID containerd UID -"),
        ("/docker/<OUTER>/system.slice/kubelet.service", "OUTER docker - kubelet.service"),
    ]);
}

#[test]
fn units_and_machines_of_systemd_and_lxc() {
    hold(&[
        ("/system.slice/vllm.service", "- - - vllm.service"),
        ("/system.slice/system-vllm.slice/vllm@7b.service", "- - - vllm@7b.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "- - - session-3.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/vllm.service", "- - - vllm.service"),
        ("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "- - - slurmstepd.scope"),
        ("/machine.slice/systemd-nspawn@a\\x2db.service/payload", "a-b systemd-nspawn - -"),
        ("/machine.slice/machine-box.scope/payload/system.slice/x.service", "box systemd-nspawn - x.service"),
        ("/machine.slice/systemd-nspawn@box.service/supervisor", "- - - systemd-nspawn@box.service"),
        ("/lxc.payload.box/system.slice/vllm.service", "box lxc - vllm.service"),
        ("/lxc.monitor.box", "- - - -"),
        ("/lxc/box", "box lxc - -"),
    ]);
}

#[test]
fn seen_from_a_namespace_of_control_groups() {
    hold(&[
        ("/../cri-containerd-<ID>.scope", "ID containerd - -"),
        ("/../../kubepods-burstable-pod<UNDER>.slice/cri-containerd-<ID>.scope", "ID containerd UID -"),
        ("/../../../besteffort/pod<UID>/<ID>", "ID - UID -"),
        ("/../../pod<UID>/<ID>", "ID - UID -"),
        ("/../../../../system.slice/vllm.service", "- - - vllm.service"),
    ]);
}

#[test]
fn what_says_nothing_is_absent() {
    hold(&[("/", "- - - -"), ("/..", "- - - -"), ("/user.slice", "- - - -"), ("/a/b", "- - - -")]);
    for text in ["", "\n", "0", "0::", "::", "0::/\n1:cpu", ":", "0::/é/pod", "0::/é0123456789"] {
        assert_eq!(told(text), "- - - -", "{text:?}");
    }
    let short = ID.get(1..).unwrap();
    let upper = ID.to_uppercase();
    for id in [short, &upper, &format!("{ID}0"), &format!("x{ID}")] {
        hold(&[(&format!("/docker/{id}"), "- - - -")]);
    }
}

#[test]
fn of_several_hierarchies_the_one_that_says_most() {
    let table = [
        ("9:name=systemd:/docker/<ID>\n8:pids:/docker/<ID>\n0::/system.slice/containerd.service\n", "ID docker - -"),
        ("12:memory:/kubepods/burstable/pod<UID>/<ID>\n1:name=systemd:/\n", "ID - UID -"),
        (
            "4:cpu,cpuacct:/user.slice\n1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n",
            "- - - b.service",
        ),
        ("4:cpu,cpuacct:/x.service\n1:name=systemd:/system.slice/a.service\n0::/\n", "- - - a.service"),
        ("4:memory:/process/0123\n1:name=systemd:/\n0::/\n", "- - - -"),
        ("0::/system.slice/docker-<ID>.scope (deleted)\n", "ID docker - -"),
    ];
    for (text, expected) in table {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn a_runtime_has_one_name() {
    use Runtime::*;
    for runtime in [Docker, Containerd, CriO, Podman, Lxc, Nspawn] {
        assert_eq!(serde_json::to_value(runtime).unwrap(), runtime.name());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[0-9a-f:./_\\\\-]{0,200}|\\PC{0,80}") {
        let first = place(&text);
        proptest::prop_assert_eq!(first, place(&text));
    }
}
