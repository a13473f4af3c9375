//! What the probes saw in, a copy of it out in which only that stands which the decoders read.
//!
//! ```text
//! Event ─▶ Http, with a Pen ─▶ heads, sizes, events and JSON, each without what is not read
//!      └─▶ Frames ─▶ msgpack, by the table of what is read of it
//! ```
//!
//! The copy begins as [`HIDDEN`] throughout, and a decoder that reads on leaves in it what it needs to
//! read the same once more. So what nobody reads stays hidden, whatever it is.

pub mod head;

use crate::ring::Event;
use crate::stream::Message;
use crate::stream::engine_core::mask::Frames;
use crate::stream::http;
use crate::stream::http::Http;
use crate::stream::http1;
use crate::vitals::Vitals;

/// What stands for a byte that is not read.
pub const HIDDEN: u8 = b'x';

/// What stands for a byte of a name that is not read. No name that is read has it, so none becomes one.
pub const HIDDEN_NAME: u8 = b'X';

/// What no protocol of text takes: where a decoder gave up, it will again.
const SPOILED: u8 = 0;

/// Masks what the probes saw, event after event.
#[derive(Debug)]
pub struct Masks {
    http: Http,
    frames: Frames,
    vitals: Vitals,
    said: Vec<Message>,
}

impl Default for Masks {
    fn default() -> Self {
        Self {
            http: Http::new(http::Config::default()),
            frames: Frames::default(),
            vitals: Vitals::default(),
            said: Vec::new(),
        }
    }
}

impl Masks {
    /// Takes in one event; what stays of its bytes is left in `copy`, which is as long and hidden.
    pub fn push(&mut self, event: &Event<'_>, copy: &mut [u8]) {
        self.http.mask(event, copy, &self.vitals, &mut self.said);
        self.frames.push(event, copy);
        self.said.clear();
    }
}

/// Where a decoder leaves what it has read: in a copy of the bytes, or, on a live agent, nowhere.
#[derive(Debug, Default)]
pub struct Pen<'a>(Option<&'a mut [u8]>);

impl<'a> Pen<'a> {
    /// A pen before the first byte of a copy.
    pub fn new(copy: &'a mut [u8]) -> Self {
        Self(Some(copy))
    }

    /// Moves over so many bytes; where there is a copy, they are the caller's.
    pub fn next(&mut self, bytes: usize) -> Option<&'a mut [u8]> {
        let (next, rest) = self.0.take()?.split_at_mut_checked(bytes)?;
        self.0 = Some(rest);
        Some(next)
    }

    /// Moves over these bytes of a header block, of which `block` is all that has come.
    pub fn head(&mut self, bytes: &[u8], block: &[u8]) {
        let Some(copy) = self.next(bytes.len()) else { return };
        // What does not belong to the block are empty lines before it.
        copy.copy_from_slice(bytes);
        for (byte, masked) in copy.iter_mut().rev().zip(head::masked(block).iter().rev()) {
            *byte = *masked;
        }
    }

    /// Moves over bytes that make no header block. What showed that they might, and where they end, stays.
    pub fn spoil(&mut self, bytes: &[u8]) {
        let Some(copy) = self.next(bytes.len()) else { return };
        let known = if bytes.starts_with(http1::RESPONSE) { http1::RESPONSE.len() } else { 0 };
        for (at, (masked, byte)) in copy.iter_mut().zip(bytes).enumerate() {
            *masked = if at < known || matches!(byte, b'\r' | b'\n') { *byte } else { SPOILED };
        }
    }

    /// Leaves `text` so many bytes from here, without moving.
    pub fn stamp(&mut self, at: usize, text: &[u8]) {
        if let Some(copy) = self.0.as_deref_mut().and_then(|copy| copy.get_mut(at..at + text.len())) {
            copy.copy_from_slice(text);
        }
    }
}
