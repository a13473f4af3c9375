//! Frames that an engine core sent in: messages whose first frame speaks. [`Message`]s out.

use super::Report;
use super::outputs;
use crate::stream::Message;
use crate::stream::assemble::Assembly;
use crate::stream::assemble::Extent;
use crate::stream::assemble::Frame;
use crate::stream::assemble::Piece;

/// The least that shows what a sent frame is.
const TELLING_BYTES: usize = 16;

/// One thread's sending side.
#[derive(Debug, Default)]
pub(super) struct Sending {
    assembly: Assembly,
    place: Place,
}

/// Where in its message the next frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    First,
    Later,
}

impl Sending {
    pub(super) fn piece(&mut self, piece: &Piece<'_>, cap: usize, report: &mut Report<'_>) {
        let Self { assembly, place } = self;
        if let Some(frame) = assembly.interrupted(piece) {
            Self::frame(place, &frame, report);
        }
        if let Some(frame) = assembly.add(piece, cap) {
            Self::frame(place, &frame, report);
        }
    }

    pub(super) fn gap(&mut self) {
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
            outputs::Sent::Broken if first => report.undecoded(at),
            outputs::Sent::Other | outputs::Sent::Broken => return,
        }
        vitals.engine_messages.one();
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_filling(&self) -> bool {
        self.assembly.is_filling()
    }
}
