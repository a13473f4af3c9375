//! The folder that `cargo xtask setup` fills in; commands that run what is in it out.

use agent_tests::gate;
use agent_tests::gate::Tools;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// One test at a time: two of them would share the machine's cores and trace each other's engines.
static TURN: Mutex<()> = Mutex::new(());

/// The model of llama-server, below the root of its own.
const MODEL: &str = "/model.gguf";

/// The real programs, for as long as it is this test's turn.
pub(crate) struct Programs {
    /// What every kernel suite works with.
    pub(crate) tools: Tools,
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Programs {
    /// `None` where the suite cannot run.
    pub(crate) fn find() -> Result<Option<Self>> {
        let Some((tools, folder)) = gate::stack()? else { return Ok(None) };
        Ok(Some(Self { tools, folder, _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }))
    }

    /// A script of this suite, with the packages of `requirements.txt`.
    pub(crate) fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join("bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("stack").join(name));
        command
    }

    /// Prometheus.
    pub(crate) fn prometheus(&self) -> Command {
        Command::new(self.folder.join("root/usr/bin/prometheus"))
    }

    /// Prometheus's tool for checks.
    pub(crate) fn promtool(&self) -> Command {
        Command::new(self.folder.join("root/usr/bin/promtool"))
    }

    /// Alertmanager, in a root of its own: it looks for its templates where its package has them. And a directory below
    /// that root, with its path as Alertmanager sees it.
    pub(crate) fn alertmanager(&self) -> Result<(Command, Scratch, PathBuf)> {
        let root = self.folder.join("root");
        let mut command = Command::new("chroot");
        command.arg(&root).arg("/usr/bin/prometheus-alertmanager");
        let scratch = Scratch::below(&root.join("tmp"), "alertmanager")?;
        let seen = Path::new("/").join(scratch.path().strip_prefix(&root)?);
        Ok((command, scratch, seen))
    }

    /// Alertmanager's tool for checks.
    pub(crate) fn amtool(&self) -> Command {
        Command::new(self.folder.join("root/usr/bin/amtool"))
    }

    /// A program that no registry has: from the folder that `TACHOGRAPH_STACK_BIN` names, else from the PATH. Where it
    /// is not there, that is said.
    pub(crate) fn built(name: &str) -> Option<Command> {
        let named = std::env::var_os("TACHOGRAPH_STACK_BIN").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = named.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
        let found = found.into_iter().find(|program| program.is_file());
        if found.is_none() {
            #[expect(clippy::print_stdout, reason = "a program that is left out must be named")]
            {
                println!("left out: {name} is neither in TACHOGRAPH_STACK_BIN nor on the PATH");
            }
        }
        found.map(Command::new)
    }

    /// The OTLP receiver.
    pub(crate) fn rotel(&self) -> Result<Command> {
        let mut python = Command::new(self.folder.join("bin/python"));
        let file = "import pathlib, rotel; print(pathlib.Path(rotel.__file__).with_name('rotel-agent'))";
        Ok(Command::new(output(python.args(["-c", file]))?.trim()))
    }

    /// llama-server with its model, in a root of its own: it needs a newer C library than this system may have.
    pub(crate) fn llama_server(&self) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.folder.join("root")).args(["/usr/bin/llama-server", "-m", MODEL]);
        command
    }
}

/// What a command prints; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}
