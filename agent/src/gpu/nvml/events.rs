//! NVML's events in; critical errors (XIDs) out, by a thread of their own, and into the log.

use crate::clock::Clock as _;
use crate::clock::System;
use crate::gpu::nvml::ends_session;
use crate::gpu::nvml::raw;
use crate::gpu::xid::Event;
use nvml_wrapper::EventSet;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// One wait. The thread notices after it that it is no longer wanted.
const WAIT_MS: u32 = 1_000;
/// After a wait that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The code that NVML gives where it has none.
const UNKNOWN_XID: u64 = 999;

/// The thread that waits for events; it ends within a second of the other side.
pub(super) struct Watch {
    gpus: BTreeSet<String>,
    events: Receiver<Event>,
    _wanted: Arc<()>,
}

impl Watch {
    /// `None` where this NVML has no events that can be let go of again.
    pub(super) fn start(nvml: &Arc<Nvml>, gpus: BTreeMap<u32, String>) -> Option<Self> {
        let lib = nvml.lib();
        // The wrapper's destructor of a set of events would panic on the missing symbol.
        if gpus.is_empty() || lib.nvmlEventSetFree.is_err() || lib.nvmlEventSetWait_v2.is_err() {
            return None;
        }
        let (send, events) = channel();
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let names = gpus.values().cloned().collect();
        let nvml = Arc::clone(nvml);
        let thread = thread::Builder::new().name("nvml-events".to_owned());
        let wanted_still = move || still.strong_count() > 0;
        let spawned = thread.spawn(move || wait(&nvml, &gpus, &send, wanted_still));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for the events of GPUs");
            return None;
        }
        Some(Self { gpus: names, events, _wanted: wanted })
    }

    pub(super) fn knows(&self, uuid: &str) -> bool {
        self.gpus.contains(uuid)
    }

    /// What came since the last call.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter()
    }
}

fn wait(nvml: &Nvml, gpus: &BTreeMap<u32, String>, send: &Sender<Event>, wanted: impl Fn() -> bool) {
    let Some((set, names)) = register(nvml, gpus) else { return };
    while wanted() {
        match set.wait(WAIT_MS) {
            Ok(event) => {
                let code = match event.event_data {
                    Some(XidError::Value(code)) => code,
                    Some(XidError::Unknown) => UNKNOWN_XID,
                    None => continue,
                };
                let Some(gpu) = names.get(&raw::address(&event.device)) else { continue };
                if send.send(Event { gpu: gpu.clone(), code, at: System.now() }).is_err() {
                    return;
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(error) if ends_session(&error) => return,
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// One set for all GPUs that have these events. A refusal costs the set, so it is made again without that GPU.
fn register<'nvml>(
    nvml: &'nvml Nvml,
    gpus: &BTreeMap<u32, String>,
) -> Option<(EventSet<'nvml>, BTreeMap<usize, String>)> {
    let able = |index: &u32| {
        let device = nvml.device_by_index(*index).ok()?;
        device.supported_event_types().ok().filter(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))?;
        Some(device)
    };
    let mut devices: Vec<_> = gpus.iter().filter_map(|(index, uuid)| Some((able(index)?, uuid.clone()))).collect();
    while !devices.is_empty() {
        let mut place = 0;
        let set = devices.iter().enumerate().try_fold(nvml.create_event_set().ok()?, |set, (at, (device, _))| {
            place = at;
            device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()
        });
        if let Some(set) = set {
            let names = devices.into_iter().map(|(device, uuid)| (raw::address(&device), uuid)).collect();
            return Some((set, names));
        }
        devices.remove(place);
    }
    None
}
