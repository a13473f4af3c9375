//! Bytes of a `text/event-stream` in, cut anywhere; the data of each event out, in pieces.
//!
//! As the WHATWG parses it: lines end in LF, CR or CRLF, `data` lines are joined by LF, comments and
//! other fields are passed over, and an event without data is none.

pub mod mask;

use memchr::memchr2;

/// What the stream said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// More data of the event under way.
    Data(&'a [u8]),
    /// The event is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Before the stream's first byte, with that many bytes of a byte order mark seen.
    Mark(usize),
    Start,
    /// So many bytes of `data` matched.
    Name(usize),
    /// After `data:`, where one space is no data.
    Colon,
    Value,
    /// The rest of the line does not matter.
    Rest,
}

/// The state between two pieces of one stream.
#[derive(Debug)]
pub struct Parser {
    line: Line,
    after_cr: bool,
    has_data: bool,
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const NAME: &[u8] = b"data";

impl Parser {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { line: Line::Mark(0), after_cr: false, has_data: false }
    }

    /// After bytes were missed: the line under way is of no use.
    pub fn after_gap() -> Self {
        Self { line: Line::Rest, after_cr: false, has_data: false }
    }

    /// Reads on.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut impl FnMut(Piece<'_>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if byte == b'\n' && self.after_cr {
                self.after_cr = false;
                bytes = rest;
                continue;
            }
            self.after_cr = byte == b'\r';
            if matches!(byte, b'\r' | b'\n') {
                self.line_ended(out);
                bytes = rest;
                continue;
            }
            bytes = match self.line {
                Line::Mark(seen) if MARK.get(seen) == Some(&byte) => {
                    self.line = if seen + 1 == MARK.len() { Line::Start } else { Line::Mark(seen + 1) };
                    rest
                }
                Line::Mark(0) => {
                    self.line = Line::Start;
                    bytes
                }
                Line::Mark(_) => {
                    self.line = Line::Rest;
                    bytes
                }
                Line::Start => {
                    self.line = Line::Name(0);
                    bytes
                }
                Line::Name(seen) => {
                    self.line = if NAME.get(seen) == Some(&byte) {
                        Line::Name(seen + 1)
                    } else if seen == NAME.len() && byte == b':' {
                        self.data_line(out);
                        Line::Colon
                    } else {
                        Line::Rest
                    };
                    rest
                }
                Line::Colon => {
                    self.line = Line::Value;
                    if byte == b' ' { rest } else { bytes }
                }
                Line::Value | Line::Rest => {
                    let (run, rest) = bytes.split_at(memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len()));
                    if self.line == Line::Value {
                        out(Piece::Data(run));
                    }
                    rest
                }
            };
        }
    }

    fn data_line(&mut self, out: &mut impl FnMut(Piece<'_>)) {
        if self.has_data {
            out(Piece::Data(b"\n"));
        }
        self.has_data = true;
    }

    fn line_ended(&mut self, out: &mut impl FnMut(Piece<'_>)) {
        match self.line {
            Line::Start | Line::Mark(0) => {
                if self.has_data {
                    out(Piece::End);
                }
                self.has_data = false;
            }
            Line::Name(seen) if seen == NAME.len() => self.data_line(out),
            Line::Name(_) | Line::Mark(_) | Line::Colon | Line::Value | Line::Rest => {}
        }
        self.line = Line::Start;
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut parser, mut events, mut data) = (Parser::new(), Vec::new(), Vec::new());
        for piece in pieces {
            parser.feed(piece, &mut |piece| match piece {
                Piece::Data(run) => data.extend_from_slice(run),
                Piece::End => events.push(String::from_utf8(std::mem::take(&mut data)).unwrap()),
            });
        }
        events
    }

    #[test]
    fn streams_are_read_as_the_standard_says() {
        for (stream, expected) in [
            ("data: a\n\ndata:b\n\n", vec!["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", vec!["a", "b", "c"]),
            ("data: a\ndata: b\ndata\ndata:\n\n", vec!["a\nb\n\n"]),
            (": ping\n\n:\n\nevent: x\nid: 1\ndata:  two\nretry: 5\n\n", vec![" two"]),
            ("\u{feff}data: mark\n\n", vec!["mark"]),
            ("dat: a\ndatum: b\n data: c\ndata : d\nevent: data: e\n\n", vec![]),
            ("data: not complete\n", vec![]),
            ("data\n\n", vec![""]),
            ("\n\n\ndata: x\n\n\n\n", vec!["x"]),
        ] {
            assert_eq!(events(&[stream.as_bytes()]), expected, "{stream:?}");
            for cut in 0..=stream.len() {
                let (left, right) = stream.as_bytes().split_at(cut);
                assert_eq!(events(&[left, right]), expected, "{stream:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn after_a_gap_the_torn_line_is_dropped() {
        let (mut parser, mut ends) = (Parser::after_gap(), 0);
        parser.feed(b"data: torn\n\ndata: whole\n\n", &mut |piece| ends += usize::from(piece == Piece::End));
        assert_eq!(ends, 1);
    }
}
