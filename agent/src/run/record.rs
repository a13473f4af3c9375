//! What the probes see in, a tape out; what is not read is masked unless the operator asks for it.

use self::masked::Masked;
use super::keeper::Keeper;
use super::privileges;
use super::privileges::Networks;
use super::tape::Entry;
use crate::attach::Attach;
use crate::attach::object;
use crate::clock::Clock as _;
use crate::clock::System;
use crate::config::Config;
use crate::correlate::state::Correlator;
use crate::discover::Discover;
use crate::ident::Pid;
use crate::ring::read::Ring;
use crate::ring::tape;
use crate::vitals::Vitals;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use anyhow::Context as _;
use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use zerocopy::TryFromBytes as _;

const POLL: Duration = Duration::from_millis(5);
const BATCH: usize = 4_096;
const HINTS: usize = 1_024;

mod masked;

/// Whether text is kept on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// As it was.
    Kept,
    /// What no record of a request is made of is replaced, lengths kept.
    Masked,
}

/// Records until `seconds` have passed, or SIGINT or SIGTERM.
///
/// # Errors
///
/// The file exists or cannot be written, or the kernel refuses the programs.
pub fn record(config: &Config, out: &Path, seconds: Option<u64>, content: Content) -> anyhow::Result<()> {
    let way = super::way(config);
    privileges::give_up(way, Networks::Own)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let file = file.with_context(|| format!("cannot create {}", out.display()))?;
    let mut writer = tape::Writer::new(BufWriter::new(file))?;
    let loader = object::Config { ring_bytes: config.ring_bytes, keep_losses: false, way };
    let object::Loaded { object, ring, numbering, .. } = object::Object::load(loader)?;
    let over = over()?;
    let vitals = Arc::new(Vitals::default());
    let (roster, arrivals) = mpsc::sync_channel(HINTS);
    let (hint, hints) = mpsc::sync_channel(1);
    let (engines, _addresses) = tokio::sync::watch::channel(Vec::new());
    let clock = System;
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(1));
    let keeper = Keeper {
        discover: Discover::new(super::discovery(config), Pid(std::process::id())),
        attach: Attach::new(object, super::copies(config)),
        orders: tokio::sync::watch::channel(super::orders(config)).1,
        vitals: Arc::clone(&vitals),
        correlator: Arc::new(Correlator::new(&config.correlate, vitals, clock.anchor(), random)),
        roster,
        engines,
    };
    let keeper = thread::Builder::new().name("keeper".to_owned()).spawn(move || keeper.run(&hints))?;
    let mut ring = Ring::new(ring, numbering);
    let mut masks = Masked::default();
    let mut entry = Vec::new();
    let mut records = 0_u64;
    let mut write = |bytes: Entry<'_>| {
        entry.clear();
        bytes.write(&mut entry);
        writer.write(&entry)
    };
    let end = seconds.map(|seconds| clock.now().plus(Duration::from_secs(seconds)));
    while !over.load(Ordering::Relaxed) && end.is_none_or(|end| clock.now() < end) {
        for attached in arrivals.try_iter() {
            let at = clock.now();
            masks.attached(attached, at);
            write(Entry::Roster(attached, at))?;
        }
        let mut failed = Ok(());
        let read = ring.drain(BATCH, |record| {
            let written = match content {
                Content::Kept => Some(record),
                Content::Masked => masks.record(record),
            };
            if let Some(written) = written.filter(|_| failed.is_ok()) {
                records += 1;
                failed = write(Entry::Record(written));
            }
            if of_process(record) {
                let _full = hint.try_send(());
            }
        });
        failed?;
        if read < BATCH {
            thread::sleep(POLL);
        }
    }
    drop(hint);
    if keeper.join().is_err() {
        tracing::error!("the keeper had panicked");
    }
    writer.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    tracing::info!(records, file = %out.display(), "recorded");
    Ok(())
}

/// Whether a record says that a process came, changed or left.
fn of_process(record: &[u8]) -> bool {
    Header::try_read_from_prefix(record)
        .is_ok_and(|(header, _)| matches!(header.kind, Kind::Forked | Kind::Execed | Kind::Exited | Kind::Loaded))
}

/// Turns true at SIGINT or SIGTERM.
fn over() -> anyhow::Result<Arc<AtomicBool>> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
            if let Ok(mut terminate) = terminate {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            }
        });
        seen.store(true, Ordering::Relaxed);
    })?;
    Ok(over)
}
