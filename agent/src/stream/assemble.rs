//! Pieces of ZeroMQ frames in, frames out: whole, cut by a cap, or with a hole.
//!
//! One [`Assembly`] belongs to one direction of one engine thread, where frames come one after another.
//! A frame that comes in one piece is handed on as it lies, without a copy.

use crate::clock::MonoNs;

/// Bytes of an assembly's buffer that stay allocated between frames.
const KEPT_BYTES: usize = 64 << 10;

/// A piece of a frame, as [`ring::Event::Frame`](crate::ring::Event::Frame) carries it.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// When the probe fired.
    pub at: MonoNs,
    /// The piece.
    pub bytes: &'a [u8],
    /// Where in the frame it starts.
    pub offset: u32,
    /// Bytes of the whole frame.
    pub total: u32,
    /// Whether another frame of the same message was announced.
    pub more: bool,
}

/// How much of a frame there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its first bytes: a cap ended the copy.
    Cut,
    /// Its first bytes: pieces were lost.
    Lost,
}

/// A frame, or its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// When the probe fired.
    pub at: MonoNs,
    /// The bytes from the frame's start.
    pub bytes: &'a [u8],
    /// How much of the frame they are.
    pub extent: Extent,
    /// Whether another frame of the same message was announced.
    pub more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    at: MonoNs,
    total: u32,
    more: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Between frames.
    #[default]
    Idle,
    /// Inside this frame; the buffer holds what came.
    Filling(Head),
    /// The rest of the current frame is of no use.
    Ignoring,
}

/// Puts the pieces of one thread's frames together.
#[derive(Debug, Default)]
pub struct Assembly {
    state: State,
    buffer: Vec<u8>,
}

impl Assembly {
    /// The frame that `next` shows to have ended early. Call it before [`Self::add`] with the same piece.
    pub fn interrupted(&mut self, next: &Piece<'_>) -> Option<Frame<'_>> {
        let State::Filling(head) = self.state else { return None };
        (next.offset == 0).then(|| self.end(head, Extent::Cut))
    }

    /// Records were lost here: the frame under way, as far as it came.
    pub fn gap(&mut self) -> Option<Frame<'_>> {
        let State::Filling(head) = self.state else {
            self.state = State::Ignoring;
            return None;
        };
        Some(self.end(head, Extent::Lost))
    }

    /// Takes a piece; gives the frame that it completes, brings to `cap` bytes, or breaks.
    pub fn add<'a>(&'a mut self, piece: &Piece<'a>, cap: usize) -> Option<Frame<'a>> {
        let head = Head { at: piece.at, total: piece.total, more: piece.more };
        let total = usize::try_from(piece.total).unwrap_or(usize::MAX);
        if piece.offset == 0 {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
            if piece.bytes.len() == total {
                self.state = State::Idle;
                let Piece { at, bytes, more, .. } = *piece;
                return Some(Frame { at, bytes, extent: Extent::Whole, more });
            }
            self.state = State::Filling(head);
        }
        let offset = usize::try_from(piece.offset).unwrap_or(usize::MAX);
        match self.state {
            State::Filling(filling) if filling == head && offset == self.buffer.len() => {}
            State::Filling(filling) => return Some(self.end(filling, Extent::Lost)),
            State::Idle => {
                self.buffer.clear();
                return Some(self.end(head, Extent::Lost));
            }
            State::Ignoring => return None,
        }
        let room = cap.min(total).saturating_sub(self.buffer.len());
        if piece.bytes.len() > total.saturating_sub(self.buffer.len()) {
            return Some(self.end(head, Extent::Lost));
        }
        self.buffer.extend_from_slice(piece.bytes.get(..room).unwrap_or(piece.bytes));
        if self.buffer.len() == total {
            return Some(self.end(head, Extent::Whole));
        }
        (self.buffer.len() >= cap).then(|| self.end(head, Extent::Cut))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_filling(&self) -> bool {
        matches!(self.state, State::Filling(_))
    }

    fn end(&mut self, head: Head, extent: Extent) -> Frame<'_> {
        self.state = if extent == Extent::Whole { State::Idle } else { State::Ignoring };
        Frame { at: head.at, bytes: &self.buffer, extent, more: head.more }
    }
}
