//! Prometheus and Alertmanager with the kit's rules and routes: a server that fails pages somebody, and the page is
//! taken back when it serves again.

use crate::chain::Hook;
use crate::chain::Kit;
use crate::chain::secrets;
use crate::programs::Programs;
use agent_tests::agent::Agent;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

/// The shorter window of the fastest rule.
const WINDOW: Duration = Duration::from_mins(5);
/// Loads that end one by one.
const ROUND: Duration = Duration::from_secs(2);

/// The actions that PagerDuty was asked for, of this alert.
fn actions(hook: &Hook, alert: &str) -> Vec<String> {
    let posts = hook.got("pagerduty").into_iter();
    let meant = posts.filter(|post| post.contains(alert)).filter_map(|post| {
        let post: Value = serde_json::from_str(&post).ok()?;
        Some(post["event_action"].as_str()?.to_owned())
    });
    meant.collect()
}

#[test]
fn a_failing_server_pages_and_a_serving_one_takes_it_back() -> Result<()> {
    const ALERT: &str = "LLMAvailabilitySLOBurn";
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("outage")?;
    let mut standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let agent = Agent::start(&programs.tools.agent, &scratch, &[])?;
    let (kit, hook) = (Kit::render(&programs, &scratch, &[(9478, agent.port())])?, Hook::start()?);
    secrets(&kit, &scratch, &hook)?;
    let _alertmanager = kit.alertmanager(&programs, &scratch)?;
    let _prometheus = kit.prometheus(&programs, &scratch)?;

    let mut sent = 0;
    let mut until = |mix: &str, action: &str| -> Result<Duration> {
        let began = System.now();
        loop {
            sent += u32::try_from(standin.load(&scratch, mix, sent)?.len())?;
            if actions(&hook, ALERT).iter().any(|done| done == action) {
                return Ok(Duration::from_nanos(System.now().since(began).unwrap_or(u64::MAX)));
            }
            ensure!(System.now() < began.plus(WINDOW), "{mix}: no {action} in {WINDOW:?}: {:?}", hook.got("pagerduty"));
            std::thread::sleep(ROUND);
        }
    };
    let paged = until("failing", "trigger")?;
    let resolved = until("many", "resolve")?;
    println!("{ALERT}: paged after {paged:.1?}, taken back after {resolved:.1?} of good service");
    ensure!(hook.got("slack").iter().any(|post| post.contains(ALERT)), "Slack was not told");
    agent.stop()?;
    Ok(())
}
