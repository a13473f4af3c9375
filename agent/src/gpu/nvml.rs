//! NVML in, one [`State`] a reading out. Only this room's `nvml` files know `nvml-wrapper`.
//!
//! Every call here may block for as long as the driver likes; [`super::sampler`] gives it a thread of its own.

use crate::clock::Clock as _;
use crate::clock::MonoNs;
use crate::clock::System;
use crate::discover::procfs;
use crate::gpu::Lost;
use crate::gpu::State;
use crate::gpu::counter::Ledger;
use crate::gpu::library;
use crate::gpu::library::Identity;
use crate::gpu::xid::Xids;
use crate::ident::Pid;
use events::Watch;
use gpu::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::mem;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

mod ask;
mod counters;
mod events;
mod gpm;
mod gpu;
mod health;
mod mig;
mod now;
mod processes;
mod raw;

/// `NVML_ERROR_GPU_NOT_FOUND`, which the wrapper has no name for.
const GPU_NOT_FOUND: u32 = 28;

/// Between two looks at which GPUs there are and how they stand.
const NOW_EVERY: Duration = Duration::from_secs(1);

/// Settings of the GPU side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether to look for GPUs at all.
    pub enabled: bool,
    /// The NVML library; `None` is `libnvidia-ml.so.1` where drivers put it, or as the dynamic loader finds it.
    pub library: Option<PathBuf>,
    /// Between two readings of the fast tier.
    pub interval: Duration,
}

impl Config {
    /// Between two readings of the fast tier, unless a setting says so.
    pub const INTERVAL: Duration = Duration::from_millis(100);
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, library: None, interval: Self::INTERVAL }
    }
}

/// Why NVML gives nothing, as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library is not there, is no NVML, or refuses to start.
    #[error("NVML ({library}) cannot be used: {source}")]
    Open {
        /// What was asked of the dynamic loader.
        library: String,
        /// What NVML or the loader said.
        source: NvmlError,
    },
    /// The library can be started and not be stopped, so it is no NVML.
    #[error("NVML ({library}) cannot be used: it has no nvmlShutdown")]
    Unstoppable {
        /// What was asked of the dynamic loader.
        library: String,
    },
    /// The session is over; a new one may work.
    #[error("NVML stopped answering: {0}")]
    Session(#[from] NvmlError),
    /// Another driver was installed under the running session.
    #[error("NVML's library was replaced on disk, as by an upgrade of the driver")]
    Replaced,
}

/// What outlives a session.
#[derive(Debug, Default)]
pub struct Memory {
    ledger: Ledger,
    xids: Xids,
    sessions: u64,
}

/// A session with NVML, from init to shutdown.
pub struct Source {
    nvml: Arc<Nvml>,
    number: u64,
    library: Option<Identity>,
    driver: Option<String>,
    gpus: BTreeMap<u32, Gpu>,
    /// GPUs that are left out, and why: said once in the log, not at each reading.
    lost: BTreeMap<u32, Lost>,
    looked: Option<MonoNs>,
    watch: Option<Watch>,
}

impl Source {
    /// Loads the library and starts NVML.
    pub fn open(config: &Config, memory: &mut Memory) -> Result<Self, Error> {
        let library = library::find(config.library.as_deref());
        let named = || library.to_string_lossy().into_owned();
        let nvml =
            Nvml::builder().lib_path(&library).init().map_err(|source| Error::Open { library: named(), source })?;
        if nvml.lib().nvmlShutdown.is_err() {
            // The wrapper's destructor would panic on the missing symbol.
            mem::forget(nvml);
            return Err(Error::Unstoppable { library: named() });
        }
        memory.sessions += 1;
        let driver = nvml.sys_driver_version().ok();
        let library = Identity::of(Path::new(&library)).or_else(mapped);
        Ok(Self {
            nvml: Arc::new(nvml),
            number: memory.sessions,
            library,
            driver,
            gpus: BTreeMap::new(),
            lost: BTreeMap::new(),
            looked: None,
            watch: None,
        })
    }

    /// Reads what is due of every GPU. A GPU that is lost is left out; after an error the session is to be dropped.
    pub fn read(&mut self, at: MonoNs, memory: &mut Memory) -> Result<State, Error> {
        let began = System.now();
        if self.looked.is_none_or(|looked| at >= looked.plus(NOW_EVERY)) {
            self.looked = Some(at);
            if self.library.as_ref().is_some_and(Identity::replaced) {
                return Err(Error::Replaced);
            }
            self.look()?;
        }
        for event in self.watch.iter().flat_map(Watch::events) {
            memory.xids.take(event);
        }
        let mut samples = Vec::new();
        let mut lost = Vec::new();
        for (index, gpu) in &mut self.gpus {
            match gpu.read(&self.nvml, at, began, self.number, memory) {
                Ok(sample) => {
                    self.lost.remove(index);
                    samples.push(sample);
                }
                Err(error) if ends_session(&error) => return Err(Error::Session(error)),
                Err(error) => lost.push((*index, error.to_string())),
            }
        }
        for (index, why) in lost {
            self.lose(index, why);
        }
        for lost in self.lost.values_mut() {
            lost.xids = lost.uuid.as_deref().map(|uuid| memory.xids.of(uuid)).unwrap_or_default();
        }
        Ok(State::Present { driver: self.driver.clone(), gpus: samples, lost: self.lost.values().cloned().collect() })
    }

    /// Whether a GPU was left out of the last reading, and whether every one was.
    pub fn lost(&self) -> (bool, bool) {
        (!self.lost.is_empty(), !self.lost.is_empty() && self.gpus.is_empty())
    }

    /// Ends the session. While the answer can be upgraded a thread still holds NVML, and a new session would only
    /// be the old one again.
    pub fn close(self) -> Weak<Nvml> {
        Arc::downgrade(&self.nvml)
    }

    /// Which GPUs there are, and who they are.
    fn look(&mut self) -> Result<(), Error> {
        let count = self.nvml.device_count()?;
        self.gpus.retain(|index, _| *index < count);
        self.lost.retain(|index, _| *index < count);
        for index in 0..count {
            match self.nvml.device_by_index(index).and_then(|device| device.uuid()) {
                Ok(uuid) if self.gpus.get(&index).is_some_and(|gpu| gpu.uuid() == uuid) => {}
                Ok(uuid) => drop(self.gpus.insert(index, Gpu::new(index, uuid))),
                Err(error) if ends_session(&error) => return Err(Error::Session(error)),
                Err(error) => self.lose(index, error.to_string()),
            }
        }
        let mut known = self.gpus.values().map(Gpu::uuid);
        if self.watch.as_ref().is_none_or(|watch| known.any(|uuid| !watch.knows(uuid))) {
            let gpus = self.gpus.iter().map(|(index, gpu)| (*index, gpu.uuid().to_owned())).collect();
            self.watch = Watch::start(&self.nvml, gpus);
        }
        Ok(())
    }

    fn lose(&mut self, index: u32, why: String) {
        let gpu = self.gpus.remove(&index);
        let lost = self.lost.entry(index).or_insert(Lost {
            index,
            uuid: None,
            name: None,
            why: String::new(),
            xids: Arc::default(),
        });
        lost.why = why;
        if let Some(gpu) = gpu {
            lost.uuid = Some(gpu.uuid().to_owned());
            lost.name = gpu.name().or_else(|| lost.name.take());
        }
    }
}

/// The library that the loader found for a bare name.
fn mapped() -> Option<Identity> {
    let files = procfs::mapped_files(Pid(process::id()));
    let library = files
        .keys()
        .map(Path::new)
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvidia-ml.so")))?;
    Identity::of(&library.with_file_name("libnvidia-ml.so.1"))
}

fn loses_gpu(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::UnexpectedVariant(GPU_NOT_FOUND))
}

fn ends_session(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}
