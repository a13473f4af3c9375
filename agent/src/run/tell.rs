//! Engine cores that have fallen silent in, the states of their processes out; what happened on the node goes to the
//! log and to the collector.

use crate::clock::Clock;
use crate::correlate::events::Event;
use crate::correlate::events::What;
use crate::correlate::state::Correlator;
use crate::correlate::wedged::Process;
use crate::discover::procfs;
use crate::export::otlp::Logs;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at the processes of silent engine cores, and tells what happens.
#[expect(clippy::infinite_loop, reason = "ends with the task set that holds it")]
pub(super) async fn watch(clock: Arc<dyn Clock>, correlator: Arc<Correlator>, logs: watch::Receiver<Logs>) {
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
        let anchor = clock.anchor();
        for event in correlator.events(anchor.mono) {
            tell(&event);
            logs.borrow().event(event, anchor);
        }
    }
}

fn tell(event: &Event) {
    match &event.what {
        What::Xid { gpu, name, code, count, meaning } => {
            tracing::warn!(gpu, name, xid = code, count, meaning, "critical GPU error");
        }
        What::GpuLost { gpu, index, why } => tracing::warn!(gpu, index, why, "a GPU no longer answers"),
        What::GpuBack { gpu } => tracing::info!(gpu, "the GPU answers again"),
        What::Stepping { core } => tracing::info!(core = core.0, "the engine steps again"),
        What::Wedged { core, wedged, view } => {
            let load = view.as_ref().map(|view| view.load);
            let states = wedged.processes.iter();
            let states: Vec<String> =
                states.map(|process| format!("{} {} {}", process.pid, process.name, process.state)).collect();
            let errors = wedged.gpu_errors.iter().map(|errors| format!("{} on {}", errors.code, errors.gpu));
            tracing::warn!(
                core = core.0,
                engine = view.as_ref().map(|view| view.engine.0.pid.0),
                last_step_age_seconds = wedged.last_step_age_seconds,
                usual_step_seconds = wedged.usual_step_seconds,
                running = load.and_then(|load| load.running),
                waiting = load.and_then(|load| load.waiting),
                kv_usage = load.and_then(|load| load.kv_usage),
                queued_tokens = view.as_ref().map(|view| view.queued_tokens),
                live = view.as_ref().map(|view| view.live),
                processes = states.join(", "),
                xids = errors.collect::<Vec<_>>().join(", "),
                "the engine is wedged: it has requests and takes no step"
            );
        }
    }
}
