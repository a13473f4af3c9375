//! Bytes of one msgpack message in, cut anywhere; the same out with that of the values which a shape names.

use super::header;
use super::header::Is;
use super::header::Length;
use super::shape;
use super::shape::Field;
use super::shape::Shape;
use crate::stream::engine_core::requests::EXTERNAL_AFTER_CLIENT;
use crate::stream::engine_core::requests::RANK_AFTER_ARRIVAL;
use crate::stream::mask::HIDDEN;
use crate::stream::mask::HIDDEN_NAME;

/// A negative number that is hidden; [`HIDDEN`] itself is a positive one.
const HIDDEN_NEGATIVE: u8 = 0xff;

/// The state between two pieces of one message.
#[derive(Debug)]
pub(super) struct Walk {
    root: &'static Shape,
    state: State,
    /// What is open and leads to something that stays, the innermost last.
    open: Vec<Open>,
    /// Values still to pass of something open of which nothing stays.
    hidden: u64,
}

/// A list or structure.
#[derive(Debug)]
struct Open {
    shape: &'static Shape,
    is_map: bool,
    /// How many values it has; in a map names count too.
    values: u64,
    /// How many of them are over.
    at: u64,
    /// What of the value stays whose name was just read.
    named: &'static Shape,
    found: Found,
}

/// What was found in an array of which places alone do not tell.
#[derive(Debug, Default)]
struct Found {
    /// Token ids are an array of numpy.
    numpy: bool,
    params: bool,
    arrival: Option<u64>,
    client: Option<u64>,
}

/// A value and what of it stays.
#[derive(Debug, Clone, Copy)]
struct Value {
    is: Is,
    shape: &'static Shape,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a value.
    First,
    /// In the length of what follows.
    Length { value: Value, bytes: u8, length: u32 },
    /// Before the type of an ext.
    Type { length: u32 },
    /// In the rest of a number or string.
    Body { left: u32, how: How },
    /// After the message.
    Whole,
    /// It is no such message, from some byte on.
    Lost,
}

/// How a value's bytes are masked.
#[derive(Debug, Clone, Copy)]
enum How {
    Stays,
    Hidden,
    /// As long as it is the beginning of one of these, each a bit of `alive`.
    Names {
        names: Names,
        at: usize,
        alive: u32,
    },
}

#[derive(Debug, Clone, Copy)]
enum Names {
    Fields(&'static [Field]),
    Words(&'static [&'static str]),
}

impl Walk {
    pub(super) fn new(root: &'static Shape) -> Self {
        Self { root, state: State::First, open: Vec::new(), hidden: 0 }
    }

    /// Whether the message is complete, with nothing after it.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// Masks the next bytes in their place.
    pub(super) fn mask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = match self.state {
                State::First => self.first(*byte),
                State::Length { value, bytes, length } => {
                    let length = length << 8 | u32::from(*byte);
                    match bytes {
                        1 => self.begin(value, length),
                        _ => self.state = State::Length { value, bytes: bytes - 1, length },
                    }
                    *byte
                }
                State::Type { length } => {
                    self.body(length, How::Hidden);
                    *byte
                }
                State::Body { left, how } => self.in_body(*byte, left, how),
                State::Whole | State::Lost => {
                    self.state = State::Lost;
                    HIDDEN
                }
            };
        }
    }

    fn first(&mut self, byte: u8) -> u8 {
        let Some((is, length)) = header::read(byte) else {
            self.state = State::Lost;
            return byte;
        };
        if !self.fits(is) {
            self.state = State::Lost;
            return HIDDEN;
        }
        let value = Value { is, shape: self.shape(is) };
        match length {
            Length::Of(length) => self.begin(value, length),
            Length::In(bytes) => self.state = State::Length { value, bytes, length: 0 },
        }
        match byte {
            _ if takes_numbers(value.shape) => byte,
            0..0x80 => HIDDEN,
            0xe0.. => HIDDEN_NEGATIVE,
            _ => byte,
        }
    }

    /// Whether a message can go on with such a value. Outputs must look like it: a list of structures
    /// that begin with an id.
    fn fits(&self, is: Is) -> bool {
        let structure = matches!(is, Is::Array | Is::Map);
        match self.open.as_slice() {
            [] => structure,
            _ if self.hidden > 0 => true,
            [Open { shape: Shape::Outputs(_), is_map: false, at: 0, .. }] => is == Is::Int,
            [Open { shape: Shape::Outputs(_), is_map: false, at: 1, .. }] => is == Is::Array,
            [Open { shape: Shape::Outputs(_), is_map: false, at: 1, .. }, _] => structure,
            [Open { shape: Shape::Outputs(_), .. }, _, Open { is_map: false, at: 0, .. }] => is == Is::Text,
            _ => true,
        }
    }

    /// What of the value stays that begins here.
    fn shape(&mut self, is: Is) -> &'static Shape {
        if self.hidden > 0 {
            return &shape::NOTHING;
        }
        self.open.last_mut().map_or(self.root, |open| open.next(is))
    }

    /// A value of which so many bytes or values follow.
    fn begin(&mut self, value: Value, length: u32) {
        match value.is {
            Is::Int | Is::Float if takes_numbers(value.shape) => self.body(length, How::Stays),
            Is::Plain | Is::Int | Is::Float | Is::Raw => self.body(length, How::Hidden),
            Is::Text => self.body(length, self.text(value.shape, length)),
            Is::Ext => self.state = State::Type { length },
            Is::Array => self.enter(value, length.into()),
            Is::Map => self.enter(value, 2 * u64::from(length)),
        }
    }

    fn text(&self, shape: &'static Shape, length: u32) -> How {
        let name = self.open.last().filter(|open| self.hidden == 0 && open.is_at_name()).map(Open::fields);
        let names = match (name, shape) {
            (Some(fields), _) => Names::Fields(fields),
            (None, Shape::Text) => return How::Stays,
            (None, Shape::Word(words)) => Names::Words(words),
            (None, _) => return How::Hidden,
        };
        How::Names { names, at: 0, alive: names.of_length(length) }
    }

    fn enter(&mut self, Value { is, shape }: Value, values: u64) {
        if values == 0 {
            self.ended();
            return;
        }
        self.state = State::First;
        let leads_on = match shape {
            Shape::Nothing | Shape::Number | Shape::Text | Shape::Word(_) => false,
            Shape::Tokens | Shape::Each(_) => is == Is::Array,
            Shape::Fields(_) | Shape::NumberOrFields(_) | Shape::Outputs(_) | Shape::Add(_) => true,
        };
        if leads_on {
            let (is_map, named, found) = (is == Is::Map, &shape::NOTHING, Found::default());
            self.open.push(Open { shape, is_map, values, at: 0, named, found });
        } else {
            self.hidden = self.hidden.saturating_sub(1).saturating_add(values);
        }
    }

    fn body(&mut self, bytes: u32, how: How) {
        self.state = State::Body { left: bytes, how };
        if bytes == 0 {
            self.ended();
        }
    }

    fn in_body(&mut self, byte: u8, left: u32, mut how: How) -> u8 {
        let stays = match &mut how {
            How::Stays => true,
            How::Hidden => false,
            How::Names { names, at, alive } => {
                *alive = names.going_on(*alive, *at, byte);
                *at += 1;
                *alive != 0
            }
        };
        self.state = State::Body { left: left - 1, how };
        if left == 1 {
            if let (How::Names { names: Names::Fields(fields), alive, .. }, Some(open)) = (how, self.open.last_mut()) {
                let field = usize::try_from(alive.trailing_zeros()).ok().and_then(|at| fields.get(at));
                open.named = field.map_or(&shape::NOTHING, |field| &field.shape);
            }
            self.ended();
        }
        match how {
            _ if stays => byte,
            How::Names { .. } => HIDDEN_NAME,
            How::Stays | How::Hidden => HIDDEN,
        }
    }

    /// A value is over, and with it, it may be, what holds it.
    fn ended(&mut self) {
        self.state = State::First;
        self.hidden = self.hidden.saturating_sub(1);
        if self.hidden > 0 {
            return;
        }
        while let Some(open) = self.open.last_mut() {
            open.at += 1;
            if open.at < open.values {
                return;
            }
            self.open.pop();
        }
        self.state = State::Whole;
    }
}

impl Open {
    fn is_at_name(&self) -> bool {
        self.is_map && self.at.is_multiple_of(2)
    }

    fn fields(&self) -> &'static [Field] {
        match self.shape {
            Shape::Fields(fields) | Shape::NumberOrFields(fields) | Shape::Outputs(fields) | Shape::Add(fields) => {
                fields
            }
            _ => &[],
        }
    }

    /// What of the next value stays, which is of this kind.
    fn next(&mut self, is: Is) -> &'static Shape {
        if self.is_at_name() {
            self.named = &shape::NOTHING;
            return &shape::NOTHING;
        }
        if self.is_map {
            return self.named;
        }
        let place = u32::try_from(self.at).unwrap_or(u32::MAX);
        match self.shape {
            Shape::Each(shape) => shape,
            Shape::Tokens => self.in_tokens(is),
            _ => match self.fields().iter().find(|field| field.is_at(place)) {
                Some(field) => &field.shape,
                None if matches!(self.shape, Shape::Add(_)) => self.in_add(is),
                None => &shape::NOTHING,
            },
        }
    }

    /// `[dtype, shape, data]` tells its count by its shape.
    fn in_tokens(&mut self, is: Is) -> &'static Shape {
        match self.at {
            0 => self.found.numpy = self.values == 3 && is == Is::Text,
            1 if self.found.numpy => return &shape::NUMBERS,
            _ => {}
        }
        &shape::NOTHING
    }

    /// The fields that move from version to version.
    fn in_add(&mut self, is: Is) -> &'static Shape {
        let (at, found) = (self.at, &mut self.found);
        match (is, found.arrival, found.client) {
            (Is::Map, None, _) if !found.params => {
                found.params = true;
                &shape::PARAMS
            }
            (Is::Float, None, _) => {
                found.arrival = Some(at);
                &shape::NUMBER
            }
            (Is::Int, Some(arrival), None) if at > arrival + u64::from(RANK_AFTER_ARRIVAL) => {
                found.client = Some(at);
                &shape::NUMBER
            }
            (Is::Text, _, Some(client)) if at == client + u64::from(EXTERNAL_AFTER_CLIENT) => &shape::TEXT,
            _ => &shape::NOTHING,
        }
    }
}

impl Names {
    fn all(self) -> impl Iterator<Item = (u32, &'static [u8])> {
        let (fields, words): (&[Field], &[&str]) = match self {
            Self::Fields(fields) => (fields, &[]),
            Self::Words(words) => (&[], words),
        };
        let names = fields.iter().map(|field| field.name).chain(words.iter().copied());
        (0..).map(|at| 1 << at).zip(names.map(str::as_bytes))
    }

    fn of_length(self, length: u32) -> u32 {
        let long = self.all().filter(|(_, name)| u32::try_from(name.len()) == Ok(length));
        long.fold(0, |alive, (bit, _)| alive | bit)
    }

    /// Which of those that are `alive` have this byte there.
    fn going_on(self, alive: u32, at: usize, byte: u8) -> u32 {
        let gone = self.all().filter(|(_, name)| name.get(at) != Some(&byte));
        gone.fold(alive, |alive, (bit, _)| alive & !bit)
    }
}

fn takes_numbers(shape: &Shape) -> bool {
    matches!(shape, Shape::Number | Shape::Word(_) | Shape::NumberOrFields(_))
}
