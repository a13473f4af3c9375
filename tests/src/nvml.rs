//! A scenario in; the stub NVML that plays it out.

use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;
use std::path::PathBuf;

/// Puts the stub with its scenario beside it into this place, which is what the agent is to load.
pub fn install(library: &Path, scenario: &str) -> Result<()> {
    // Cargo leaves the stub beside each test, since the package depends on it.
    let stub = std::env::current_exe()?.with_file_name("libnvml_stub.so");
    std::fs::write(beside(library, ".toml"), scenario)?;
    std::fs::copy(&stub, library).with_context(|| stub.display().to_string())?;
    Ok(())
}

/// Another scenario for a stub that is at work, all at once.
pub fn replace(library: &Path, scenario: &str) -> Result<()> {
    let new = beside(library, ".new");
    std::fs::write(&new, scenario)?;
    Ok(std::fs::rename(new, beside(library, ".toml"))?)
}

fn beside(library: &Path, ending: &str) -> PathBuf {
    let mut path = library.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}
