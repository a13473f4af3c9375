//! Bytes of msgpack in, one value after another out: bounds checked, nothing allocated, no recursion.
//!
//! Every method gives `None` where the bytes end too early or are no msgpack of the kind asked for;
//! the walk is over then.

use rmp::Marker;

/// A scalar, or the header of what holds more values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Bool,
    /// An integer; what does not fit is `None`.
    Int(Option<i64>),
    Float(f64),
    Str(&'a str),
    /// Raw bytes: bin, ext, or a str that is no UTF-8.
    Raw,
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

impl<'a> Value<'a> {
    pub(super) fn int(self) -> Option<i64> {
        if let Self::Int(n) = self { n } else { None }
    }

    pub(super) fn count(self) -> Option<u32> {
        self.int().and_then(|n| u32::try_from(n).ok())
    }

    pub(super) fn float(self) -> Option<f64> {
        if let Self::Float(x) = self { Some(x) } else { self.int().map(|n| n as f64) }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }
}

/// Which field of a structure: structures are arrays by position or maps by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    At(u32),
    Named(&'a str),
}

/// A place in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all bytes are read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, n: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(n).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn length<const N: usize>(&mut self) -> Option<u32> {
        Some(self.number::<N>()?.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn text(&mut self, n: u32) -> Option<Value<'a>> {
        Some(std::str::from_utf8(self.take(n)?).map_or(Value::Raw, Value::Str))
    }

    fn raw(&mut self, n: u32) -> Option<Value<'a>> {
        self.take(n).map(|_| Value::Raw)
    }

    /// Bytes with a type byte before them.
    fn ext(&mut self, n: u32) -> Option<Value<'a>> {
        self.take(1)?;
        self.raw(n)
    }

    /// The next scalar or header.
    pub(super) fn read(&mut self) -> Option<Value<'a>> {
        let [first] = self.number()?;
        Some(match Marker::from_u8(first) {
            Marker::Null => Value::Nil,
            Marker::True | Marker::False => Value::Bool,
            Marker::FixPos(n) => Value::Int(Some(n.into())),
            Marker::FixNeg(n) => Value::Int(Some(n.into())),
            Marker::U8 => Value::Int(Some(u8::from_be_bytes(self.number()?).into())),
            Marker::U16 => Value::Int(Some(u16::from_be_bytes(self.number()?).into())),
            Marker::U32 => Value::Int(Some(u32::from_be_bytes(self.number()?).into())),
            Marker::U64 => Value::Int(i64::try_from(u64::from_be_bytes(self.number()?)).ok()),
            Marker::I8 => Value::Int(Some(i8::from_be_bytes(self.number()?).into())),
            Marker::I16 => Value::Int(Some(i16::from_be_bytes(self.number()?).into())),
            Marker::I32 => Value::Int(Some(i32::from_be_bytes(self.number()?).into())),
            Marker::I64 => Value::Int(Some(i64::from_be_bytes(self.number()?))),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(n) => self.text(n.into())?,
            Marker::Str8 => {
                let n = self.length::<1>()?;
                self.text(n)?
            }
            Marker::Str16 => {
                let n = self.length::<2>()?;
                self.text(n)?
            }
            Marker::Str32 => {
                let n = self.length::<4>()?;
                self.text(n)?
            }
            Marker::Bin8 => {
                let n = self.length::<1>()?;
                self.raw(n)?
            }
            Marker::Bin16 => {
                let n = self.length::<2>()?;
                self.raw(n)?
            }
            Marker::Bin32 => {
                let n = self.length::<4>()?;
                self.raw(n)?
            }
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => {
                let n = self.length::<1>()?;
                self.ext(n)?
            }
            Marker::Ext16 => {
                let n = self.length::<2>()?;
                self.ext(n)?
            }
            Marker::Ext32 => {
                let n = self.length::<4>()?;
                self.ext(n)?
            }
            Marker::FixArray(n) => Value::Array(n.into()),
            Marker::Array16 => Value::Array(self.length::<2>()?),
            Marker::Array32 => Value::Array(self.length::<4>()?),
            Marker::FixMap(n) => Value::Map(n.into()),
            Marker::Map16 => Value::Map(self.length::<2>()?),
            Marker::Map32 => Value::Map(self.length::<4>()?),
            Marker::Reserved => return None,
        })
    }

    /// The next scalar or header, without moving on.
    pub(super) fn peek(&self) -> Option<Value<'a>> {
        let mut ahead = *self;
        ahead.read()
    }

    /// Moves over one value with all that it holds.
    ///
    /// It counts the values still to pass instead of nesting, so depth costs nothing; each takes a byte
    /// at least, so a header that claims more than there is ends the walk at once.
    pub(super) fn skip(&mut self) -> Option<()> {
        let mut pending: u64 = 1;
        while pending > 0 {
            pending -= 1;
            if let Some(n) = self.rest.first().and_then(|first| number_bytes(*first)) {
                self.rest = self.rest.get(n..)?;
                continue;
            }
            pending += match self.read()? {
                Value::Array(n) => u64::from(n),
                Value::Map(n) => 2 * u64::from(n),
                Value::Nil | Value::Bool | Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Raw => 0,
            };
            if pending > u64::try_from(self.rest.len()).unwrap_or(u64::MAX) {
                return None;
            }
        }
        Some(())
    }

    /// The header of a list of at most `most` items, which it must be: a byte of input can cost a
    /// hundred of memory where items become values.
    pub(super) fn list(&mut self, most: u32) -> Option<u32> {
        if let Value::Array(n) = self.read()? { (n <= most).then_some(n) } else { None }
    }

    /// Walks a structure; `each` must take exactly one value.
    pub(super) fn fields(&mut self, mut each: impl FnMut(Key<'a>, &mut Self) -> Option<()>) -> Option<()> {
        match self.read()? {
            Value::Array(n) => (0..n).try_for_each(|at| each(Key::At(at), self)),
            Value::Map(n) => (0..n).try_for_each(|_| {
                let name = *self;
                if let Value::Str(name) = self.read()? {
                    return each(Key::Named(name), self);
                }
                *self = name;
                self.skip()?;
                self.skip()
            }),
            Value::Nil | Value::Bool | Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Raw => None,
        }
    }

    /// Takes one value whole; gives the scalar or header that it began with.
    pub(super) fn one(&mut self) -> Option<Value<'a>> {
        let value = self.peek()?;
        self.skip()?;
        Some(value)
    }

    /// How many token ids the next value holds, without moving on: a list, or an array of numpy as
    /// `[dtype, shape, data]`. `None` for anything else.
    pub(super) fn tokens(&self) -> Option<u32> {
        let mut ahead = *self;
        let Value::Array(n) = ahead.read()? else { return None };
        if n != 3 || !matches!(ahead.peek()?, Value::Str(_)) {
            return Some(n);
        }
        ahead.skip()?;
        let Value::Array(dimensions) = ahead.read()? else { return None };
        let mut count: u32 = 1;
        for _ in 0..dimensions {
            count = count.saturating_mul(ahead.one()?.count()?);
        }
        Some(count)
    }
}

/// Bytes of a value that is nil, a bool or a number, by its first byte.
const fn number_bytes(first: u8) -> Option<usize> {
    match first {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Some(1),
        0xcc | 0xd0 => Some(2),
        0xcd | 0xd1 => Some(3),
        0xca | 0xce | 0xd2 => Some(5),
        0xcb | 0xcf | 0xd3 => Some(9),
        _ => None,
    }
}
