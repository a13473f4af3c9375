//! A scenario in; the stub NVML that plays it out.

use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;

/// Puts the stub with its scenario beside it into this place, which is what the agent is to load.
pub fn install(library: &Path, scenario: &str) -> Result<()> {
    // Cargo leaves the stub beside each test, since the package depends on it.
    let stub = std::env::current_exe()?.with_file_name("libnvml_stub.so");
    let mut beside = library.as_os_str().to_owned();
    beside.push(".toml");
    std::fs::write(PathBuf::from(beside), scenario)?;
    std::fs::copy(&stub, library).with_context(|| stub.display().to_string())?;
    Ok(())
}
