//! The command line's definition in; its manual pages and the completions of shells out, for packages.

use crate::config::Args;
use anyhow::Context as _;
use anyhow::Result;
use clap::Command;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::fs;
use std::io::Write as _;
use std::path::Path;

const NAME: &str = "tachograph";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// What a manual says of a program beside its flags.
const MORE: &str = r#".SH ENVIRONMENT
Each setting \fB\-\-otlp\-endpoint\fR is also a variable \fBTACHOGRAPH_OTLP_ENDPOINT\fR and a key \fBotlp.endpoint\fR of
the settings file. A flag wins over the environment, that over the file, that over the default.
.SH FILES
.TP
\fI/etc/tachograph/tachograph.toml\fR
Settings; read where it is there and no other is named by \fB\-\-config\fR.
.TP
\fI/etc/tachograph/tachograph.env\fR
Variables that the unit of systemd gives to the agent.
.SH "EXIT STATUS"
0 done, 1 failed, 64 a setting that cannot be used, 69 a kernel that refuses what the probes need.
.SH EXAMPLES
.TP
\fBtachograph check\fR
What the agent needs, what is there, and what to do about the rest.
.TP
\fBcurl http://127.0.0.1:9478/metrics\fR
What a running agent tells Prometheus.
"#;

/// The command line without what is hidden, which completions would offer.
fn shown() -> Command {
    let whole = Args::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new(NAME).version(env!("CARGO_PKG_VERSION")).about(env!("CARGO_PKG_DESCRIPTION")).subcommands(shown)
}

/// Writes `man/` and `completions/` below `out`.
///
/// # Errors
/// What cannot be written.
pub fn write(out: &Path) -> Result<()> {
    let [man, completions] = ["man", "completions"].map(|folder| out.join(folder));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    clap_mangen::generate_to(shown(), &man)?;
    fs::OpenOptions::new().append(true).open(man.join("tachograph.1"))?.write_all(MORE.as_bytes())?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut shown(), NAME, &completions)?;
    }
    Ok(())
}
