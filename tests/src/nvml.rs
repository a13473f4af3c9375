//! A scenario in; the stub NVML that plays it out.

use crate::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;

/// What the agent is to load from the folder.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// Puts the stub with its scenario into the folder.
pub fn install(scratch: &Scratch, scenario: &str) -> Result<()> {
    // Cargo leaves the stub beside each test, since the package depends on it.
    let stub = std::env::current_exe()?.with_file_name("libnvml_stub.so");
    std::fs::write(scratch.file(&format!("{LIBRARY}.toml")), scenario)?;
    std::fs::copy(&stub, scratch.file(LIBRARY)).with_context(|| stub.display().to_string())?;
    Ok(())
}
