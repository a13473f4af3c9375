//! A tape in, the finished requests out as JSON lines: everything behind the probes, once more.

use super::line::Line;
use super::tape::Entry;
use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::config::Config;
use crate::correlate::Finished;
use crate::correlate::state::Correlator;
use crate::correlate::state::Settings;
use crate::correlate::trace::Random;
use crate::ring::tape;
use crate::ui;
use crate::vitals::Vitals;
use agent_ebpf::event::Header;
use anyhow::Context as _;
use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::TryFromBytes as _;

/// Between two ticks of the book, on the tape's own time.
const TICK: Duration = Duration::from_millis(100);

/// Replays a tape; the same tape always gives the same lines, trace ids aside.
///
/// # Errors
///
/// The file cannot be read or is no tape.
pub fn replay(config: &Config, file: &Path) -> anyhow::Result<()> {
    let open = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut reader = tape::Reader::new(BufReader::new(open)).with_context(|| file.display().to_string())?;
    let random = Box::new(|bytes: &mut [u8]| rand::Rng::fill(&mut rand::rng(), bytes));
    requests(&config.correlate, &mut reader, random, &mut std::io::stdout().lock())
}

/// Writes each request that a tape holds as a line.
pub(super) fn requests(
    settings: &Settings,
    reader: &mut tape::Reader<impl Read>,
    random: Random,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let vitals = Arc::new(Vitals::default());
    let mut line = Line::new(Arc::clone(&vitals), None);
    // A tape has no wall clock: instants are given on its own.
    let anchor = Anchor { mono: MonoNs(0), unix_ns: 0 };
    let correlator = Correlator::new(settings, vitals, anchor, random);
    let mut now = MonoNs(0);
    let mut ticked = now;
    let mut foreign = 0_u64;
    while let Some(bytes) = reader.read()? {
        match Entry::read(bytes) {
            Some(Entry::Record(record)) => {
                if let Ok((header, _)) = Header::try_read_from_prefix(record) {
                    now = now.max(MonoNs(header.at_ns));
                }
                line.record(record, |_, _| {});
            }
            Some(Entry::Roster(attached, at)) => {
                now = now.max(at);
                line.attached(attached, at);
            }
            None => foreign += 1,
        }
        if now >= ticked.plus(TICK) {
            ticked = now;
            line.tick(now);
        }
        print(&mut line, &correlator, anchor, out)?;
    }
    line.close(now);
    print(&mut line, &correlator, anchor, out)?;
    write(correlator.flush(), out)?;
    if foreign > 0 {
        tracing::warn!(entries = foreign, "entries of an unknown kind were passed over");
    }
    Ok(())
}

fn print(line: &mut Line, correlator: &Correlator, anchor: Anchor, out: &mut impl Write) -> anyhow::Result<()> {
    for update in line.updates() {
        write(correlator.update(update, anchor), out)?;
    }
    Ok(())
}

fn write(finished: Vec<Arc<Finished>>, out: &mut impl Write) -> anyhow::Result<()> {
    for finished in finished {
        writeln!(out, "{}", ui::record::record(&finished))?;
    }
    Ok(())
}
