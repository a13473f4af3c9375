//! The bytes after a header block in, cut anywhere; the body's data out, and where it ends.

use crate::stream::mask::Pen;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunked),
    /// With its connection.
    Close,
}

/// The next thing in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Data.
    Data(&'a [u8]),
    /// Nothing but for more bytes.
    More,
    /// The end. What follows was left.
    End,
    /// These bytes are no such body.
    Bad,
}

impl Framing {
    /// Takes one thing off the front of `bytes`.
    pub fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Step<'a> {
        match self {
            Self::Length(0) => Step::End,
            _ if bytes.is_empty() => Step::More,
            Self::Length(left) => Step::Data(data(left, bytes)),
            Self::Chunked(chunked) => chunked.step(bytes),
            Self::Close => Step::Data(std::mem::take(bytes)),
        }
    }

    /// Takes one thing off the front of `bytes`; sizes and line ends stay in the pen's copy.
    ///
    /// Data is left to the caller, and so is the pen before it.
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8], pen: &mut Pen<'_>) -> Step<'a> {
        let (mut before, from) = (*self, *bytes);
        let step = self.step(bytes);
        let data = if let Step::Data(data) = step { data.len() } else { 0 };
        let passed = from.len() - bytes.len() - data;
        if let Some(copy) = pen.next(passed) {
            for (byte, masked) in from.iter().zip(copy) {
                let fringe = before.fringe();
                before.step(&mut std::slice::from_ref(byte));
                if before.fringe() == fringe {
                    *masked = *byte;
                }
            }
        }
        step
    }

    fn fringe(&self) -> u32 {
        if let Self::Chunked(chunked) = self { chunked.fringe } else { 0 }
    }

    /// Passes over bytes that were not seen. What is left of the chunk, or of a body that has none;
    /// `None` where it is no longer known where the body ends.
    pub fn skip(&mut self, missing: u64) -> Option<u64> {
        let left = match self {
            Self::Length(left) | Self::Chunked(Chunked { part: Part::Data(left), .. }) => left,
            Self::Chunked(_) => return None,
            Self::Close => return Some(u64::MAX),
        };
        *left = left.checked_sub(missing)?;
        Some(*left)
    }
}

/// The state inside a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    part: Part,
    /// Bytes of extensions and trailers, which mean nothing here and have a bound.
    fringe: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    Data(u64),
    DataEnd,
    DataEndCr,
    TrailerStart,
    TrailerStartCr,
    Trailer,
}

const FRINGE: u32 = 64 * 1024;

impl Chunked {
    /// Before the first size line.
    pub const fn new() -> Self {
        Self { part: Part::Size { digits: 0, size: 0 }, fringe: 0 }
    }

    /// Whether the first bytes are a whole size line.
    pub fn starts(bytes: &[u8]) -> bool {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        (1..=8).contains(&digits) && bytes.get(digits..).is_some_and(|rest| rest.starts_with(b"\r\n"))
    }

    fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Step<'a> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.part = match (self.part, byte) {
                (Part::Data(mut left), _) => {
                    let run = data(&mut left, bytes);
                    self.part = if left == 0 { Part::DataEnd } else { Part::Data(left) };
                    return Step::Data(run);
                }
                (Part::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    Part::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
                }
                (Part::Size { digits: 1.., size }, b'\r' | b';' | b' ' | b'\t') => Part::Extension { size },
                (Part::Size { digits: 1.., size } | Part::Extension { size }, b'\n') => {
                    if size == 0 {
                        Part::TrailerStart
                    } else {
                        Part::Data(size)
                    }
                }
                (Part::DataEnd, b'\r') => Part::DataEndCr,
                (Part::DataEnd | Part::DataEndCr, b'\n') => Part::Size { digits: 0, size: 0 },
                (Part::TrailerStart, b'\r') => Part::TrailerStartCr,
                (Part::TrailerStart | Part::TrailerStartCr, b'\n') => {
                    *bytes = rest;
                    return Step::End;
                }
                (Part::Trailer, b'\n') => Part::TrailerStart,
                (part @ Part::Extension { .. }, _) if self.fringe < FRINGE => {
                    self.fringe += 1;
                    part
                }
                (Part::TrailerStart | Part::Trailer, _) if self.fringe < FRINGE => {
                    self.fringe += 1;
                    Part::Trailer
                }
                _ => return Step::Bad,
            };
            *bytes = rest;
        }
        Step::More
    }
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes up to `left` bytes off the front.
fn data<'a>(left: &mut u64, bytes: &mut &'a [u8]) -> &'a [u8] {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let (run, rest) = bytes.split_at(here);
    *left -= here as u64;
    *bytes = rest;
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: Framing = Framing::Chunked(Chunked::new());

    /// The data, how it ended, and what was left.
    fn read(mut framing: Framing, pieces: &[&[u8]]) -> (String, &'static str, usize) {
        let mut body = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let mut bytes = *piece;
            let end = loop {
                match framing.step(&mut bytes) {
                    Step::Data(run) => body.extend_from_slice(run),
                    Step::More => break "more",
                    Step::End => break "end",
                    Step::Bad => break "bad",
                }
            };
            let left = bytes.len() + pieces.iter().skip(index + 1).map(|piece| piece.len()).sum::<usize>();
            if end != "more" || index + 1 == pieces.len() {
                return (String::from_utf8(body).unwrap(), end, left);
            }
        }
        (String::new(), "more", 0)
    }

    #[test]
    fn bodies_end_where_they_end() {
        for (framing, text, expected) in [
            (Framing::Length(3), "abcPOST", ("abc", "end", 4)),
            (Framing::Length(3), "ab", ("ab", "more", 0)),
            (Framing::Length(0), "GET", ("", "end", 3)),
            (Framing::Close, "abc", ("abc", "more", 0)),
            (CHUNKED, "3\r\nabc\r\n0\r\n\r\nHTTP", ("abc", "end", 4)),
            (CHUNKED, "A;x=\"y\"\r\n0123456789\r\n1 \r\nz\r\n000\r\nT: 1\r\nU: 2\r\n\r\n", ("0123456789z", "end", 0)),
            (CHUNKED, "1\na\n0\n\n", ("a", "end", 0)),
            (CHUNKED, "0\r\n\r", ("", "more", 0)),
            (CHUNKED, "1\r\nab", ("a", "bad", 1)),
            (CHUNKED, "g\r\n", ("", "bad", 3)),
            (CHUNKED, "\r\n", ("", "bad", 2)),
            (CHUNKED, "0123456789abcdef0\r\n", ("", "bad", 4)),
        ] {
            let expected = (expected.0.to_owned(), expected.1, expected.2);
            assert_eq!(read(framing, &[text.as_bytes()]), expected, "{text:?}");
            for cut in 0..=text.len() {
                let (left, right) = text.as_bytes().split_at(cut);
                assert_eq!(read(framing, &[left, right]), expected, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn extensions_are_bounded() {
        let long = format!("1;{}\r\na", "x".repeat(70_000));
        assert_eq!(read(CHUNKED, &[long.as_bytes()]).1, "bad");
    }

    #[test]
    fn known_bytes_are_skipped_exactly() {
        let mut framing = CHUNKED;
        let mut bytes: &[u8] = b"5\r\na";
        assert_eq!(framing.step(&mut bytes), Step::Data(b"a"));
        assert_eq!((framing.skip(4), framing.skip(1)), (Some(0), None));
        assert_eq!(read(framing, &[b"\r\n0\r\n\r\n"]).1, "end");
        let mut length = Framing::Length(10);
        assert_eq!((length.skip(7), length.skip(4), length.skip(3)), (Some(3), None, Some(0)));
    }

    #[test]
    fn a_size_line_is_known_when_seen() {
        assert!(Chunked::starts(b"1f\r\ndata") && Chunked::starts(b"0\r\n\r\n"));
        assert!(!Chunked::starts(b"\r\n") && !Chunked::starts(b"data: 1\r\n") && !Chunked::starts(b"1f"));
    }
}
