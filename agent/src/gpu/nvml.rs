//! NVML in, one [`State`] a reading out. This is the only file that knows `nvml-wrapper`.
//!
//! Every call here may block for as long as the driver likes; [`super::sampler`] gives it a thread of its own.

use crate::clock::MonoNs;
use crate::gpu::Sample;
use crate::gpu::State;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem;
use std::path::PathBuf;

/// The name under which the driver installs NVML.
const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";

/// `NVML_ERROR_GPU_NOT_FOUND`, which the wrapper has no name for.
const GPU_NOT_FOUND: u32 = 28;

/// Settings of the GPU side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether to look for GPUs at all.
    pub enabled: bool,
    /// The NVML library; `None` is `libnvidia-ml.so.1`, found as the dynamic loader finds libraries.
    pub library: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, library: None }
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
    /// There are GPUs, and none of them answers.
    #[error("none of {count} GPUs answers; GPU {index}: {why}")]
    AllLost {
        /// How many there are.
        count: u32,
        /// One of them.
        index: u32,
        /// What it said.
        why: String,
    },
}

/// A session with NVML, from init to shutdown.
pub struct Source {
    nvml: Nvml,
    driver: Option<String>,
    /// GPUs that are left out, and why: said once in the log, not at each reading.
    lost: BTreeMap<u32, String>,
}

impl Source {
    /// Loads the library and starts NVML.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let library = config.library.as_deref().map_or(OsStr::new(DEFAULT_LIBRARY), |path| path.as_os_str());
        let named = || library.to_string_lossy().into_owned();
        let nvml =
            Nvml::builder().lib_path(library).init().map_err(|source| Error::Open { library: named(), source })?;
        if nvml.lib().nvmlShutdown.is_err() {
            // The wrapper's destructor would panic on the missing symbol.
            mem::forget(nvml);
            return Err(Error::Unstoppable { library: named() });
        }
        let driver = nvml.sys_driver_version().ok();
        Ok(Self { nvml, driver, lost: BTreeMap::new() })
    }

    /// Reads every GPU once. A GPU that is lost is left out; after an error the session is to be dropped.
    pub fn read(&mut self, at: MonoNs) -> Result<State, Error> {
        let count = self.nvml.device_count()?;
        let mut gpus = Vec::new();
        for index in 0..count {
            match self.read_gpu(index, at) {
                Ok(sample) => {
                    self.lost.remove(&index);
                    gpus.push(sample);
                }
                Err(error) if ends_session(&error) => return Err(Error::Session(error)),
                Err(error) => self.lose(index, error.to_string()),
            }
        }
        match self.lost.first_key_value() {
            Some((&index, why)) if gpus.is_empty() => Err(Error::AllLost { count, index, why: why.clone() }),
            _ => Ok(State::Present { driver: self.driver.clone(), gpus }),
        }
    }

    /// Whether a GPU was left out of the last reading.
    pub fn lost_some(&self) -> bool {
        !self.lost.is_empty()
    }

    fn lose(&mut self, index: u32, why: String) {
        if !self.lost.contains_key(&index) {
            tracing::warn!(gpu = index, %why, "GPU left out");
        }
        self.lost.insert(index, why);
    }

    fn read_gpu(&self, index: u32, at: MonoNs) -> Result<Sample, NvmlError> {
        let device = self.nvml.device_by_index(index)?;
        let uuid = device.uuid()?;
        let name = told(device.name())?;
        let memory = told(device.memory_info())?;
        let busy = told(device.utilization_rates())?;
        Ok(Sample {
            index,
            uuid,
            name,
            at,
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            utilization: busy.as_ref().and_then(|busy| share(busy.gpu)),
            memory_utilization: busy.as_ref().and_then(|busy| share(busy.memory)),
            ..Sample::default()
        })
    }
}

/// A share from NVML's percent; what is no percentage is no measurement.
fn share(percent: u32) -> Option<f64> {
    (percent <= 100).then(|| f64::from(percent) / 100.0)
}

/// One field: not supported, not permitted or not ready costs the field only; a lost GPU costs the whole reading.
fn told<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if loses_gpu(&error) || ends_session(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn loses_gpu(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::UnexpectedVariant(GPU_NOT_FOUND))
}

fn ends_session(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}
