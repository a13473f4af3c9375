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

use crate::clock::MonoNs;
use crate::ident::Pid;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::Way;
use crate::stream::Added;
use crate::stream::Message;
use crate::stream::assemble::Assembly;
use crate::stream::assemble::Extent;
use crate::stream::assemble::Frame;
use crate::stream::assemble::Piece;
use crate::vitals::Vitals;
use std::collections::HashMap;

mod outputs;
mod requests;
mod walk;

#[cfg(test)]
mod tests;

/// Threads of one engine core that touch ZeroMQ, generously: input, output, KV events, main, workers.
const THREADS_PER_CORE: usize = 16;

/// A type frame is one byte; a few more are tolerated. Payloads are longer.
const TYPE_FRAME_BYTES: usize = 8;

/// The least that shows what a sent frame is.
const TELLING_BYTES: usize = 16;

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

#[derive(Debug, Default)]
struct Receiving {
    assembly: Assembly,
    /// The type frame just before, whose payload is due.
    due: Option<Kind>,
    /// Id and arrival time of the last ADD: frames are seen more than once.
    last: Option<(String, u64)>,
}

#[derive(Debug, Default)]
struct Sending {
    assembly: Assembly,
    place: Place,
}

/// What a type frame announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Abort,
    Other,
}

/// Where in its message the next frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    First,
    Later,
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
                if let Some(thread) = self.threads.get_mut(&(engine, tid)) {
                    thread.receiving.gap(&mut report);
                    thread.sending.gap();
                }
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
            if thread.receiving.assembly.is_filling() || thread.sending.assembly.is_filling() {
                report.vitals.engine_lost.one();
                report.out.push(Message::EngineLost { engine: oldest.0, at });
            }
        }
        let thread = self.threads.entry((engine, tid)).or_default();
        thread.used = self.pushes;
        thread
    }
}

impl Receiving {
    fn piece(&mut self, piece: &Piece<'_>, cap: usize, report: &mut Report<'_>) {
        let Self { assembly, due, last } = self;
        if let Some(frame) = assembly.interrupted(piece) {
            Self::frame(due, last, &frame, report);
        }
        if let Some(frame) = assembly.add(piece, cap) {
            Self::frame(due, last, &frame, report);
        }
    }

    /// Records were lost: what was under way is read as far as it came, and a payload needs a new type.
    fn gap(&mut self, report: &mut Report<'_>) {
        let due = self.due.take();
        if let Some(frame) = self.assembly.gap()
            && due == Some(Kind::Add)
            && let requests::Asked::Head(added) = requests::add(frame.bytes)
        {
            report.added(frame.at, added);
        }
    }

    /// A payload counts right after its type frame only; other frames carry tensors, or are repeated.
    fn frame(due: &mut Option<Kind>, last: &mut Option<(String, u64)>, frame: &Frame<'_>, report: &mut Report<'_>) {
        if let Some(kind) = kind(frame) {
            *due = Some(kind);
            return;
        }
        let due = due.take();
        match frame.extent {
            Extent::Whole if due.is_some() => report.vitals.engine_messages.one(),
            Extent::Lost => report.lost(frame.at),
            Extent::Cut if due.is_some() => report.vitals.engine_lost.one(),
            Extent::Whole | Extent::Cut => {}
        }
        match due {
            Some(Kind::Other) if frame.extent == Extent::Whole => report.vitals.engine_other.one(),
            None | Some(Kind::Other) => {}
            Some(Kind::Add) => match (requests::add(frame.bytes), frame.extent) {
                (requests::Asked::Whole { added, arrival }, _) => {
                    let this = arrival.map(|seconds| (added.id.clone(), seconds.to_bits()));
                    if this.is_none() || this != *last {
                        report.added(frame.at, added);
                    }
                    *last = this;
                }
                (requests::Asked::Head(added), Extent::Cut | Extent::Lost) => report.added(frame.at, added),
                (requests::Asked::Head(_) | requests::Asked::Broken, extent) => report.unread(extent, frame.at),
            },
            Some(Kind::Abort) => match requests::abort(frame.bytes) {
                Some(ids) => report.out.push(Message::Aborted { engine: report.engine, at: frame.at, ids }),
                None => report.unread(frame.extent, frame.at),
            },
        }
    }
}

impl Sending {
    fn piece(&mut self, piece: &Piece<'_>, cap: usize, report: &mut Report<'_>) {
        let Self { assembly, place } = self;
        if let Some(frame) = assembly.interrupted(piece) {
            Self::frame(place, &frame, report);
        }
        if let Some(frame) = assembly.add(piece, cap) {
            Self::frame(place, &frame, report);
        }
    }

    fn gap(&mut self) {
        self.place = Place::First;
        // Outputs without their end are no outputs; the loss itself is reported by the caller.
        let _broken: Option<Frame<'_>> = self.assembly.gap();
    }

    /// The first frame of a message speaks. A later one is a tensor, unless it reads as outputs
    /// through and through: then the frames between were dropped as too small.
    fn frame(place: &mut Place, frame: &Frame<'_>, report: &mut Report<'_>) {
        let first = *place == Place::First;
        *place = if frame.more { Place::Later } else { Place::First };
        match frame.extent {
            Extent::Lost => report.lost(frame.at),
            Extent::Cut => {
                if first && (frame.bytes.len() < TELLING_BYTES || outputs::is_shaped(frame.bytes)) {
                    report.lost(frame.at);
                } else if first {
                    report.vitals.engine_other.one();
                }
            }
            Extent::Whole => Self::whole(first, frame, report),
        }
    }

    fn whole(first: bool, frame: &Frame<'_>, report: &mut Report<'_>) {
        let Report { engine, vitals, .. } = *report;
        let at = frame.at;
        match outputs::read(frame.bytes, at, vitals) {
            outputs::Sent::Step(step) => report.out.push(Message::Stepped { engine, at, step: Box::new(step) }),
            outputs::Sent::Dead => report.out.push(Message::Died { engine, at }),
            outputs::Sent::Other if first => vitals.engine_other.one(),
            outputs::Sent::Broken if first => report.unread(Extent::Whole, at),
            outputs::Sent::Other | outputs::Sent::Broken => return,
        }
        vitals.engine_messages.one();
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

    /// A frame that should have been read and could not be; a lost one is reported already.
    fn unread(&mut self, extent: Extent, at: MonoNs) {
        match extent {
            Extent::Whole => self.vitals.engine_undecoded.one(),
            Extent::Cut => {}
            Extent::Lost => return,
        }
        self.out.push(Message::EngineLost { engine: self.engine, at });
    }
}

/// What a type frame announces; `None` for any other frame. Payloads are arrays or maps.
fn kind(frame: &Frame<'_>) -> Option<Kind> {
    if frame.extent != Extent::Whole || frame.bytes.len() > TYPE_FRAME_BYTES {
        return None;
    }
    match frame.bytes.first()? {
        0 => Some(Kind::Add),
        1 => Some(Kind::Abort),
        2..=0x0f => Some(Kind::Other),
        _ => None,
    }
}
