//! A measurement's name in; its figures out, as ratios within one run where that is possible. Asserts nothing.

use crate::agent;
use crate::agent::Profile;
use crate::http;
use crate::process::Running;
use crate::step::cache;
use crate::step::cargo;
use crate::step::is_root;
use crate::step::output;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

mod floor;
mod hits;
mod sim;
mod streams;

const START: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(50);
/// The kernel's unit of time in `/proc/PID/stat`, the same on all machines that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Figure {
    /// Processor time for each streamed token over the cost of an empty uprobe.
    Floor,
    /// Probe hits for each streamed token.
    Hits,
    /// The most SSE writes a second that are recorded whole.
    Sim,
}

/// What the measurements work with.
struct Bench {
    agent: PathBuf,
    fast_api: PathBuf,
    empty_probe: PathBuf,
    logs: PathBuf,
}

/// Measures and prints.
pub(crate) fn measure(figures: &[Figure]) -> Result<()> {
    if !is_root() {
        bail!("the agent loads eBPF programs, which this user may not: run this as root");
    }
    let agent = agent::build(Profile::Release)?;
    step("server and probe of the measurement", || {
        run(cargo().args(["build", "--release", "-p", "fast-api"]))?;
        run(cargo().args(["build", "-p", "agent-tests", "--bin", "empty_probe"]))
    })?;
    let logs = cache()?.join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let fast_api = agent.with_file_name("fast-api");
    let empty_probe = agent.with_file_name("../debug/empty_probe");
    let bench = Bench { agent, fast_api, empty_probe, logs };
    let all = [Figure::Floor, Figure::Hits, Figure::Sim];
    let measured = machine().and_then(|machine| {
        println!("machine: {machine}");
        let figures = if figures.is_empty() { &all } else { figures };
        figures.iter().try_for_each(|figure| match figure {
            Figure::Floor => step("floor", || floor::measure(&bench)),
            Figure::Hits => step("hits", || hits::measure(&bench)),
            Figure::Sim => step("sim", || sim::measure(&bench)),
        })
    });
    std::fs::remove_dir_all(&bench.logs).with_context(|| bench.logs.display().to_string())?;
    measured
}

impl Bench {
    /// The fast API process, serving.
    fn serve(&self) -> Result<(Running, u16)> {
        let port = http::free_port()?;
        let mut server = Running::start("fast-api", Command::new(&self.fast_api).arg(port.to_string()), &self.logs)?;
        server.until(START, || http::get(port, "/health").is_ok())?;
        Ok((server, port))
    }

    /// An agent that also traces the process `other`, ready.
    fn record(&self, other: Option<u32>) -> Result<(Running, u16)> {
        let port = http::free_port()?;
        let mut command = Command::new(&self.agent);
        command.arg("run").env("TACHOGRAPH_LISTEN", format!("127.0.0.1:{port}"));
        if let Some(pid) = other {
            command.args(["--target", &format!("pid={pid}")]);
        }
        let mut agent = Running::start("agent", &mut command, &self.logs)?;
        agent.until(START, || http::get(port, "/readyz").is_ok())?;
        Ok((agent, port))
    }
}

/// Processor time that a process with all its threads has used, in seconds, to 10 ms.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything, spaces and brackets too.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat without a name")?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// The sum over all series of a metric on the agent's page.
fn metric(port: u16, name: &str) -> Result<f64> {
    let page = http::get(port, "/metrics")?;
    let series = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = output(Command::new("uname").arg("-srm"))?;
    let cpu = std::fs::read_to_string(Path::new("/proc/cpuinfo"))?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(format!("{cores} cores, {}, {kernel}", model.map_or("processor without a name", |(_, name)| name)))
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
