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
use tachograph::run::reload::Source;
use tachograph::serve::door;
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
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.log).unwrap_or_else(|_bad| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    let flags = args.flags().clone();
    let source = Source {
        load: Box::new(move || Config::load(&flags, &config::Around::system())),
        log: Box::new(move |lines| {
            // Without the handle's subscriber nothing is logged anyway.
            let _gone = filter(lines).map(|filter| handle.reload(filter));
        }),
    };
    let done = match args.command {
        Command::Run { .. } => run::run(config, source),
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
        Err(error) if error.is::<kit::Error>() || error.is::<door::Unusable>() => complain(config::EXIT_USAGE, &error),
        Err(error) => complain(1, &error),
    }
}

/// Which lines are logged. Of each attempt that failed the Kubernetes client writes an error, where the agent says once
/// what is wrong.
fn filter(lines: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("kube_client=off,{lines}"))
}

fn complain(code: u8, error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let _unprinted = writeln!(std::io::stderr(), "tachograph: {error:#}");
    ExitCode::from(code)
}
