#!/usr/bin/env python3
"""A command of the agent and its TACHOGRAPH_* variables in; the same in a container by crun, as a node would run it.

IMAGE_ROOT is the image's root, IMAGE_BUNDLE a folder for the container's settings, IMAGE_CAPABILITIES what the chart
adds, IMAGE_BPF whether the runtime's filter lets bpf() through with CAP_BPF, as containerd's does: that of Debian's
containers-common, which is the pattern here, wants CAP_SYS_ADMIN.
"""

import json
import os
import sys

PROFILE = "/usr/share/containers/seccomp.json"
capabilities = [f"CAP_{name}" for name in os.environ["IMAGE_CAPABILITIES"].split()]
bundle = os.environ["IMAGE_BUNDLE"]


def holds(rule):
    """Whether a rule of the profile is for these capabilities and this processor."""
    needs, unless = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        set(needs.get("caps", [])) <= set(capabilities)
        and not set(unless.get("caps", [])) & set(capabilities)
        and "amd64" in needs.get("arches", ["amd64"])
        and "amd64" not in unless.get("arches", [])
    )


def seccomp():
    with open(PROFILE, encoding="utf-8") as text:
        profile = json.load(text)
    kept = ("names", "action", "args", "errnoRet")
    rules = [{key: rule[key] for key in kept if rule.get(key)} for rule in profile["syscalls"] if holds(rule)]
    if os.environ["IMAGE_BPF"] == "yes" and "CAP_BPF" in capabilities:
        for rule in rules:
            rule["names"] = [name for name in rule["names"] if name != "bpf"]
        rules.append({"names": ["bpf"], "action": "SCMP_ACT_ALLOW"})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }


def mounts():
    hard = ["nosuid", "noexec", "nodev"]
    yield {"destination": "/proc", "type": "proc", "source": "proc", "options": hard}
    yield {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}
    yield {"destination": "/sys", "type": "none", "source": "/sys", "options": [*hard, "rbind", "ro"]}
    settings = os.path.join(bundle, "settings")
    yield {"destination": "/etc/tachograph", "type": "bind", "source": settings, "options": ["bind", "ro"]}


# The node's processes, and its network too: the test speaks to the agent and its engines over the loopback address.
config = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["/usr/bin/tachograph", *sys.argv[1:]],
        "env": [f"{name}={value}" for name, value in os.environ.items() if name.startswith("TACHOGRAPH_")],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {group: capabilities for group in ("bounding", "effective", "permitted")},
    },
    "root": {"path": os.environ["IMAGE_ROOT"], "readonly": True},
    "mounts": list(mounts()),
    "linux": {
        "namespaces": [{"type": kind} for kind in ("mount", "ipc", "uts")],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "seccomp": seccomp(),
    },
}
with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as text:
    json.dump(config, text)

# crun takes no node with both kinds of control groups, and needs none of them here.
crun = f'mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled --root "{bundle}/state"'
start = f'{crun} run --bundle "{bundle}" tachograph-{os.getpid()}'
os.execvp("unshare", ["unshare", "--mount", "sh", "-c", start])
