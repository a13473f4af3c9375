//! The embedded object in, loaded programs out; each program loads on its own.

use super::Kernel;
use super::Outcome;
use super::group;
use super::multi;
use super::plan::Probe;
use super::plan::Skip;
use agent_ebpf::limits;
use agent_ebpf::map::Call;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::ConnState;
use agent_ebpf::map::LastRead;
use agent_ebpf::map::TargetState;
use agent_ebpf::map::TlsConn;
use agent_ebpf::map::TlsKey;
use agent_ebpf::map::ZmqThread;
use agent_ebpf::map::pid_of_thread;
use aya::Ebpf;
use aya::EbpfLoader;
use aya::Pod;
use aya::VerifierLogLevel;
use aya::maps::HashMap;
use aya::maps::Map;
use aya::maps::MapData;
use aya::maps::PerCpuArray;
use aya::maps::RingBuf;
use aya::programs::RawTracePoint;
use aya::programs::UProbe;
use aya::programs::uprobe::UProbeAttachLocation;
use aya::programs::uprobe::UProbeAttachPoint;
use aya::programs::uprobe::UProbeLink;
use aya::programs::uprobe::UProbeScope;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use thiserror::Error;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"));

const UPROBES: [&str; 9] =
    ["socket_flat", "socket_vector", "socket_life", "tls", "zmq_send", "zmq_recv", "zmq_data", "loaded", "empty"];
const TRACEPOINTS: [(&str, &str); 3] =
    [("forked", "sched_process_fork"), ("execed", "sched_process_exec"), ("exited", "sched_process_exit")];

/// Why nothing can be traced at all.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The agent was built without its programs.
    #[error("this build has no eBPF programs in it: build it with `cargo xtask build`")]
    Stub,
    /// The kernel refused maps or the object as a whole.
    #[error("the kernel refused the eBPF object: {0}")]
    Load(String),
}

/// What the loader is told.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Bytes of the ring, a power of two and whole pages.
    pub ring_bytes: u32,
    /// Whether each loss is kept by connection, which only tests read.
    pub keep_losses: bool,
    /// How probes are attached.
    pub way: Way,
}

/// How probes are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One link for all places of a program in a file, from kernel 6.6 on.
    Links,
    /// A perf event for each place, for which the kernel wants CAP_SYS_ADMIN and a tenth of a second at its end.
    Events,
}

impl Way {
    /// The better one that this kernel has; where this process may not ask, the one that takes less.
    pub fn offered() -> Self {
        if multi::offered().unwrap_or(true) { Self::Links } else { Self::Events }
    }
}

/// What holds attached probes.
pub enum Link {
    /// Of one program in one file.
    Many(OwnedFd),
    /// Of one place.
    One(UProbeLink),
}

/// The loaded programs and their maps.
pub struct Object {
    bpf: Ebpf,
    /// The uprobes, where they are not aya's.
    multi: Option<multi::Programs>,
    targets: HashMap<MapData, u32, TargetState>,
    kept: Kept,
    skips: Vec<Skip>,
}

/// What the kernel side keeps of the processes it traces.
struct Kept {
    conns: HashMap<MapData, ConnKey, ConnState>,
    sessions: HashMap<MapData, TlsKey, TlsConn>,
    last_reads: HashMap<MapData, u64, LastRead>,
    calls: HashMap<MapData, u64, Call>,
    zmq_threads: HashMap<MapData, u64, ZmqThread>,
}

/// All that loading gives.
pub struct Loaded {
    /// The programs.
    pub object: Object,
    /// The ring.
    pub ring: RingBuf<MapData>,
    /// The kernel side's counts.
    pub counts: Counts,
    /// The tables that number the records.
    pub numbering: Numbering,
}

/// Where the kernel side keeps the next number of each connection and engine thread.
pub struct Numbering {
    /// Connections.
    pub conns: HashMap<MapData, ConnKey, ConnState>,
    /// Engine threads.
    pub zmq_threads: HashMap<MapData, u64, ZmqThread>,
}

/// The kernel side's counts.
pub struct Counts(PerCpuArray<MapData, u64>);

impl Counts {
    /// The sum over all CPUs of one place (`agent_ebpf::map::count`).
    pub fn get(&self, place: u32) -> u64 {
        self.0.get(&place, 0).map_or(0, |values| values.iter().sum())
    }
}

/// Whether this build carries the programs.
pub fn is_stub() -> bool {
    OBJECT.is_empty()
}

/// An error and its causes; of the verifier's log the verdict.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let whole = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = whole.map(ToString::to_string).collect();
    verdict(&texts.join(": "))
}

/// The first line, and of the verifier's log behind it, which may have thousands, the verdict.
pub(super) fn verdict(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let statistics = ["verification time", "stack depth", "processed"];
    let verdict = lines.iter().rev().find(|line| {
        !line.is_empty() && !line.starts_with(':') && !statistics.iter().any(|word| line.starts_with(word))
    });
    match (lines.first(), verdict) {
        (Some(first), Some(verdict)) if lines.len() > 1 => format!("{first} … {verdict}"),
        _ => text.to_owned(),
    }
}

impl Object {
    /// Loads everything; programs that the kernel refuses become [`Skip`]s.
    ///
    /// # Errors
    ///
    /// There are no programs in this build, or the kernel takes none of the maps.
    pub fn load(config: Config) -> Result<Loaded, ObjectError> {
        if is_stub() {
            return Err(ObjectError::Stub);
        }
        let keep_losses = u8::from(config.keep_losses);
        let mut bpf = EbpfLoader::new()
            .map_max_entries("EVENTS", config.ring_bytes)
            .map_max_entries("LOSSES", if config.keep_losses { limits::CONNECTIONS } else { 1 })
            .verifier_log_level(VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS)
            .override_global("KEEP_LOSSES", &keep_losses, true)
            .load(OBJECT)
            .map_err(|error| ObjectError::Load(chain(&error)))?;
        let mut skips = Vec::new();
        let multi = match config.way {
            Way::Links => {
                let (programs, refused) =
                    multi::Programs::load(OBJECT, &descriptors(&bpf), &UPROBES).map_err(ObjectError::Load)?;
                skips.extend(refused);
                Some(programs)
            }
            Way::Events => {
                for name in UPROBES {
                    let loaded = program::<UProbe>(&mut bpf, name)
                        .and_then(|program| program.load().map_err(|error| chain(&error)));
                    skips.extend(loaded.err().map(|why| Skip { what: format!("program {name}"), why }));
                }
                None
            }
        };
        for (name, tracepoint) in TRACEPOINTS {
            let attached = program::<RawTracePoint>(&mut bpf, name)
                .and_then(|it| it.load().and_then(|()| it.attach(tracepoint).map(drop)).map_err(|error| chain(&error)));
            if let Err(why) = attached {
                skips.push(Skip { what: format!("raw tracepoint {tracepoint}"), why });
            }
        }
        let numbering = Numbering { conns: again(&bpf, "CONNS")?, zmq_threads: again(&bpf, "ZMQ_THREADS")? };
        let ring = take(&mut bpf, "EVENTS", RingBuf::try_from)?;
        let counts = take(&mut bpf, "COUNTS", PerCpuArray::try_from)?;
        let targets = take(&mut bpf, "TARGETS", HashMap::try_from)?;
        let kept = Kept {
            conns: take(&mut bpf, "CONNS", HashMap::try_from)?,
            sessions: take(&mut bpf, "SESSIONS", HashMap::try_from)?,
            last_reads: take(&mut bpf, "LAST_READ", HashMap::try_from)?,
            calls: take(&mut bpf, "CALLS", HashMap::try_from)?,
            zmq_threads: take(&mut bpf, "ZMQ_THREADS", HashMap::try_from)?,
        };
        let object = Self { bpf, multi, targets, kept, skips };
        Ok(Loaded { object, ring, counts: Counts(counts), numbering })
    }

    /// Programs that the kernel refused.
    pub fn skips(&self) -> &[Skip] {
        &self.skips
    }
}

impl Kernel for Object {
    type Link = Link;

    #[expect(clippy::needless_borrows_for_generic_args, reason = "later versions of aya take references only")]
    fn follow(&mut self, pid: u32, state: TargetState) -> Result<(), String> {
        self.targets.insert(&pid, &state, 0).map_err(|error| chain(&error))
    }

    fn unfollow(&mut self, pid: u32) {
        if self.targets.remove(&pid).is_err() {
            tracing::debug!(pid, "was not followed");
        }
    }

    fn free(&mut self, pid: u32) {
        let Kept { conns, sessions, last_reads, calls, zmq_threads } = &mut self.kept;
        let freed = free(conns, |key| key.pid == pid)
            + free(sessions, |key| key.pid == pid)
            + free(last_reads, |thread| pid_of_thread(*thread) == pid)
            + free(calls, |thread| pid_of_thread(*thread) == pid)
            + free(zmq_threads, |thread| pid_of_thread(*thread) == pid);
        tracing::debug!(pid, freed, "forgotten");
    }

    fn attach<'a>(&mut self, pid: u32, probes: &'a [Probe]) -> Outcome<'a, Link> {
        if let Some(programs) = &self.multi {
            return group::attach(probes, |together| programs.attach(pid, together).map(Link::Many));
        }
        let mut outcome = Outcome { links: Vec::new(), refused: Vec::new() };
        for probe in probes {
            match event(&mut self.bpf, pid, probe) {
                Ok(link) => outcome.links.push(Link::One(link)),
                Err(why) => outcome.refused.push((probe, why)),
            }
        }
        outcome
    }
}

/// A probe by a perf event.
fn event(bpf: &mut Ebpf, pid: u32, probe: &Probe) -> Result<UProbeLink, String> {
    let scope = UProbeScope::OneProcess(NonZeroU32::new(pid).ok_or("pid 0")?);
    let program = program::<UProbe>(bpf, probe.program)?;
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(probe.file_offset),
        cookie: Some(probe.cookie),
    };
    let id = program.attach(point, &probe.path, scope).map_err(|error| chain(&error))?;
    program.take_link(id).map_err(|error| chain(&error))
}

/// The maps by name, as programs name them.
fn descriptors(bpf: &Ebpf) -> std::collections::HashMap<String, RawFd> {
    let of = |map: &Map| match map {
        Map::Array(map) | Map::HashMap(map) | Map::PerCpuArray(map) | Map::RingBuf(map) => {
            Some(map.fd().as_fd().as_raw_fd())
        }
        _ => None,
    };
    bpf.maps().filter_map(|(name, map)| Some((name.to_owned(), of(map)?))).collect()
}

/// Removes the entries whose key fits; gives how many there were.
fn free<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, fits: impl Fn(&K) -> bool) -> usize {
    // A key that leaves under the walk makes it begin again: so many steps show all of a full table.
    let steps = 2 * usize::try_from(limits::CONNECTIONS).unwrap_or(usize::MAX);
    let keys: Vec<K> = map.keys().take(steps).filter_map(Result::ok).filter(fits).collect();
    keys.iter().filter(|key| map.remove(*key).is_ok()).count()
}

fn program<'a, P>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    let program = bpf.program_mut(name).ok_or("it is not in the object")?;
    program.try_into().map_err(|_wrong_kind| "it is of another kind".to_owned())
}

/// A second handle of a map, for another thread.
fn again<K: Pod, V: Pod>(bpf: &Ebpf, name: &str) -> Result<HashMap<MapData, K, V>, ObjectError> {
    let Some(Map::HashMap(map)) = bpf.map(name) else {
        return Err(ObjectError::Load(format!("map {name} is not in the object")));
    };
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(|error| ObjectError::Load(chain(&error)))?;
    MapData::from_fd(fd)
        .and_then(|twin| HashMap::try_from(Map::HashMap(twin)))
        .map_err(|error| ObjectError::Load(chain(&error)))
}

fn take<M, E: std::error::Error + 'static>(
    bpf: &mut Ebpf,
    name: &str,
    make: impl FnOnce(Map) -> Result<M, E>,
) -> Result<M, ObjectError> {
    let map = bpf.take_map(name).ok_or_else(|| ObjectError::Load(format!("map {name} is not in the object")))?;
    make(map).map_err(|error| ObjectError::Load(chain(&error)))
}
