//! Pieces of what was asked or answered in, in the order of the wire; the texts put together out, bounded.
//!
//! Nothing of this is made unless the operator turned the capture of content on. Of each text a little more is
//! kept than may be shown, so that a secret which lies across the end can still be recognised as one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Bytes that may be shown of one side of a request at most, whatever is set.
pub const LONGEST: usize = 65_536;

/// Bytes kept of a text beyond what may be shown of it: longer than any secret that has a known shape.
const SLACK: usize = 4_096;

/// The cap of a string that is captured.
pub const KEPT: usize = LONGEST + SLACK;

/// Bytes that all texts which are being put together may take.
const ROOM: usize = 64 << 20;

/// Parts of one side that are told apart.
const PARTS: usize = 2_048;

/// How many of the latest turns, and parts of one, are looked at for one that goes on.
const LOOK: usize = 256;

/// How much of each side is captured, and what all texts together take already.
#[derive(Debug, Clone)]
pub struct Capture {
    max_bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Capture {
    /// Shows at most so many bytes of each side.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes: max_bytes.min(LONGEST), held: Arc::default() }
    }

    /// How many bytes of each side are shown at most.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// One side, of which nothing is known yet.
    pub fn side(&self) -> Said {
        Said {
            turns: Vec::new(),
            max_bytes: self.max_bytes,
            shown: 0,
            full: false,
            parts: 0,
            unkept: 0,
            share: Share { held: Arc::clone(&self.held), bytes: 0, refused: false },
        }
    }
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is said.
    Text,
    /// What is thought.
    Reasoning,
    /// Why nothing is said.
    Refusal,
    /// The arguments of a call.
    Call,
    /// What is not captured: images, audio, files, token ids. The text says which.
    Left,
}

/// A text, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// Its beginning.
    pub kept: String,
    /// How much of that may be shown.
    pub shown: usize,
    /// How many bytes it has in all.
    pub bytes: u64,
}

impl Text {
    /// One that is kept and may be shown whole.
    pub fn whole(text: &str) -> Self {
        Self { kept: text.to_owned(), shown: text.len(), bytes: text.len() as u64 }
    }
}

/// One text of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Which of its kind.
    pub number: u32,
    /// Of a call: what is called.
    pub name: Option<String>,
    /// The text.
    pub text: Text,
}

/// A message of a request, or a choice of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which one.
    pub number: u32,
    /// Who speaks, where that is said.
    pub role: Option<String>,
    /// Whether it is an instruction that stands apart from the conversation.
    pub apart: bool,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

/// One side of a request. Its `Debug` shows no text.
#[derive(Clone)]
pub struct Said {
    turns: Vec<Turn>,
    max_bytes: usize,
    shown: usize,
    /// Something did not fit: nothing that comes later is shown.
    full: bool,
    parts: usize,
    /// Bytes of texts that have no part.
    unkept: u64,
    share: Share,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.turns == other.turns && self.unkept == other.unkept
    }
}

impl Eq for Said {}

/// Both sides of a request, as far as there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Both {
    /// What was asked.
    pub asked: Option<Box<Said>>,
    /// What was answered.
    pub answered: Option<Box<Said>>,
}

impl Both {
    /// Whether something was not kept because all texts together took too much.
    pub fn is_starved(&self) -> bool {
        [&self.asked, &self.answered].into_iter().flatten().any(|said| said.share.refused)
    }
}

impl Said {
    /// The turns, in the order in which they began.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// How many bytes may be shown.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Bytes of all texts, kept or not.
    pub fn bytes(&self) -> u64 {
        let texts = self.turns.iter().flat_map(|turn| &turn.parts).filter(|part| part.kind != Kind::Left);
        self.unkept + texts.map(|part| part.text.bytes).sum::<u64>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.unkept == 0
    }

    /// Says who speaks.
    pub fn role(&mut self, turn: u32, role: &str) {
        if let Some(turn) = self.turn(turn) {
            turn.role = Some(role.to_owned());
        }
    }

    /// Sets a turn apart from the conversation.
    pub fn set_apart(&mut self, turn: u32) {
        if let Some(turn) = self.turn(turn) {
            turn.apart = true;
        }
    }

    /// Says what is called.
    pub fn name(&mut self, turn: u32, number: u32, name: &str) {
        if let Some(part) = self.part(turn, Kind::Call, number) {
            part.name = Some(name.to_owned());
        }
    }

    /// Says that something of such a kind is there and not captured.
    pub fn leave_out(&mut self, turn: u32, number: u32, what: &str) {
        if let Some(part) = self.part(turn, Kind::Left, number) {
            part.text = Text::whole(what);
        }
    }

    /// More of a text, and how many bytes behind that are missing.
    pub fn add(&mut self, turn: u32, kind: Kind, number: u32, text: &str, missing: usize) {
        let all = (text.len() + missing) as u64;
        let (max_bytes, shown, full) = (self.max_bytes, self.shown, self.full);
        let Some(Part { text: own, .. }) = self.part(turn, kind, number) else {
            self.unkept += all;
            return;
        };
        let whole = own.bytes == own.kept.len() as u64;
        own.bytes += all;
        if !whole {
            return;
        }
        let open = !full && own.shown == own.kept.len();
        let visible = if open { cut(text, max_bytes.saturating_sub(shown)) } else { "" };
        let may_show = own.shown + visible.len();
        let kept = if may_show > 0 { cut(text, (may_show + SLACK).saturating_sub(own.kept.len())) } else { "" };
        let (visible, cut_short) = (visible.len(), open && visible.len() < text.len());
        let fits = self.share.grow(kept.len());
        if let Some(Part { text, .. }) = self.part(turn, kind, number) {
            if fits {
                text.kept.push_str(kept);
                text.shown = may_show;
            } else {
                // A secret may be torn at the end of what there is.
                text.shown = text.shown.min(text.kept.floor_char_boundary(text.kept.len().saturating_sub(SLACK)));
            }
        }
        if !fits {
            self.full = true;
            return;
        }
        self.full |= cut_short;
        self.shown += visible;
    }

    /// Takes over what another side said, by rules for the numbers of turns and parts.
    pub fn merge(&mut self, other: &Self, number: impl Fn(&Turn, &Part) -> (u32, Kind, u32)) {
        for turn in &other.turns {
            for part in &turn.parts {
                let (place, kind, number) = number(turn, part);
                if let Some(role) = &turn.role {
                    self.role(place, role);
                }
                if turn.apart {
                    self.set_apart(place);
                }
                if let Some(name) = &part.name {
                    self.name(place, number, name);
                }
                let Text { kept, bytes, .. } = &part.text;
                let missing = bytes.saturating_sub(kept.len() as u64);
                match kind {
                    Kind::Left => self.leave_out(place, number, kept),
                    Kind::Call if *bytes == 0 => {}
                    _ => self.add(place, kind, number, kept, usize::try_from(missing).unwrap_or(usize::MAX)),
                }
            }
        }
        self.unkept += other.unkept;
        self.share.refused |= other.share.refused;
    }

    fn turn(&mut self, number: u32) -> Option<&mut Turn> {
        let first = self.turns.len().saturating_sub(LOOK);
        let known = self.turns.iter().skip(first).rposition(|turn| turn.number == number).map(|at| first + at);
        let at = match known {
            Some(at) => at,
            None if self.parts >= PARTS || !self.share.grow(size_of::<Turn>()) => return None,
            None => {
                self.parts += 1;
                self.turns.push(Turn { number, role: None, apart: false, parts: Vec::new() });
                self.turns.len() - 1
            }
        };
        self.turns.get_mut(at)
    }

    fn part(&mut self, turn: u32, kind: Kind, number: u32) -> Option<&mut Part> {
        let parts = &self.turn(turn)?.parts;
        let first = parts.len().saturating_sub(LOOK);
        let goes_on = |part: &Part| part.kind == kind && part.number == number;
        let known = parts.iter().skip(first).rposition(goes_on).map(|at| first + at);
        if known.is_none() {
            if self.parts >= PARTS || !self.share.grow(size_of::<Part>()) {
                return None;
            }
            self.parts += 1;
        }
        let parts = &mut self.turn(turn)?.parts;
        let at = known.unwrap_or(parts.len());
        if known.is_none() {
            parts.push(Part { kind, number, name: None, text: Text::default() });
        }
        parts.get_mut(at)
    }
}

/// The beginning of a text, of at most so many bytes, without a torn character.
pub fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// What one side takes of the room for all, given back when it goes away.
#[derive(Debug)]
struct Share {
    held: Arc<AtomicUsize>,
    bytes: usize,
    /// There was no room at least once.
    refused: bool,
}

impl Share {
    /// Whether there is room.
    fn grow(&mut self, bytes: usize) -> bool {
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > ROOM {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.refused = true;
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.held.fetch_add(self.bytes, Ordering::Relaxed);
        Self { held: Arc::clone(&self.held), bytes: self.bytes, refused: self.refused }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
