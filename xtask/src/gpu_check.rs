//! A machine with a real GPU in; each of the agent's values beside nvidia-smi's, and what each call into NVML costs, out.

mod compare;

use crate::agent;
use crate::agent::Profile;
use crate::http;
use crate::process::Running;
use crate::step::as_root;
use crate::step::output;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use compare::compare;
use compare::known;
use compare::rows;
use serde_json::Value;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The agent's slowest tier, twice.
const SETTLE: Duration = Duration::from_secs(21);
const START: Duration = Duration::from_mins(1);

/// Compares once and prints everything; an error if a value disagrees or there is no GPU.
pub(crate) fn run() -> Result<()> {
    let list = output(Command::new("nvidia-smi").arg("-L"));
    let Some(list) = list.ok().filter(|list| list.starts_with("GPU ")) else {
        bail!("no NVIDIA GPU here: `nvidia-smi -L` lists none, so there is nothing to compare with");
    };
    println!("{list}");
    let agent = agent::build(Profile::Release)?;
    let port = http::free_port()?;
    let mut command = as_root(&agent.to_string_lossy());
    command.args(["run", "--listen", &format!("127.0.0.1:{port}")]);
    let mut running = Running::start("tachograph", &mut command, &std::env::temp_dir())?;
    running.until(START, || gpus(port).is_ok())?;
    step("all tiers of the agent", || {
        thread::sleep(SETTLE);
        Ok(())
    })?;
    let help = output(Command::new("nvidia-smi").arg("--help-query-gpu"))?;
    let mut names = vec!["uuid"];
    names.extend(known(&help));
    let before = gpus(port)?;
    let query = format!("--query-gpu={}", names.join(","));
    let csv = output(Command::new("nvidia-smi").args([&query, "--format=csv,nounits"]))?;
    // What nvidia-smi read lies between two looks of the tier of one second.
    thread::sleep(Duration::from_secs(2));
    let after = gpus(port)?;
    running.check()?;
    let mut wrong = 0;
    for row in rows(&names, &csv) {
        let uuid = row.get("uuid").cloned().unwrap_or_default();
        let of = |gpus: &[Value]| gpus.iter().find(|gpu| gpu.get("uuid").is_some_and(|it| *it == *uuid)).cloned();
        let (Some(before), Some(after)) = (of(&before), of(&after)) else {
            println!("\n✗ {uuid}: nvidia-smi has it, the agent has not");
            wrong += 1;
            continue;
        };
        println!("\n{uuid}\n{:>18} {:>18}", "nvidia-smi", "agent");
        for line in compare(&row, &before, &after) {
            let mark = if line.agrees { ' ' } else { '✗' };
            println!("{:>18} {:>18} {mark} {}", line.theirs, line.ours, line.name);
            wrong += usize::from(!line.agrees);
        }
        costs(&after);
    }
    if wrong > 0 {
        bail!("{wrong} values differ");
    }
    Ok(())
}

/// The agent's GPUs; an error while it has none.
fn gpus(port: u16) -> Result<Vec<Value>> {
    let snapshot: Value = serde_json::from_str(&http::get(port, "/api/v1/snapshot")?)?;
    let gpus = snapshot.pointer("/gpus/gpus").and_then(Value::as_array).context("NVML does not answer the agent")?;
    if gpus.is_empty() {
        bail!("the agent has no GPU");
    }
    Ok(gpus.clone())
}

fn costs(gpu: &Value) {
    let Some(calls) = gpu.get("calls").and_then(Value::as_object) else { return };
    println!("\n{:>8} {:>12} {:>12}  call", "times", "mean µs", "most µs");
    for (name, call) in calls {
        let number = |key: &str| call.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let said = call.get("last_error").and_then(Value::as_str).unwrap_or_default();
        let mean = if number("count") > 0.0 { number("total_ns") / number("count") / 1e3 } else { 0.0 };
        println!("{:>8} {mean:>12.1} {:>12.1}  {name} {said}", number("count"), number("max_ns") / 1e3);
    }
}
