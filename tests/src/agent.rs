//! The agent's binary in; a running agent out, with its records and its metrics.

use crate::http;
use crate::process::Running;
use crate::record::Record;
use crate::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::iter::Sum;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

const START: Duration = Duration::from_secs(30);
/// Each probe that is taken off waits for the kernel's grace periods, which are long on a busy machine.
const STOP: Duration = Duration::from_secs(90);
/// A machine under load may take its time to find, attach and detach.
const SETTLES: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(100);
const LIMIT: usize = 100_000;

/// The agent's binary: the one that `TACHOGRAPH_BIN` names, else the one built beside this test.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("TACHOGRAPH_BIN") {
        return Ok(PathBuf::from(named));
    }
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let built = test.ancestors().nth(2).map(|folder| folder.join("tachograph"));
    built.filter(|path| path.exists()).ok_or_else(|| "the agent is not built; name it in TACHOGRAPH_BIN".to_owned())
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    port: u16,
}

/// Makes it attach as it does on a kernel that has perf events only.
pub const PERF_EVENTS: (&str, &str) = ("TACHOGRAPH_PERF_EVENTS", "true");

impl Agent {
    /// Starts it with further settings (`TACHOGRAPH_*`) and waits until it traces what there is.
    pub fn start(binary: &Path, scratch: &Scratch, settings: &[(&str, &str)]) -> Result<Self> {
        let port = http::free_port()?;
        let mut command = Command::new(binary);
        command.arg("run").env("TACHOGRAPH_LISTEN", format!("127.0.0.1:{port}"));
        // Whatever else runs on this machine is recorded too.
        command.env("TACHOGRAPH_REQUESTS_KEPT", LIMIT.to_string()).envs(settings.iter().copied());
        let mut running = Running::start("the agent", &mut command, scratch.file("agent.log"))?;
        running.until_ready(START, || http::get(port, "/readyz").is_ok())?;
        Ok(Self { running, port })
    }

    /// Its process: where a runtime holds it in a container, the only child of that; it has none itself.
    pub fn pid(&self) -> u32 {
        let pid = self.running.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.ok().and_then(|children| children.trim().parse().ok()).unwrap_or(pid)
    }

    /// What it has said so far.
    pub fn words(&self) -> String {
        self.running.words()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `/api/v1/snapshot`.
    pub fn snapshot(&self) -> Result<Value> {
        Ok(serde_json::from_str(&http::get(self.port, "/api/v1/snapshot")?)?)
    }

    /// Waits until the snapshot is as wanted; an error with the latest if that takes too long.
    pub fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = System.now().plus(SETTLES);
        loop {
            let snapshot = self.snapshot()?;
            if wanted(&snapshot) {
                return Ok(());
            }
            ensure!(System.now() < deadline, "the snapshot did not become what it should: {snapshot:#}");
            std::thread::sleep(EVERY);
        }
    }

    /// All finished requests as they are served, newest first.
    pub fn requests(&self) -> Result<Vec<Value>> {
        let page = http::get(self.port, &format!("/api/v1/requests?limit={LIMIT}"))?;
        let mut answer: Value = serde_json::from_str(&page)?;
        let requests = answer.get_mut("requests").map(Value::take);
        Ok(serde_json::from_value(requests.context("no requests in the answer")?)?)
    }

    /// The records of requests that these processes served, oldest first.
    pub fn records(&self, pids: &[u64]) -> Result<Vec<Record>> {
        of(&pids.iter().copied().collect(), &self.requests()?)
    }

    /// As [`Agent::records`], when there are at least so many or `within` is over.
    pub fn records_when(&self, pids: &[u64], count: usize, within: Duration) -> Result<Vec<Record>> {
        let deadline = System.now().plus(within);
        loop {
            let records = self.records(pids)?;
            if records.len() >= count || System.now() >= deadline {
                return Ok(records);
            }
            std::thread::sleep(EVERY);
        }
    }

    /// `/metrics`.
    pub fn metrics(&self) -> Result<String> {
        http::get(self.port, "/metrics")
    }

    /// As [`Agent::metrics`], once they are `enough`, or as they are when `within` is over.
    pub fn metrics_when(&self, within: Duration, enough: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = System.now().plus(within);
        loop {
            let page = self.metrics()?;
            if enough(&page) || System.now() >= deadline {
                return Ok(page);
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill()
    }

    /// Ends it; what it said comes back.
    pub fn stop(self) -> Result<String> {
        self.running.stop(STOP)
    }

    /// Ends it; the requests that it served as finished last of all, with those that its end cut short.
    pub fn last_requests(self) -> Result<Vec<Value>> {
        self.running.ask_to_end()?;
        let mut last = self.requests()?;
        while let Ok(requests) = self.requests() {
            last = requests;
        }
        self.stop()?;
        Ok(last)
    }
}

/// Those of these requests that these processes served, oldest first, as records.
pub fn of(pids: &BTreeSet<u64>, requests: &[Value]) -> Result<Vec<Record>> {
    let ours = requests.iter().rev().filter(|request| {
        request.pointer("/target/pid").and_then(Value::as_u64).is_some_and(|pid| pids.contains(&pid))
    });
    ours.map(|request| serde_json::from_value(request.clone()).with_context(|| request.to_string())).collect()
}

/// The processes that are traced, by a snapshot.
pub fn traced(snapshot: &Value) -> BTreeSet<u64> {
    let targets = snapshot.get("targets").and_then(Value::as_array).into_iter().flatten();
    targets.filter_map(|target| target.get("pid")?.as_u64()).collect()
}

/// The sum over all series of a metric on a page; an error where there is none.
pub fn metric(page: &str, name: &str) -> Result<f64> {
    sum(page, name)
}

/// The same of a counter.
pub fn count(page: &str, name: &str) -> Result<u64> {
    sum(page, name)
}

fn sum<T: FromStr + Sum>(page: &str, name: &str) -> Result<T> {
    let series = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values: Vec<T> = page.lines().filter(series).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    ensure!(!values.is_empty(), "no metric {name}");
    Ok(values.into_iter().sum())
}
