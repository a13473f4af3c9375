//! `up` or `down` in; the stack of `systemd/stack` started by whatever runs containers here, or ended, out.

use crate::http;
use crate::step::output;
use crate::step::root;
use crate::step::run;
use crate::step::step;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Start it.
    Up,
    /// End it; what is stored stays.
    Down,
}

/// What runs containers, with its compose.
const ENGINES: [&[&str]; 3] = [&["docker", "compose"], &["podman", "compose"], &["docker-compose"]];
/// Each program, where it says that it is ready.
const READY: [(&str, u16, &str); 6] = [
    ("Prometheus", 9090, "/-/ready"),
    ("Alertmanager", 9093, "/-/ready"),
    ("Collector", 13133, "/"),
    ("Loki", 3100, "/ready"),
    ("Tempo", 3200, "/ready"),
    ("Grafana", 3000, "/api/health"),
];
/// How long they have, images not yet pulled; and the first panel its data.
const START: Duration = Duration::from_mins(10);
const FIRST: Duration = Duration::from_mins(1);
const EVERY: Duration = Duration::from_millis(500);

/// Does it.
pub(crate) fn obey(order: Order) -> Result<()> {
    let Some(engine) = ENGINES.into_iter().find(|engine| output(compose(engine).arg("version")).is_ok()) else {
        bail!(
            "nothing here runs containers: neither `docker compose` nor `podman compose`. The settings in systemd/stack \
             are for their programs as they are, too: every one listens on 127.0.0.1"
        );
    };
    match order {
        Order::Up => up(engine),
        Order::Down => run(compose(engine).arg("down")),
    }
}

fn compose(engine: &[&str]) -> Command {
    let (program, words) = engine.split_first().map_or(("docker", [].as_slice()), |(program, words)| (*program, words));
    let mut command = Command::new(program);
    command.current_dir(root().join("systemd/stack")).args(words);
    command
}

fn up(engine: &[&str]) -> Result<()> {
    let secrets = root().join("systemd/stack/secrets");
    std::fs::create_dir_all(&secrets).with_context(|| secrets.display().to_string())?;
    let began = Instant::now();
    step("containers", || run(compose(engine).args(["up", "--detach"])))?;
    step("readiness", || {
        for (program, port, path) in READY {
            until(START, || http::get(port, path).ok(), &format!("{program} at 127.0.0.1:{port}"))?;
            println!("  {program}: {:.1} s", began.elapsed().as_secs_f64());
        }
        Ok(())
    })?;
    println!("The stack stood after {:.1} s.", began.elapsed().as_secs_f64());
    let (title, expr) = first_panel()?;
    let shown = until(FIRST, || answer(&expr).ok().filter(|rows| !rows.is_empty()), "data in the first panel");
    match shown {
        Ok(rows) => println!(
            "Its first panel, {title}, showed after {:.1} s: {}",
            began.elapsed().as_secs_f64(),
            rows.join(", ")
        ),
        Err(_) => println!(
            "Its first panel, {title}, shows nothing yet: is an agent running (`cargo xtask run`), and an engine with requests?"
        ),
    }
    println!("Grafana: http://127.0.0.1:3000");
    Ok(())
}

fn until<T>(within: Duration, ready: impl Fn() -> Option<T>, what: &str) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ready() {
            return Ok(found);
        }
        if began.elapsed() > within {
            bail!("no {what} after {:.0} s", began.elapsed().as_secs_f64());
        }
        thread::sleep(EVERY);
    }
}

/// The first panel of the first board: its title, and its first expression over one minute, for all nodes and models.
fn first_panel() -> Result<(String, String)> {
    let file = root().join("systemd/stack/dashboards/overview.json");
    let board: Value = serde_json::from_str(&std::fs::read_to_string(&file)?).context("the board is no JSON")?;
    let panels = board.get("panels").and_then(Value::as_array).context("no panels")?;
    let panel = panels.iter().find(|panel| panel["type"] != "row").context("no panel")?;
    let text = |at: &str| panel.pointer(at).and_then(Value::as_str).map(str::to_owned).context("no text");
    let expr = text("/targets/0/expr")?.replace("$__rate_interval", "1m");
    Ok((text("/title")?, ["$node", "$model", "$engine"].iter().fold(expr, |expr, name| expr.replace(name, ".*"))))
}

fn answer(expr: &str) -> Result<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let encoded: String = expr
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let answer: Value = serde_json::from_str(&http::get(9090, &format!("/api/v1/query?query={encoded}"))?)?;
    let rows = answer.pointer("/data/result").and_then(Value::as_array).context("no result")?;
    Ok(rows.iter().filter_map(|row| row.pointer("/value/1")?.as_str().map(str::to_owned)).collect())
}

#[test]
fn the_first_panel_can_be_asked_for() {
    let (title, expr) = first_panel().unwrap();
    assert!(!title.is_empty() && expr.contains("tachograph_") && !expr.contains('$'), "{title}: {expr}");
}
