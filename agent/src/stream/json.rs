//! JSON bytes in, cut anywhere; the wanted values out, as they pass. Nothing else is kept.
//!
//! Which values are wanted says one table of [paths]. Strings are skipped by `memchr`; text inside a
//! string is never taken for structure. Control characters, the fine print of numbers and the escapes of
//! strings that nobody wants are not checked: the document's owner does that, and answers with an error.

mod mask;
pub mod paths;

use crate::stream::json::paths::Node;
use memchr::memchr2;

/// Containers may nest this deep.
const DEPTH: usize = 512;
/// Longer keys match nothing.
const KEY_CAP: usize = 64;
/// Longer numbers are passed over.
const TOKEN_CAP: usize = 64;

/// A wanted value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A string, unescaped.
    Text(&'a str),
    /// A string that is longer than its cap, unescaped and cut there, and how many bytes more it has.
    Cut(&'a str, usize),
    /// A number as it was written; empty where it was too long.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An object or array begins.
    Open,
    /// It ends.
    Close,
}

impl<'a> Value<'a> {
    /// The string, if it is one.
    pub fn text(self) -> Option<String> {
        self.piece().map(|(text, _)| text.to_owned())
    }

    /// The string, if it is one, and how many bytes beyond its cap it has.
    pub fn piece(self) -> Option<(&'a str, usize)> {
        match self {
            Self::Text(text) => Some((text, 0)),
            Self::Cut(text, beyond) => Some((text, beyond)),
            Self::Number(_) | Self::Bool(_) | Self::Null | Self::Open | Self::Close => None,
        }
    }

    /// The truth value, if it is one.
    pub fn bool(self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(value) } else { None }
    }

    /// The finite number, if it is one.
    pub fn float(self) -> Option<f64> {
        let Self::Number(text) = self else { return None };
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The whole number, if it is one; `16.0` is.
    pub fn int(self) -> Option<i64> {
        let Self::Number(text) = self else { return None };
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and far within range, as checked just above")]
        self.float().filter(|number| number.fract() == 0.0 && number.abs() < 9.0e15).map(|number| number as i64)
    }

    /// The whole number from 0 on, if it is one.
    pub fn unsigned<N: TryFrom<i64>>(self) -> Option<N> {
        N::try_from(self.int()?).ok()
    }

    /// Whether this is a string with something in it.
    pub fn filled(self) -> bool {
        self.piece().is_some_and(|(text, _)| !text.is_empty())
    }
}

/// Why a document could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON, or not whole.
    NotJson,
    /// It nests too deep.
    Nesting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Text,
    Escape,
    Unicode { digits: u8, value: u16 },
    Token,
    Done,
    Bad(Fault),
}

/// The state between two pieces of one document.
#[derive(Debug)]
pub struct Scanner<F: 'static> {
    root: &'static Node<F>,
    state: State,
    depth: usize,
    /// A bit for each open container: whether it is an object.
    objects: [u64; DEPTH / 64],
    /// The places of the open containers, as far as they lead to something wanted.
    places: Vec<&'static Node<F>>,
    /// The place of the value that comes next or is under way.
    place: Option<&'static Node<F>>,
    /// The key, string or token under way.
    kept: Vec<u8>,
    cap: usize,
    /// Bytes of it that lie beyond the cap.
    beyond: usize,
    is_key: bool,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl<F: Copy> Scanner<F> {
    /// Before the first byte of a document.
    pub fn new(root: &'static Node<F>) -> Self {
        Self {
            root,
            state: State::Value,
            depth: 0,
            objects: [0; DEPTH / 64],
            places: Vec::new(),
            place: Some(root),
            kept: Vec::new(),
            cap: 0,
            beyond: 0,
            is_key: false,
            high: None,
        }
    }

    /// Back to before the first byte; the memory is kept.
    pub fn reset(&mut self) {
        self.state = State::Value;
        self.depth = 0;
        self.places.clear();
        self.place = Some(self.root);
    }

    /// Reads on. `take` gets each wanted value where it ends.
    pub fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(F, Value<'_>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Bad(_) => return,
                State::Text => {
                    bytes = self.text(bytes, take);
                    continue;
                }
                State::Token => {
                    let end = bytes.iter().position(|&byte| !in_token(byte)).unwrap_or(bytes.len());
                    let (run, after) = bytes.split_at(end);
                    self.keep(run);
                    if !after.is_empty() {
                        self.end_token(take);
                    }
                    bytes = after;
                    continue;
                }
                State::Escape => self.escape(byte),
                State::Unicode { digits, value } => self.unicode(byte, digits, value),
                State::Value
                | State::ValueOrEnd
                | State::Key
                | State::KeyOrEnd
                | State::Colon
                | State::CommaOrEnd
                | State::Done => self.structure(byte, take),
            }
            bytes = rest;
        }
    }

    /// The document's end: whether it was whole.
    pub fn finish(&mut self, take: &mut impl FnMut(F, Value<'_>)) -> Result<(), Fault> {
        if self.state == State::Token {
            self.end_token(take);
        }
        match self.state {
            State::Done => Ok(()),
            State::Bad(fault) => Err(fault),
            State::Value
            | State::ValueOrEnd
            | State::Key
            | State::KeyOrEnd
            | State::Colon
            | State::CommaOrEnd
            | State::Text
            | State::Escape
            | State::Unicode { .. }
            | State::Token => Err(Fault::NotJson),
        }
    }

    fn structure(&mut self, byte: u8, take: &mut impl FnMut(F, Value<'_>)) {
        let value = matches!(self.state, State::Value | State::ValueOrEnd);
        match (byte, self.state) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'{' | b'[', _) if value => self.open(byte == b'{', take),
            (b'"', _) if value => self.begin(false),
            (_, _) if value && in_token(byte) => {
                self.kept.clear();
                self.beyond = 0;
                self.cap = TOKEN_CAP;
                self.kept.push(byte);
                self.state = State::Token;
            }
            (b'"', State::Key | State::KeyOrEnd) => self.begin(true),
            (b':', State::Colon) => self.state = State::Value,
            (b',', State::CommaOrEnd) if self.in_object() => self.state = State::Key,
            (b',', State::CommaOrEnd) => {
                self.place = self.container().and_then(Node::each);
                self.state = State::Value;
            }
            (b'}', State::CommaOrEnd | State::KeyOrEnd) if self.in_object() => self.close(take),
            (b']', State::CommaOrEnd | State::ValueOrEnd) if !self.in_object() => self.close(take),
            _ => self.state = State::Bad(Fault::NotJson),
        }
    }

    fn open(&mut self, object: bool, take: &mut impl FnMut(F, Value<'_>)) {
        let Some(bits) = self.objects.get_mut(self.depth / 64) else {
            self.state = State::Bad(Fault::Nesting);
            return;
        };
        let bit = 1 << (self.depth % 64);
        *bits = if object { *bits | bit } else { *bits & !bit };
        if let Some(place) = self.place {
            self.places.push(place);
            if let Some(want) = place.want() {
                take(want.field, Value::Open);
            }
        }
        self.depth += 1;
        if object {
            self.state = State::KeyOrEnd;
        } else {
            self.place = self.container().and_then(Node::each);
            self.state = State::ValueOrEnd;
        }
    }

    fn close(&mut self, take: &mut impl FnMut(F, Value<'_>)) {
        if self.container().is_some()
            && let Some(want) = self.places.pop().and_then(Node::want)
        {
            take(want.field, Value::Close);
        }
        self.depth = self.depth.saturating_sub(1);
        self.value_ended();
    }

    fn value_ended(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::CommaOrEnd };
    }

    fn in_object(&self) -> bool {
        let Some(depth) = self.depth.checked_sub(1) else { return false };
        self.objects.get(depth / 64).is_some_and(|bits| bits >> (depth % 64) & 1 == 1)
    }

    /// The place of the innermost container, when it leads to something wanted.
    fn container(&self) -> Option<&'static Node<F>> {
        if self.places.len() == self.depth { self.places.last().copied() } else { None }
    }

    fn begin(&mut self, is_key: bool) {
        self.kept.clear();
        self.beyond = 0;
        self.high = None;
        self.is_key = is_key;
        self.cap = if is_key {
            if self.container().is_some_and(Node::has_keys) { KEY_CAP } else { 0 }
        } else {
            self.place.and_then(Node::want).map_or(0, |want| want.cap)
        };
        self.state = State::Text;
    }

    fn text<'a>(&mut self, bytes: &'a [u8], take: &mut impl FnMut(F, Value<'_>)) -> &'a [u8] {
        let (run, rest) = bytes.split_at(memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len()));
        if !run.is_empty() {
            self.unpaired();
            self.keep(run);
        }
        match rest.split_first() {
            None => rest,
            Some((b'\\', rest)) => {
                self.state = State::Escape;
                rest
            }
            Some((_, rest)) => {
                self.unpaired();
                self.end_text(take);
                rest
            }
        }
    }

    fn end_text(&mut self, take: &mut impl FnMut(F, Value<'_>)) {
        if self.is_key {
            let known = self.container().filter(|_| self.beyond == 0);
            self.place = known.and_then(|container| container.key(&self.kept));
            self.state = State::Colon;
            return;
        }
        if let Some(want) = self.place.and_then(Node::want) {
            if self.beyond == 0 {
                take(want.field, Value::Text(&String::from_utf8_lossy(&self.kept)));
            } else {
                let kept = untorn(&self.kept);
                let beyond = self.beyond + (self.kept.len() - kept.len());
                take(want.field, Value::Cut(&String::from_utf8_lossy(kept), beyond));
            }
        }
        self.value_ended();
    }

    fn end_token(&mut self, take: &mut impl FnMut(F, Value<'_>)) {
        let value = match self.kept.as_slice() {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            b"null" => Value::Null,
            // What Python writes and reads.
            b"NaN" | b"Infinity" | b"-Infinity" => Value::Number(""),
            [b'0'..=b'9', rest @ ..] | [b'-', b'0'..=b'9', rest @ ..] if rest.iter().all(|&byte| in_number(byte)) => {
                Value::Number(if self.beyond > 0 { "" } else { str::from_utf8(&self.kept).unwrap_or("") })
            }
            _ => {
                self.state = State::Bad(Fault::NotJson);
                return;
            }
        };
        if let Some(want) = self.place.and_then(Node::want) {
            take(want.field, value);
        }
        self.value_ended();
    }

    fn escape(&mut self, byte: u8) {
        self.state = State::Text;
        if byte == b'u' {
            if self.cap > 0 {
                self.state = State::Unicode { digits: 0, value: 0 };
            }
            return;
        }
        self.unpaired();
        match byte {
            b'"' | b'\\' | b'/' => self.keep(&[byte]),
            b'b' => self.keep(b"\x08"),
            b'f' => self.keep(b"\x0c"),
            b'n' => self.keep(b"\n"),
            b'r' => self.keep(b"\r"),
            b't' => self.keep(b"\t"),
            _ => self.state = State::Bad(Fault::NotJson),
        }
    }

    fn unicode(&mut self, byte: u8, digits: u8, value: u16) {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
            self.state = State::Bad(Fault::NotJson);
            return;
        };
        let value = value << 4 | digit;
        if digits < 3 {
            self.state = State::Unicode { digits: digits + 1, value };
            return;
        }
        self.state = State::Text;
        let high = self.high.take();
        if let Some(Ok(whole)) = char::decode_utf16(high.into_iter().chain([value])).next() {
            self.keep(whole.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
        if high.is_some() {
            self.keep("\u{fffd}".as_bytes());
        }
        if (0xd800..0xdc00).contains(&value) {
            self.high = Some(value);
        } else {
            let lone = char::from_u32(value.into()).unwrap_or('\u{fffd}');
            self.keep(lone.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// A first half of a pair that no second half followed.
    fn unpaired(&mut self) {
        if self.high.take().is_some() {
            self.keep("\u{fffd}".as_bytes());
        }
    }

    fn keep(&mut self, run: &[u8]) {
        let room = self.cap.saturating_sub(self.kept.len());
        let (kept, beyond) = run.split_at_checked(room).unwrap_or((run, &[]));
        self.kept.extend_from_slice(kept);
        self.beyond += beyond.len();
    }
}

fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Without the beginning of a character at the end, which a cap may leave there.
fn untorn(bytes: &[u8]) -> &[u8] {
    match str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or(bytes),
        Ok(_) | Err(_) => bytes,
    }
}

#[cfg(test)]
mod tests;
