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
const TIMES: u32 = 6;
const STOP: Duration = Duration::from_millis(2_500);
const BETWEEN: Duration = Duration::from_millis(1_500);
const CAUSES: [&str; 9] = [
    "error",
    "receive",
    "frontend",
    "queue",
    "prefill",
    "batch_interference",
    "kv_pressure",
    "gpu_throttling",
    "slow_client",
];

#[test]
fn every_injected_cause_is_found_where_it_was_and_nowhere_else() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let trial = |scenario, course: &dyn Fn(&mut Trial) -> Result<Troubles>| {
        let mut trial = Trial::open(&tools, scenario, LIMITS)?;
        trial.load("calm")?;
        let troubles = course(&mut trial)?;
        Ok::<_, anyhow::Error>(matrix(&trial.close()?, &troubles))
    };
    let load = |mix: &'static str| move |trial: &mut Trial| trial.load(mix).map(|()| Troubles::default());
    let mut all = Confusion::default();
    for matrix in [
        trial("slow", &load("troubled_callers"))?,
        trial("plain", &stopped_front_end)?,
        trial("four_seats", &load("crowded"))?,
        trial("few_blocks", &load("big"))?,
        trial("plain", &long_prompts_beside_decodes)?,
        trial("plain", &throttled_gpu)?,
    ] {
        print(&matrix)?;
        all.add(&matrix);
    }
    print(&all)?;
    all.verify(&CAUSES)
}

/// What one load has in the midst of it, from and to.
#[derive(Debug, Default)]
struct Troubles {
    /// The front end stood still.
    stopped: Vec<(u64, u64)>,
    /// The GPU was throttled.
    throttled: Vec<(u64, u64)>,
}

fn stopped_front_end(trial: &mut Trial) -> Result<Troubles> {
    let stopped = now_and_then(trial, "calls", |trial| trial.stop_front_end(STOP))?;
    Ok(Troubles { stopped, ..Troubles::default() })
}

fn throttled_gpu(trial: &mut Trial) -> Result<Troubles> {
    let throttled = now_and_then(trial, "short_calls", |trial| trial.throttle(STOP))?;
    Ok(Troubles { throttled, ..Troubles::default() })
}

fn now_and_then(
    trial: &mut Trial,
    mix: &str,
    trouble: impl Fn(&mut Trial) -> Result<(u64, u64)>,
) -> Result<Vec<(u64, u64)>> {
    let load = trial.begin(mix)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        std::thread::sleep(BETWEEN);
        times.push(trouble(trial)?);
    }
    trial.finish(load)?;
    Ok(times)
}

fn long_prompts_beside_decodes(trial: &mut Trial) -> Result<Troubles> {
    let decoders = trial.begin("decoders")?;
    trial.load("long_prompts")?;
    trial.finish(decoders)?;
    Ok(Troubles::default())
}

fn matrix(cases: &[Case], troubles: &Troubles) -> Confusion {
    let mut matrix = Confusion::default();
    for case in cases {
        let Some(missed) = case.missed else { continue };
        let injected = injected(case, troubles);
        let found = case.record.cause.as_deref();
        matrix.judge(injected, missed, found);
    }
    matrix
}

/// What a request suffered from, if it did.
fn injected(case: &Case, troubles: &Troubles) -> Option<&'static str> {
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
            let spans = |(from, to): &(u64, u64)| instants.accepted.1 < *from && instants.finished.0 > *to;
            let meets = |(from, to): &(u64, u64)| instants.accepted.0 < *to && instants.finished.1 > *from;
            let stopped = troubles.stopped.iter().any(spans).then_some("frontend");
            stopped.or_else(|| troubles.throttled.iter().any(meets).then_some("gpu_throttling"))
        }
    }
}

/// With the engine, until it was in the batch.
fn waited_ns(case: &Case) -> u64 {
    let waited = case.truth.engine.iter().filter_map(|one| one.scheduled?.checked_sub(one.added?.1));
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
