//! The environment in; a Python that can run the stand-in engine out, or why there is none.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

const VARIABLE: &str = "TACHOGRAPH_STANDIN_PYTHON";
const NEEDS: &str = "import httptools, msgspec, setproctitle, uvicorn, uvloop, zmq";

/// A Python with the packages of `standin/requirements.txt`.
#[derive(Debug, Clone)]
pub struct Python(PathBuf);

impl Python {
    /// The one that `TACHOGRAPH_STANDIN_PYTHON` names, else `python3`.
    pub fn find() -> Result<Self, String> {
        let path = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let tried = Command::new(&path).args(["-c", NEEDS]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            Ok(Self(path))
        } else {
            Err(format!(
                "{} lacks the packages of tests/standin/requirements.txt; name another Python in {VARIABLE}",
                path.display()
            ))
        }
    }

    /// It, ready for arguments.
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }

    /// `python -m standin`, ready for arguments.
    pub fn standin(&self) -> Command {
        let mut command = self.command();
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).args(["-m", "standin"]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}
