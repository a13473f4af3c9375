//! Engine cores that have fallen silent in, the states of their processes and log lines out.

use crate::clock::Clock;
use crate::correlate::CoreView;
use crate::correlate::state::Correlator;
use crate::correlate::wedged::Change;
use crate::correlate::wedged::Process;
use crate::discover::procfs;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at the processes of silent engine cores, and says when one is wedged and when it steps again.
#[expect(clippy::infinite_loop, reason = "ends with the task set that holds it")]
pub(super) async fn watch(clock: Arc<dyn Clock>, correlator: Arc<Correlator>) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let suspects = correlator.suspects(clock.now());
        // /proc may answer slowly just when a machine is in trouble.
        let looked = tokio::task::spawn_blocking(move || {
            suspects.into_iter().map(|core| (core, procfs::states(core))).collect::<Vec<_>>()
        });
        for (core, states) in looked.await.unwrap_or_default() {
            let processes = states.into_iter().map(|(pid, name, state)| Process { pid, name, state });
            correlator.processes(core, processes.collect());
        }
        for (change, view) in correlator.wedged(clock.now()) {
            tell(&change, view.as_ref());
        }
    }
}

fn tell(change: &Change, core: Option<&CoreView>) {
    let load = core.map(|core| core.load);
    let Some(wedged) = &change.wedged else {
        tracing::info!(core = change.core.0, "the engine steps again");
        return;
    };
    let states: Vec<String> =
        wedged.processes.iter().map(|process| format!("{} {} {}", process.pid, process.name, process.state)).collect();
    tracing::warn!(
        core = change.core.0,
        engine = core.map(|core| core.engine.0.pid.0),
        last_step_age_seconds = wedged.last_step_age_seconds,
        usual_step_seconds = wedged.usual_step_seconds,
        running = load.and_then(|load| load.running),
        waiting = load.and_then(|load| load.waiting),
        kv_usage = load.and_then(|load| load.kv_usage),
        queued_tokens = core.map(|core| core.queued_tokens),
        live = core.map(|core| core.live),
        processes = states.join(", "),
        "the engine is wedged: it has requests and takes no step"
    );
}
