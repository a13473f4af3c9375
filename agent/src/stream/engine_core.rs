//! Frames of vLLM's engine cores in, [`Message`]s out: requests added and aborted, steps, ends.
//!
//! ```text
//! Frame ─▶ Assembly ─▶ received: type frame, payload ─▶ Added, Aborted
//!                  └─▶ sent: the first frame of a message ─▶ Stepped, Died
//! ```
//!
//! Formats: `vllm/v1/engine/__init__.py` and `core.py` (`process_input_sockets`,
//! `process_output_sockets`). A frame that should say something and cannot be read is
//! [`Message::EngineLost`], never a guess.

use self::receiving::Receiving;
use self::sending::Sending;
use crate::clock::MonoNs;
use crate::ident::Pid;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::Way;
use crate::stream::Added;
use crate::stream::Message;
use crate::stream::assemble::Piece;
use crate::vitals::Vitals;
use std::collections::HashMap;

pub mod mask;
mod outputs;
mod receiving;
mod requests;
mod sending;
mod walk;

#[cfg(test)]
mod tests;

/// Threads of one engine core that touch ZeroMQ, generously: input, output, KV events, main, workers.
const THREADS_PER_CORE: usize = 16;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Bytes of a frame that are put together at most; the kernel side's cap.
    pub frame_bytes: usize,
    /// Engine core processes that are followed at a time.
    pub cores: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { frame_bytes: 4 << 20, cores: 64 }
    }
}

/// Reads what engine cores receive and send.
#[derive(Debug)]
pub struct EngineCore {
    config: Config,
    threads: HashMap<(Pid, u32), Thread>,
    pushes: u64,
}

/// One thread of an engine core: both directions, each in order.
#[derive(Debug, Default)]
struct Thread {
    receiving: Receiving,
    sending: Sending,
    /// The push that last touched it.
    used: u64,
}

/// Where a message goes, and what it says of its engine.
struct Report<'a> {
    engine: Pid,
    vitals: &'a Vitals,
    out: &'a mut Vec<Message>,
}

impl EngineCore {
    /// Nothing read yet.
    pub fn new(config: Config) -> Self {
        Self { config, threads: HashMap::new(), pushes: 0 }
    }

    /// Takes what a probe saw; what that completes is appended to `out`. Other events are ignored.
    pub fn push(&mut self, event: &Event<'_>, vitals: &Vitals, out: &mut Vec<Message>) {
        match *event {
            Event::Frame { engine, tid, way, at, bytes, offset, total, more } => {
                let piece = Piece { at, bytes, offset, total, more };
                let cap = self.config.frame_bytes;
                let mut report = Report { engine, vitals, out };
                let thread = self.thread(engine, tid, at, &mut report);
                match way {
                    Way::In => thread.receiving.piece(&piece, cap, &mut report),
                    Way::Out => thread.sending.piece(&piece, cap, &mut report),
                }
            }
            Event::FramesLost { engine, tid, at, .. } => {
                let mut report = Report { engine, vitals, out };
                let thread = self.thread(engine, tid, at, &mut report);
                thread.receiving.gap(&mut report);
                thread.sending.gap();
                report.lost(at);
            }
            Event::Process { pid, change: ProcessChange::Exited, .. } => {
                self.threads.retain(|(engine, _), _| *engine != pid);
            }
            Event::Opened { .. }
            | Event::Data { .. }
            | Event::Blocked { .. }
            | Event::Closed { .. }
            | Event::Lost { .. }
            | Event::ConnectionsLost { .. }
            | Event::Process { .. } => {}
        }
    }

    /// The state of a thread; a full table puts out the one that was silent longest.
    fn thread(&mut self, engine: Pid, tid: u32, at: MonoNs, report: &mut Report<'_>) -> &mut Thread {
        self.pushes += 1;
        let room = self.config.cores.max(1).saturating_mul(THREADS_PER_CORE);
        if self.threads.len() >= room
            && !self.threads.contains_key(&(engine, tid))
            && let Some(oldest) = self.threads.iter().min_by_key(|(_, thread)| thread.used).map(|(key, _)| *key)
            && let Some(thread) = self.threads.remove(&oldest)
        {
            report.vitals.evicted.one();
            if thread.receiving.is_filling() || thread.sending.is_filling() {
                report.vitals.engine_lost.one();
                report.out.push(Message::EngineLost { engine: oldest.0, at });
            }
        }
        let thread = self.threads.entry((engine, tid)).or_default();
        thread.used = self.pushes;
        thread
    }
}

impl Report<'_> {
    fn added(&mut self, at: MonoNs, request: Added) {
        self.out.push(Message::Added { engine: self.engine, at, request: Box::new(request) });
    }

    /// Pieces are missing.
    fn lost(&mut self, at: MonoNs) {
        self.vitals.engine_lost.one();
        self.out.push(Message::EngineLost { engine: self.engine, at });
    }

    /// A whole frame says something that could not be read.
    fn undecoded(&mut self, at: MonoNs) {
        self.vitals.engine_undecoded.one();
        self.out.push(Message::EngineLost { engine: self.engine, at });
    }
}
