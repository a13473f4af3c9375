//! Bytes in, cut anywhere; a whole header block out, and the instant of its first byte.

use crate::clock::MonoNs;
use memchr::memchr;

/// What became of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The block is incomplete; all bytes were taken.
    Partial,
    /// The block, and when its first byte came. What follows it was left.
    Whole(Vec<u8>, MonoNs),
    /// It outgrew its limit.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    InLine,
    LineStart,
    LineStartCr,
}

/// A header block under way.
#[derive(Debug)]
pub struct Collector {
    block: Vec<u8>,
    at: At,
    first: Option<MonoNs>,
}

impl Collector {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { block: Vec::new(), at: At::InLine, first: None }
    }

    /// What there is of the block.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Takes bytes off the front of `bytes` up to the end of the block.
    ///
    /// Empty lines before a block are passed over, as servers do.
    pub fn take(&mut self, bytes: &mut &[u8], at: MonoNs, limit: usize) -> Taken {
        if self.block.is_empty() {
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            *bytes = bytes.get(blank..).unwrap_or_default();
        }
        if bytes.is_empty() {
            return Taken::Partial;
        }
        let first = *self.first.get_or_insert(at);
        let (end, whole) = self.end_in(bytes);
        let (mine, rest) = bytes.split_at(end);
        *bytes = rest;
        if self.block.len() + mine.len() > limit {
            return Taken::TooLong;
        }
        self.block.extend_from_slice(mine);
        if !whole {
            return Taken::Partial;
        }
        (self.first, self.at) = (None, At::InLine);
        Taken::Whole(std::mem::take(&mut self.block), first)
    }

    /// How many of `bytes` belong to the block, and whether they complete it.
    fn end_in(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut read = 0;
        while let Some(&byte) = bytes.get(read) {
            read += 1;
            self.at = match (self.at, byte) {
                (At::LineStart | At::LineStartCr, b'\n') => return (read, true),
                (At::InLine, b'\n') => At::LineStart,
                (At::LineStart, b'\r') => At::LineStartCr,
                (At::InLine | At::LineStart | At::LineStartCr, _) => {
                    let rest = bytes.get(read..).unwrap_or_default();
                    read += memchr(b'\n', rest).unwrap_or(rest.len());
                    At::InLine
                }
            };
        }
        (read, false)
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_at_its_empty_line_wherever_it_is_cut() {
        for (text, block) in [
            ("GET / HTTP/1.1\r\na: b\r\n\r\nbody\r\n\r\n", "GET / HTTP/1.1\r\na: b\r\n\r\n"),
            ("\r\n\r\nGET /\n\nbody", "GET /\n\n"),
            ("GET /\r\na:\n\r\nbody", "GET /\r\na:\n\r\n"),
            ("GET /\r\r\n\r\r\n\r\nrest", "GET /\r\r\n\r\r\n\r\n"),
        ] {
            for cut in 0..=text.len() {
                let (mut left, mut right) = text.as_bytes().split_at(cut);
                let mut collector = Collector::new();
                let mut taken = collector.take(&mut left, MonoNs(1), 100);
                if taken == Taken::Partial {
                    taken = collector.take(&mut right, MonoNs(2), 100);
                }
                let blank = text.len() - text.trim_start().len();
                let first = MonoNs(if cut > blank { 1 } else { 2 });
                assert_eq!(taken, Taken::Whole(block.as_bytes().to_vec(), first), "{text:?} cut at {cut}");
                assert!(text.as_bytes().ends_with(&[left, right].concat()));
            }
        }
    }

    #[test]
    fn a_block_has_a_limit() {
        let take = |text: &str| Collector::new().take(&mut text.as_bytes(), MonoNs(0), 8);
        assert!(matches!((take("1234\r\n\r\n"), take("12345\r\n\r\n")), (Taken::Whole(..), Taken::TooLong)));
    }
}
