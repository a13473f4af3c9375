//! One call on one GPU in; its answer, or nothing, out. Remembers what was refused for good, and what calls cost.

use crate::clock::Clock as _;
use crate::clock::System;
use crate::gpu::Calls;
use crate::gpu::nvml::ends_session;
use crate::gpu::nvml::loses_gpu;
use nvml_wrapper::error::NvmlError;
use std::collections::BTreeMap;

/// What was asked of one GPU since NVML was opened, by call.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<&'static str, Calls>);

/// `NVML_ERROR_DEPRECATED`, which the wrapper has no name for.
const DEPRECATED: u32 = 26;

impl Asked {
    /// An answer costs one field only where there is none: not supported, not permitted or not ready. A lost GPU costs
    /// the whole reading.
    pub(super) fn tell<T>(
        &mut self,
        call: &'static str,
        ask: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Option<T>, NvmlError> {
        if self.refused(call) {
            return Ok(None);
        }
        let began = System.now();
        let answer = ask();
        let took = System.now().since(began).unwrap_or(0);
        let calls = self.0.entry(call).or_default();
        calls.count += 1;
        calls.total_ns = calls.total_ns.saturating_add(took);
        calls.max_ns = calls.max_ns.max(took);
        self.take(call, answer)
    }

    /// The part of a batch that this field got.
    pub(super) fn take<T>(&mut self, call: &'static str, answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
        let error = match answer {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let calls = self.0.entry(call).or_default();
        calls.errors += 1;
        calls.refused = for_good(&error);
        calls.last_error = Some(error.to_string());
        if loses_gpu(&error) || ends_session(&error) { Err(error) } else { Ok(None) }
    }

    /// Whether it need not be asked again.
    pub(super) fn refused(&self, call: &str) -> bool {
        self.0.get(call).is_some_and(|calls| calls.refused)
    }

    /// Forgets refusals: the GPU is another one now.
    pub(super) fn forget(&mut self) {
        self.0.values_mut().for_each(|calls| calls.refused = false);
    }

    pub(super) fn calls(&self) -> &BTreeMap<&'static str, Calls> {
        &self.0
    }
}

fn for_good(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::UnexpectedVariant(DEPRECATED)
    )
}
