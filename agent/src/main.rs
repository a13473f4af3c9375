//! The command line in, an exit code out: 0 done, 1 failed, 64 a wrong setting, 69 a kernel that refuses.

use std::process::ExitCode;
use tachograph::attach::object::ObjectError;
use tachograph::check;
use tachograph::config;
use tachograph::config::Args;
use tachograph::config::Command;
use tachograph::config::Config;
use tachograph::kit;
use tachograph::run;
use tachograph::run::record::Content;
use tracing_subscriber::EnvFilter;

const EXIT_KERNEL: u8 = 69;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // Where nothing can be printed there is nobody to tell.
            let _unprinted = error.print();
            return ExitCode::from(config::exit_code(&error));
        }
    };
    let config = match Config::load(args.flags(), &config::Around::system()) {
        Ok(config) => config,
        Err(error) => return complain(config::EXIT_USAGE, &error.into()),
    };
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_bad| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match args.command {
        Command::Run { .. } => run::run(config),
        Command::Check { .. } => check::run(&config),
        Command::Record { out, seconds, with_content, .. } => {
            let content = if with_content { Content::Kept } else { Content::Masked };
            run::record::record(&config, &out, seconds, content)
        }
        Command::Generate { what, out, layout, .. } => kit::run(&config.kit(layout), what, &out),
        Command::Pages { out, .. } => config::pages::write(&out),
        Command::Replay { file, .. } => run::replay::replay(&config, &file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ObjectError>() => complain(EXIT_KERNEL, &error),
        Err(error) if error.is::<kit::Error>() => complain(config::EXIT_USAGE, &error),
        Err(error) => complain(1, &error),
    }
}

fn complain(code: u8, error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let _unprinted = writeln!(std::io::stderr(), "tachograph: {error:#}");
    ExitCode::from(code)
}
