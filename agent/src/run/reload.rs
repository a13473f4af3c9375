//! SIGHUP in; the settings read anew, and handed to the rooms that can take them while they run.
//!
//! All or nothing: what may fail is made first, and where anything fails the agent goes on as it was.

use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::config::Scrape;
use crate::config::value::Level;
use crate::correlate::state::Correlator;
use crate::engine::scrape;
use crate::export::otlp::Exporter;
use crate::export::otlp::Logs;
use crate::export::otlp::Reader;
use crate::gpu::nvml;
use crate::run::keeper::Orders;
use crate::run::orders;
use crate::run::service;
use crate::serve::door::Door;
use crate::stream::content::Capture;
use crate::vitals::Vitals;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Where settings come from, and the log's own.
pub struct Source {
    /// Reads the file again, under the same flags and variables.
    pub load: Box<dyn Fn() -> Result<Config, config::Error> + Send + Sync>,
    /// Sets which lines are logged.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// The rooms that take new settings, each by a way of its own.
pub(super) struct Rooms {
    pub(super) correlator: Arc<Correlator>,
    pub(super) doors: watch::Sender<Arc<Door>>,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) content: watch::Sender<Option<Capture>>,
    pub(super) scrape: watch::Sender<scrape::Config>,
    pub(super) exporters: mpsc::Sender<Exporter>,
    pub(super) logs: watch::Sender<Logs>,
}

/// What reads the settings anew.
pub(super) struct Reload {
    pub(super) source: Source,
    pub(super) running: Config,
    pub(super) rooms: Rooms,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) reader: Reader,
    pub(super) ready: Arc<AtomicBool>,
}

impl Reload {
    /// The settings of the start are in use.
    pub(super) fn began(&self) {
        self.read(true);
    }

    /// Reads them anew.
    pub(super) async fn again(&mut self) {
        service::reloading();
        match self.apply().await {
            Ok(restart) => {
                tracing::info!("the settings were read anew and are in use");
                if !restart.is_empty() {
                    tracing::warn!(settings = restart.join(", "), "these have changed and need a restart");
                }
                self.read(true);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the new settings cannot be used; those before stay");
                self.vitals.config_reload_failures.one();
                self.read(false);
            }
        }
        if self.ready.load(Ordering::Relaxed) {
            service::reloaded();
        }
    }

    fn read(&self, successful: bool) {
        self.rooms.correlator.settings_read(successful, self.clock.anchor());
    }

    async fn apply(&mut self) -> anyhow::Result<Vec<&'static str>> {
        let Self { source, running, rooms, clock, vitals, reader, .. } = self;
        let (new, restart) = held(running, (source.load)()?);
        let door = Door::open(&new.serve, vitals)?;
        let exporter =
            if new.otlp == running.otlp { None } else { Some(Exporter::start(&new.otlp, vitals, Arc::clone(reader))?) };
        // From here on nothing fails.
        (source.log)(&new.log);
        rooms.correlator.set(&new.correlate, clock.anchor());
        rooms.doors.send_replace(Arc::new(door));
        rooms.orders.send_replace(orders(&new));
        rooms.scrape.send_if_modified(|settings| {
            let changed = *settings != new.scrape.settings();
            *settings = new.scrape.settings();
            changed
        });
        if bytes(&new) != bytes(running) {
            rooms.content.send_replace(new.content.clone());
            tracing::info!(max_bytes = bytes(&new), "prompts and answers are captured up to so much");
        }
        if let Some(exporter) = exporter {
            rooms.logs.send_replace(exporter.logs());
            // Where nobody takes it the agent is about to end.
            let _ended = rooms.exporters.send(exporter).await;
        }
        *running = new;
        Ok(restart)
    }
}

/// How much of prompts and answers is captured.
fn bytes(config: &Config) -> Option<usize> {
    config.content.as_ref().map(Capture::max_bytes)
}

/// The new settings with those of the running agent where it cannot change them, and which these are.
fn held(running: &Config, new: Config) -> (Config, Vec<&'static str>) {
    // All are named, so that whoever adds one must say here what becomes of it.
    let Config {
        listen,
        serve,
        correlate,
        goals,
        ring_bytes,
        keep_losses,
        perf_events,
        body_cap_bytes,
        level,
        content,
        targets,
        otlp,
        nvml: nvml::Config { enabled, library, interval },
        scrape,
        kubernetes,
        discover_interval,
        log,
    } = new;
    let Scrape { enabled: scrapes, network_namespaces, interval: period, timeout, api_key } = scrape;
    // Capture begun on a level that leaves bodies out would show less than it says.
    let possible = content.is_none() || running.level == Level::Full;
    let differ = [
        ("listen", listen != running.listen),
        ("ring_bytes", ring_bytes != running.ring_bytes),
        ("keep_losses", keep_losses != running.keep_losses),
        ("perf_events", perf_events != running.perf_events),
        ("body_cap_bytes", body_cap_bytes != running.body_cap_bytes),
        ("level", level != running.level),
        ("content.capture", !possible),
        ("nvml.enabled", enabled != running.nvml.enabled),
        ("nvml.library", library != running.nvml.library),
        ("nvml.interval_seconds", interval != running.nvml.interval),
        ("scrape.enabled", scrapes != running.scrape.enabled),
        ("scrape.network_namespaces", network_namespaces != running.scrape.network_namespaces),
        ("kubernetes", kubernetes != running.kubernetes),
    ];
    let scrape = Scrape {
        interval: period,
        timeout,
        api_key,
        enabled: running.scrape.enabled,
        network_namespaces: running.scrape.network_namespaces,
    };
    let content = if possible { content } else { running.content.clone() };
    let held = Config {
        serve,
        correlate,
        goals,
        content,
        targets,
        otlp,
        scrape,
        discover_interval,
        log,
        nvml: running.nvml.clone(),
        kubernetes: running.kubernetes.clone(),
        ..*running
    };
    (held, differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect())
}

#[cfg(test)]
mod tests;
