//! The capabilities that this process was started with in; only those that recording needs stay.

use crate::attach::object::Way;
use crate::config::Config;
use anyhow::Context as _;
use caps::CapSet;
use caps::Capability;
use caps::CapsHashSet;

/// What recording needs, and for what.
const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "maps and programs"),
    (Capability::CAP_PERFMON, "programs that read other processes"),
    (Capability::CAP_SYS_PTRACE, "files of other processes through /proc/PID/root"),
];

/// Kernel 6.18 refuses them with CAP_PERFMON alone.
const BY_EVENTS: (Capability, &str) = (Capability::CAP_SYS_ADMIN, "uprobes by perf_event_open, before kernel 6.6");

/// What it does without, where no engine lies in a folder that only its own user may enter.
pub const READS: Capability = Capability::CAP_DAC_READ_SEARCH;

/// What recording needs where probes are attached so, and for what.
pub fn needed(way: Way) -> impl Iterator<Item = (Capability, &'static str)> {
    NEEDED.into_iter().chain((way == Way::Events).then_some(BY_EVENTS))
}

/// In which networks engines are asked for their own metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Networks {
    /// The agent's own.
    Own,
    /// Each engine's, which only CAP_SYS_ADMIN may enter.
    Theirs,
}

impl Networks {
    /// As the settings say.
    pub fn of(config: &Config) -> Self {
        if config.scrape.enabled && config.scrape.network_namespaces { Self::Theirs } else { Self::Own }
    }
}

/// What stays, of what is held.
pub fn kept(way: Way, networks: Networks) -> CapsHashSet {
    let enters = (networks == Networks::Theirs).then_some(Capability::CAP_SYS_ADMIN);
    needed(way).map(|(capability, _)| capability).chain([READS]).chain(enters).collect()
}

/// Gives up all other capabilities, for good. To be called before there are threads: each has its own.
///
/// # Errors
///
/// The kernel refuses.
pub fn give_up(way: Way, networks: Networks) -> anyhow::Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("cannot read the capabilities")?;
    let stay: CapsHashSet = kept(way, networks).intersection(&held).copied().collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all().difference(&stay) {
            // One that this kernel does not know is not held either.
            let _unknown = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).with_context(|| format!("cannot clear the set {set:?}"))?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &stay).with_context(|| format!("cannot lower the set {set:?}"))?;
    }
    Ok(())
}
