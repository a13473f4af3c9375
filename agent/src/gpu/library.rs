//! The file system in; where NVML's library lies, and whether it is still the same file, out.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

/// The name under which the driver installs NVML.
const NAME: &str = "libnvidia-ml.so.1";

/// Where an operator or a cloud puts the driver's libraries for containers, and then the usual folders.
const FOLDERS: [&str; 9] = [
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "/run/nvidia/driver/usr/lib64",
    "/home/kubernetes/bin/nvidia/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/cuda/lib64",
    "/usr/lib",
];

/// What is asked of the dynamic loader: the file of the settings, else the first that is there, else the bare name.
pub fn find(setting: Option<&Path>) -> OsString {
    let file = || FOLDERS.iter().map(|folder| Path::new(folder).join(NAME)).find(|path| path.exists());
    setting.map(Path::to_path_buf).or_else(file).unwrap_or_else(|| NAME.into()).into()
}

/// One file for good: a replaced one differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    path: PathBuf,
    file: Option<(u64, u64, i64, i64)>,
}

impl Identity {
    /// Of what the loader was asked for; `None` where it was a bare name, whose file nobody told.
    pub fn of(library: &Path) -> Option<Self> {
        library.is_absolute().then(|| Self { path: library.to_path_buf(), file: file(library) })
    }

    /// Whether another file lies there now, or none.
    pub fn replaced(&self) -> bool {
        file(&self.path) != self.file
    }
}

/// Links are followed, as the loader does.
fn file(path: &Path) -> Option<(u64, u64, i64, i64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}
