//! An agent's process id in; what it holds in the kernel out: its probes, and the processes that its tables know.

use agent_ebpf::map::Call;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::LastRead;
use agent_ebpf::map::TargetState;
use agent_ebpf::map::TlsConn;
use agent_ebpf::map::TlsKey;
use agent_ebpf::map::ZmqThread;
use agent_ebpf::map::pid_of_thread;
use anyhow::Context as _;
use anyhow::Result;
use aya::Pod;
use aya::maps::HashMap;
use aya::maps::Map;
use aya::maps::MapData;
use aya::maps::MapInfo;
use std::collections::BTreeSet;

/// What an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Probes of all processes together.
    pub probes: usize,
    /// Of which kinds they are, in the kernel's words; an older kernel says none.
    pub kinds: BTreeSet<String>,
    /// Processes with a probe, or with an entry in a table of the kernel side, each with the table's name.
    pub entries: BTreeSet<(u32, String)>,
}

impl Held {
    /// By an agent.
    pub fn by(agent: u32) -> Result<Self> {
        let mut held = Self { probes: 0, kinds: BTreeSet::new(), entries: BTreeSet::new() };
        let mut ids = BTreeSet::new();
        for text in descriptors(agent)? {
            let kind = field(&text, "link_type").unwrap_or_default();
            if kind.ends_with("probe_multi") {
                // How many, an older kernel does not say.
                held.probes += field(&text, "uprobe_cnt").and_then(|count| count.parse().ok()).unwrap_or(1);
                held.kinds.insert(kind.to_owned());
                held.entries.extend(field(&text, "pid").and_then(|pid| Some((pid.parse().ok()?, "probes".to_owned()))));
            } else if kind == "perf" {
                held.probes += 1;
                held.kinds.extend(field(&text, "event_type").map(str::to_owned));
                held.entries.extend(probed(&text).map(|pid| (pid, "probes".to_owned())));
            }
            // Several descriptors may be of one map.
            ids.extend(map_id(&text));
        }
        for id in ids {
            let info = MapInfo::from_id(id)?;
            let name = info.name_as_str().unwrap_or_default().to_owned();
            held.entries.extend(processes(&name, id)?.into_iter().map(|pid| (pid, name.clone())));
        }
        Ok(held)
    }
}

/// What the kernel says of each descriptor of an agent.
pub(crate) fn descriptors(agent: u32) -> Result<Vec<String>> {
    let all = std::fs::read_dir(format!("/proc/{agent}/fdinfo")).context("the agent's descriptors")?;
    // One may have been closed since.
    all.map(|descriptor| Ok(std::fs::read_to_string(descriptor?.path()).unwrap_or_default())).collect()
}

/// Whether a descriptor holds probes.
pub(crate) fn is_probe(text: &str) -> bool {
    field(text, "link_type").is_some()
}

/// The map behind a descriptor, if it is one.
pub(crate) fn map_id(text: &str) -> Option<u32> {
    field(text, "map_id")?.parse().ok()
}

/// What the kernel says of a descriptor under one name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The process of a probe: its file was opened below that process's root. An older kernel does not name the file.
fn probed(text: &str) -> Option<u32> {
    field(text, "name")?.strip_prefix("/proc/")?.split('/').next()?.parse().ok()
}

/// The processes that a table of this name has entries of; none for tables that know no processes.
fn processes(name: &str, id: u32) -> Result<BTreeSet<u32>> {
    match name {
        "TARGETS" => keys::<u32, TargetState>(id, |pid| pid),
        "CONNS" => keys::<ConnKey, ConnState>(id, |key| key.pid),
        "SESSIONS" => keys::<TlsKey, TlsConn>(id, |key| key.pid),
        "CALLS" => keys::<u64, Call>(id, pid_of_thread),
        "LAST_READ" => keys::<u64, LastRead>(id, pid_of_thread),
        "ZMQ_THREADS" => keys::<u64, ZmqThread>(id, pid_of_thread),
        _ => Ok(BTreeSet::new()),
    }
}

fn keys<K: Pod, V: Pod>(id: u32, pid: impl Fn(K) -> u32) -> Result<BTreeSet<u32>> {
    let map = HashMap::<_, K, V>::try_from(Map::HashMap(MapData::from_id(id)?))?;
    Ok(map.keys().filter_map(Result::ok).map(pid).collect())
}
