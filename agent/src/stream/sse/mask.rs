//! A [`Parser`]'s bytes in, the same out where they are the frame of an event; its data is masked by the reader.

use super::Line;
use super::Parser;
use super::Piece;
use crate::stream::mask::HIDDEN;
use memchr::memchr2;

/// What the stream said, of which the reader leaves what stays.
#[derive(Debug)]
pub enum Masked<'a> {
    /// More data of the event under way.
    Data(&'a mut [u8]),
    /// The event is complete.
    End,
}

impl Parser {
    /// Reads on as [`Self::feed`] does, and masks the bytes in their place.
    pub fn mask(&mut self, mut bytes: &mut [u8], out: &mut impl FnMut(Masked<'_>)) {
        while !bytes.is_empty() {
            let run = match self.line {
                Line::Value | Line::Rest => memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len()).max(1),
                Line::Mark(_) | Line::Start | Line::Name(_) | Line::Colon => 1,
            };
            let Some((run, rest)) = bytes.split_at_mut_checked(run) else { return };
            self.run(run, out);
            bytes = rest;
        }
    }

    /// One byte, or more of one line that are of one kind.
    fn run(&mut self, run: &mut [u8], out: &mut impl FnMut(Masked<'_>)) {
        let mut data = false;
        self.feed(run, &mut |piece| match piece {
            // What joins two lines of data is no byte of theirs.
            Piece::Data(b"\n") => out(Masked::Data(&mut [b'\n'])),
            Piece::Data(_) => data = true,
            Piece::End => out(Masked::End),
        });
        if data {
            out(Masked::Data(run));
        } else if self.line == Line::Rest {
            run.fill(HIDDEN);
        }
    }
}
