//! Troubles that are injected one by one and together: each request that misses an objective gets the cause that it
//! had, and no other request does.

use agent_tests::confusion::Confusion;
use agent_tests::gate;
use agent_tests::trial::Case;
use agent_tests::trial::Limits;
use agent_tests::trial::Trial;
use anyhow::Result;
use std::io::Write as _;
use std::time::Duration;

const LIMITS: Limits = Limits { ttft: 0.5, tpot: 0.04, duration: 2.0 };
/// A step without a long prompt, as the scenario has it.
const STEP_NS: u64 = 10_000_000;
const STOPS: u32 = 6;
const STOP: Duration = Duration::from_millis(2_500);
const BETWEEN: Duration = Duration::from_millis(1_500);
const CAUSES: [&str; 8] =
    ["error", "receive", "frontend", "queue", "prefill", "batch_interference", "kv_pressure", "slow_client"];

#[test]
fn every_injected_cause_is_found_where_it_was_and_nowhere_else() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let trial = |scenario, course: &dyn Fn(&mut Trial) -> Result<Stops>| {
        let mut trial = Trial::open(&tools, scenario, LIMITS)?;
        trial.load("calm")?;
        let stops = course(&mut trial)?;
        Ok::<_, anyhow::Error>(matrix(&trial.close()?, &stops))
    };
    let load = |mix: &'static str| move |trial: &mut Trial| trial.load(mix).map(|()| Stops::default());
    let mut all = Confusion::default();
    for matrix in [
        trial("slow", &load("troubled_callers"))?,
        trial("plain", &stopped_front_end)?,
        trial("four_seats", &load("crowded"))?,
        trial("few_blocks", &load("big"))?,
        trial("plain", &long_prompts_beside_decodes)?,
    ] {
        print(&matrix)?;
        all.add(&matrix);
    }
    print(&all)?;
    all.verify(&CAUSES)
}

/// When the front end stood still, from and to.
type Stops = Vec<(u64, u64)>;

fn stopped_front_end(trial: &mut Trial) -> Result<Stops> {
    let load = trial.begin("calls")?;
    let mut stops = Stops::new();
    for _ in 0..STOPS {
        std::thread::sleep(BETWEEN);
        stops.push(trial.stop_front_end(STOP)?);
    }
    trial.finish(load)?;
    Ok(stops)
}

fn long_prompts_beside_decodes(trial: &mut Trial) -> Result<Stops> {
    let decoders = trial.begin("decoders")?;
    trial.load("long_prompts")?;
    trial.finish(decoders)?;
    Ok(Stops::new())
}

fn matrix(cases: &[Case], stops: &Stops) -> Confusion {
    let mut matrix = Confusion::default();
    for case in cases {
        let Some(missed) = case.missed else { continue };
        let injected = injected(case, stops);
        let found = case.record.cause.as_deref();
        matrix.judge(injected, missed, found);
    }
    matrix
}

/// What a request suffered from, if it did.
fn injected(case: &Case, stops: &Stops) -> Option<&'static str> {
    let instants = &case.truth.instants;
    match case.kind.as_str() {
        "uploads" | "stalls_and_uploads_longer" => Some("receive"),
        "stalls" | "uploads_and_stalls_longer" => Some("slow_client"),
        "fails" => Some("error"),
        "long_prompt" => Some("prefill"),
        // Who came while a long prompt was computed waited for the end of that step, and was slowed only later.
        "decodes" if waited_ns(case) > slowed_ns(case) => Some("queue"),
        "decodes" => Some("batch_interference"),
        "big" => Some("kv_pressure"),
        "crowded" => Some("queue"),
        _ => {
            let stood = |(from, to): &(u64, u64)| instants.accepted.1 < *from && instants.finished.0 > *to;
            stops.iter().any(stood).then_some("frontend")
        }
    }
}

/// In the engine's queue.
fn waited_ns(case: &Case) -> u64 {
    let waited = case.truth.engine.iter().filter_map(|one| one.scheduled?.checked_sub(one.queued?));
    waited.max().unwrap_or(0)
}

/// How much longer it decoded than it would have without others' prompts.
fn slowed_ns(case: &Case) -> u64 {
    let decoded = case.truth.engine.iter().filter_map(|one| {
        let steps = u64::try_from(one.steps.len()).ok()?;
        one.last_output()?.checked_sub(one.first_output()?)?.checked_sub(steps * STEP_NS)
    });
    decoded.max().unwrap_or(0)
}

/// Past the harness, which hides what a good test prints.
fn print(matrix: &Confusion) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{matrix}\n")?)
}
