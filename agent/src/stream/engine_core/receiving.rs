//! Frames that an engine core received in: a type frame, then its payload. [`Message`]s out.

use super::Report;
use super::requests;
use crate::stream::Message;
use crate::stream::assemble::Assembly;
use crate::stream::assemble::Extent;
use crate::stream::assemble::Frame;
use crate::stream::assemble::Piece;

/// A type frame is one byte; a few more are tolerated. Payloads are longer.
pub(super) const TYPE_FRAME_BYTES: usize = 8;

/// One thread's receiving side.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    assembly: Assembly,
    /// The type frame just before, whose payload is due.
    due: Option<Kind>,
    known: Known,
}

/// What is known from earlier messages.
#[derive(Debug, Default)]
struct Known {
    /// Id and arrival time of the last ADD: frames are seen more than once.
    last: Option<(String, u64)>,
    /// Whether the thread has received requests. Others, which wait for workers at the start, receive
    /// short frames that look like types, and what follows them is no array.
    requests: bool,
}

/// What a type frame announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Abort,
    Utility,
    Other,
}

impl Kind {
    /// By a frame's first byte. Payloads are arrays or maps.
    pub(super) fn of(first: u8) -> Option<Self> {
        match first {
            0 => Some(Self::Add),
            1 => Some(Self::Abort),
            3 => Some(Self::Utility),
            2 | 4..=0x0f => Some(Self::Other),
            _ => None,
        }
    }
}

impl Receiving {
    pub(super) fn piece(&mut self, piece: &Piece<'_>, cap: usize, report: &mut Report<'_>) {
        let Self { assembly, due, known } = self;
        if let Some(frame) = assembly.interrupted(piece) {
            Self::frame(due, known, &frame, report);
        }
        if let Some(frame) = assembly.add(piece, cap) {
            Self::frame(due, known, &frame, report);
        }
    }

    /// Records were lost: what was under way is read as far as it came, and a payload needs a new type.
    pub(super) fn gap(&mut self, report: &mut Report<'_>) {
        let due = self.due.take();
        if let Some(frame) = self.assembly.gap()
            && due == Some(Kind::Add)
            && let requests::Asked::Head(added) = requests::add(frame.bytes)
        {
            report.added(frame.at, added);
        }
    }

    /// A payload counts right after its type frame only; other frames carry tensors, or are repeated.
    fn frame(due: &mut Option<Kind>, known: &mut Known, frame: &Frame<'_>, report: &mut Report<'_>) {
        if let Some(kind) = kind(frame) {
            *due = Some(kind);
            return;
        }
        let due = due.take();
        if frame.extent != Extent::Whole {
            Self::beginning(due, frame, report);
            return;
        }
        let Some(due) = due else { return };
        report.vitals.engine_messages.one();
        if !known.requests && !is_array(frame.bytes) {
            report.vitals.engine_other.one();
            return;
        }
        match due {
            Kind::Other => report.vitals.engine_other.one(),
            Kind::Utility => {
                report.vitals.engine_other.one();
                if let Some(asleep) = requests::sleep(frame.bytes) {
                    report.out.push(Message::Slept { engine: report.engine, at: frame.at, asleep });
                }
            }
            Kind::Add => {
                let requests::Asked::Whole { added, arrival } = requests::add(frame.bytes) else {
                    report.undecoded(frame.at);
                    return;
                };
                let this = arrival.map(|seconds| (added.id.clone(), seconds.to_bits()));
                if this.is_none() || this != known.last {
                    report.added(frame.at, added);
                }
                known.last = this;
                known.requests = true;
            }
            Kind::Abort => match requests::abort(frame.bytes) {
                Some(ids) => {
                    known.requests = true;
                    report.out.push(Message::Aborted { engine: report.engine, at: frame.at, ids });
                }
                None => report.undecoded(frame.at),
            },
        }
    }

    /// A payload of which only the first bytes are there: an ADD begins with what matters most, but
    /// what names its HTTP request stands at its end, so the loss is said even then.
    fn beginning(due: Option<Kind>, frame: &Frame<'_>, report: &mut Report<'_>) {
        if due == Some(Kind::Add)
            && let requests::Asked::Head(added) = requests::add(frame.bytes)
        {
            report.added(frame.at, added);
        }
        match (due, frame.extent) {
            (Some(Kind::Add | Kind::Abort), _) | (_, Extent::Lost) => report.lost(frame.at),
            (Some(Kind::Utility | Kind::Other), _) => report.vitals.engine_other.one(),
            (None, _) => {}
        }
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_filling(&self) -> bool {
        self.assembly.is_filling()
    }
}

/// Whether msgpack bytes begin an array.
fn is_array(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x90..=0x9f | 0xdc | 0xdd))
}

/// What a type frame announces; `None` for any other frame.
fn kind(frame: &Frame<'_>) -> Option<Kind> {
    if frame.extent != Extent::Whole || frame.bytes.len() > TYPE_FRAME_BYTES {
        return None;
    }
    Kind::of(*frame.bytes.first()?)
}
