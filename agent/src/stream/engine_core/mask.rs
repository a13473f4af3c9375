//! Pieces of an engine core's frames in; copies of them out in which that stands which is read of them.
//!
//! ```text
//! Frame ─▶ received: type frame, payload ─▶ Walk over an ADD, ABORT or call
//!      └─▶ sent ─▶ Walk over outputs
//! ```
//!
//! Every header stays, so nothing changes its place or length; of values that stays which `shape`
//! names. A frame that is no message of those is hidden as a whole: tensors first of all.

use self::walk::Walk;
use super::THREADS_PER_CORE;
use super::outputs::DEAD;
use super::receiving::Kind;
use super::receiving::TYPE_FRAME_BYTES;
use crate::ident::Pid;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::Way;
use std::collections::HashMap;

mod header;
mod shape;
mod walk;

/// Threads that are followed at a time.
const THREADS: usize = 64 * THREADS_PER_CORE;

/// What stands for the type of a message that is not read.
const OTHER_TYPE: u8 = 2;

/// Masks what engine cores receive and send.
#[derive(Debug, Default)]
pub struct Frames {
    threads: HashMap<(Pid, u32), Thread>,
}

/// One thread of an engine core: both directions, each in order.
#[derive(Debug, Default)]
struct Thread {
    received: Side,
    sent: Side,
    /// The type frame just before, whose payload is due.
    due: Option<Kind>,
    /// Whether the next frame that is sent belongs to the message of the one before.
    later: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    /// The frame under way, if it is a message that is read.
    message: Option<Walk>,
    /// Where in its frame the next piece must start.
    next: usize,
}

/// A piece of a frame.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    bytes: &'a [u8],
    offset: usize,
    total: usize,
}

impl Frames {
    /// Takes in one event; what stays of a frame's piece is left in `copy`, which is as long and hidden.
    pub fn push(&mut self, event: &Event<'_>, copy: &mut [u8]) {
        match *event {
            Event::Frame { engine, tid, way, bytes, offset, total, more, .. } => {
                let [offset, total] = [offset, total].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
                let piece = Piece { bytes, offset, total };
                let thread = self.thread(engine, tid);
                match way {
                    Way::In => thread.receive(&piece, copy),
                    Way::Out => thread.send(&piece, more, copy),
                }
            }
            Event::FramesLost { engine, tid, .. } => *self.thread(engine, tid) = Thread::default(),
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

    fn thread(&mut self, engine: Pid, tid: u32) -> &mut Thread {
        if self.threads.len() >= THREADS && !self.threads.contains_key(&(engine, tid)) {
            self.threads.clear();
        }
        self.threads.entry((engine, tid)).or_default()
    }
}

impl Thread {
    fn receive(&mut self, piece: &Piece<'_>, copy: &mut [u8]) {
        if piece.offset == 0 {
            let short = piece.total <= TYPE_FRAME_BYTES;
            let first = piece.bytes.first().copied().filter(|first| short && Kind::of(*first).is_some());
            if let (Some(first), Some(masked)) = (first, copy.first_mut()) {
                *masked = if Kind::of(first) == Some(Kind::Utility) { first } else { first.min(OTHER_TYPE) };
            }
            self.received.message = match self.due.filter(|_| first.is_none()) {
                Some(Kind::Add) => Some(Walk::new(&shape::ADD)),
                Some(Kind::Abort) => Some(Walk::new(&shape::ABORT)),
                Some(Kind::Utility) => Some(Walk::new(&shape::UTILITY)),
                Some(Kind::Other) | None => None,
            };
            self.due = first.and_then(Kind::of);
        }
        self.received.piece(piece, copy);
    }

    fn send(&mut self, piece: &Piece<'_>, more: bool, copy: &mut [u8]) {
        if piece.offset == 0 {
            let later = std::mem::replace(&mut self.later, more);
            let whole = piece.bytes.len() == piece.total;
            // What follows in a message is a tensor, as a rule: that must show nothing even where it
            // begins like outputs.
            let reads = !later || whole && is_outputs(piece.bytes);
            self.sent.message = reads.then(|| Walk::new(&shape::OUTPUTS));
            if whole && piece.bytes == DEAD {
                copy.copy_from_slice(DEAD);
                self.sent.message = None;
            }
        }
        self.sent.piece(piece, copy);
    }
}

/// Whether these bytes are outputs through and through.
fn is_outputs(bytes: &[u8]) -> bool {
    let mut walk = Walk::new(&shape::OUTPUTS);
    walk.mask(&mut bytes.to_vec());
    walk.is_whole()
}

impl Side {
    fn piece(&mut self, piece: &Piece<'_>, copy: &mut [u8]) {
        if piece.offset != 0 && piece.offset != self.next {
            self.message = None;
        }
        self.next = piece.offset.saturating_add(piece.bytes.len());
        if let Some(walk) = &mut self.message {
            copy.copy_from_slice(piece.bytes);
            walk.mask(copy);
        }
    }
}
