//! The text of `/proc/PID/cgroup` in, the [`Place`] of the process out: its container, pod and unit, by the names that
//! runtimes give control groups.
//!
//! What is read from the inside out, so of containers in containers the innermost counts. Parts that lead above the
//! reader's own namespace of control groups (`/../..`) say nothing and are passed over.

use serde::Serialize;

#[cfg(test)]
mod tests;

/// Digits of the ids that runtimes draw.
const ID_DIGITS: usize = 64;
/// Groups of digits in a UUID.
const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
/// Digits of a static pod's uid, which is the hash of its file.
const HASH_DIGITS: usize = 32;

/// Where a process runs. All absent where its control groups do not say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Place {
    /// The innermost container.
    pub container: Option<Container>,
    /// The uid of its pod, as the API server writes it; for a static pod the hash that the kubelet gave it, which the
    /// API server knows as the annotation `kubernetes.io/config.hash`.
    pub pod_uid: Option<String>,
    /// The innermost service or scope of systemd that is no container's own.
    pub unit: Option<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Container {
    /// Its id, 64 hexadecimal digits; the name where the runtime draws none (LXC, nspawn).
    pub id: String,
    /// Who runs it; absent where the name of the control group does not say.
    pub runtime: Option<Runtime>,
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Runtime {
    /// Docker.
    #[serde(rename = "docker")]
    Docker,
    /// containerd, for Kubernetes or nerdctl.
    #[serde(rename = "containerd")]
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    CriO,
    /// Podman.
    #[serde(rename = "podman")]
    Podman,
    /// LXC, LXD, Incus.
    #[serde(rename = "lxc")]
    Lxc,
    /// systemd-nspawn.
    #[serde(rename = "systemd-nspawn")]
    Nspawn,
}

impl Runtime {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
        }
    }

    /// By what stands before the id.
    fn of_prefix(prefix: &str) -> Option<Self> {
        Some(match prefix {
            "docker" => Self::Docker,
            "cri-containerd" | "nerdctl" => Self::Containerd,
            "crio" => Self::CriO,
            "libpod" | SPLIT => Self::Podman,
            _ => return None,
        })
    }
}

/// What Podman calls a container's group below the unit that runs it, as Quadlet's do.
const SPLIT: &str = "libpod-payload";

/// What one part of a path says.
enum Part {
    Container(Container),
    /// A container that its unit was made for.
    Payload(Container),
    Pod(String),
    Unit(String),
}

impl Place {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// How much is known: a container more than a pod, a pod more than a unit.
    fn weight(&self) -> (bool, bool, bool) {
        (self.container.is_some(), self.pod_uid.is_some(), self.unit.is_some())
    }
}

/// The place that these control groups name: of several hierarchies the one that says most, and of those that say as
/// much the unified one, then systemd's own.
pub fn place(text: &str) -> Place {
    let mut lines: Vec<(u8, &str)> = text.lines().filter_map(hierarchy).collect();
    lines.sort_by_key(|(rank, _)| *rank);
    let mut best = Place::default();
    for (_, path) in lines {
        let place = of_path(path);
        if place.weight() > best.weight() {
            best = place;
        }
    }
    best
}

/// The rank of a line's hierarchy, and its path.
fn hierarchy(line: &str) -> Option<(u8, &str)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let rank = match controllers {
        "" => 0,
        "name=systemd" => 1,
        _ => 2,
    };
    Some((rank, path.strip_suffix(" (deleted)").unwrap_or(path)))
}

fn of_path(path: &str) -> Place {
    let mut names: Vec<String> = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty() && *name != "..") {
        // What runc made of systemd's notation `slice:prefix:id` where its driver was another.
        match name.splitn(3, ':').collect::<Vec<_>>()[..] {
            [slice, prefix, id] => names.extend([slice.to_owned(), format!("{prefix}-{id}")]),
            _ => names.push(name.to_owned()),
        }
    }
    let mut place = Place::default();
    // A unit around a container is the runtime's own, but where the container was made for the unit.
    let mut units = true;
    for (at, name) in names.iter().enumerate().rev() {
        let outer = at.checked_sub(1).and_then(|at| names.get(at)).map_or("", String::as_str);
        let inner = names.get(at + 1).map_or("", String::as_str);
        match part(outer, name, inner) {
            Some(Part::Container(it)) => {
                place.container.get_or_insert(it);
                units = false;
            }
            Some(Part::Payload(it)) => {
                units = place.container.is_none();
                place.container.get_or_insert(it);
            }
            Some(Part::Pod(uid)) => {
                place.pod_uid.get_or_insert(uid);
            }
            Some(Part::Unit(unit)) if units => {
                place.unit.get_or_insert(unit);
            }
            Some(Part::Unit(_)) | None => {}
        }
    }
    place
}

fn part(outer: &str, name: &str, inner: &str) -> Option<Part> {
    if let Some(uid) = pod(name) {
        return Some(Part::Pod(uid));
    }
    if let Some((prefix, id)) = drawn(name) {
        // Who watches a container stands beside it, with its id.
        if prefix.ends_with("conmon") {
            return None;
        }
        let prefix = if prefix.is_empty() { outer } else { prefix };
        let container = Container { id: id.to_owned(), runtime: Runtime::of_prefix(prefix) };
        return Some(if prefix == SPLIT { Part::Payload(container) } else { Part::Container(container) });
    }
    if let Some((name, runtime)) = named(outer, name, inner) {
        return Some(Part::Container(Container { id: unescaped(name), runtime: Some(runtime) }));
    }
    let unit = [".service", ".scope"].iter().any(|kind| name.ends_with(kind));
    unit.then(|| Part::Unit(name.to_owned()))
}

/// `podUID` of the kubelet itself, and `…-podUID.slice` where systemd makes the group.
fn pod(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").map_or(name, |slice| slice.rsplit('-').next().unwrap_or(slice));
    let uid = name.strip_prefix("pod")?.replace('_', "-");
    let groups: Vec<usize> = uid.split('-').map(str::len).collect();
    let fits = groups == UUID_GROUPS || groups == [HASH_DIGITS];
    (fits && uid.split('-').all(is_hex)).then_some(uid)
}

/// `ID`, `PREFIX-ID` or `PREFIX-ID.scope`: the prefix and an id that a runtime drew.
fn drawn(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID_DIGITS)?)?;
    let prefix = if prefix.is_empty() { prefix } else { prefix.strip_suffix('-')? };
    is_hex(id).then_some((prefix, id))
}

/// Containers that have a name only.
fn named<'a>(outer: &str, name: &'a str, inner: &str) -> Option<(&'a str, Runtime)> {
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some((name, Runtime::Lxc));
    }
    if outer == "lxc" {
        return Some((name, Runtime::Lxc));
    }
    let machine = match name.strip_prefix("systemd-nspawn@") {
        Some(rest) => rest.strip_suffix(".service")?,
        None if outer == "machine.slice" && inner == "payload" => {
            name.strip_prefix("machine-")?.strip_suffix(".scope")?
        }
        None => return None,
    };
    // nspawn itself stays outside.
    (inner != "supervisor").then_some((machine, Runtime::Nspawn))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// systemd writes `\x2d` for a dash in a name.
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-")
}
