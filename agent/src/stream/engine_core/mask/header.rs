//! The first byte of a msgpack value in; what the value is and where its length stands out.

use rmp::Marker;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    /// Nil or a truth value.
    Plain,
    Int,
    Float,
    Text,
    Raw,
    /// Raw bytes with a type byte before them.
    Ext,
    Array,
    Map,
}

/// How many bytes or values follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many.
    Of(u32),
    /// The next so many bytes say it.
    In(u8),
}

/// `None` for the one byte that begins no value.
pub(super) fn read(first: u8) -> Option<(Is, Length)> {
    Some(match Marker::from_u8(first) {
        Marker::Null | Marker::True | Marker::False => (Is::Plain, Length::Of(0)),
        Marker::FixPos(_) | Marker::FixNeg(_) => (Is::Int, Length::Of(0)),
        Marker::U8 | Marker::I8 => (Is::Int, Length::Of(1)),
        Marker::U16 | Marker::I16 => (Is::Int, Length::Of(2)),
        Marker::U32 | Marker::I32 => (Is::Int, Length::Of(4)),
        Marker::U64 | Marker::I64 => (Is::Int, Length::Of(8)),
        Marker::F32 => (Is::Float, Length::Of(4)),
        Marker::F64 => (Is::Float, Length::Of(8)),
        Marker::FixStr(n) => (Is::Text, Length::Of(n.into())),
        Marker::Str8 => (Is::Text, Length::In(1)),
        Marker::Str16 => (Is::Text, Length::In(2)),
        Marker::Str32 => (Is::Text, Length::In(4)),
        Marker::Bin8 => (Is::Raw, Length::In(1)),
        Marker::Bin16 => (Is::Raw, Length::In(2)),
        Marker::Bin32 => (Is::Raw, Length::In(4)),
        Marker::FixExt1 => (Is::Ext, Length::Of(1)),
        Marker::FixExt2 => (Is::Ext, Length::Of(2)),
        Marker::FixExt4 => (Is::Ext, Length::Of(4)),
        Marker::FixExt8 => (Is::Ext, Length::Of(8)),
        Marker::FixExt16 => (Is::Ext, Length::Of(16)),
        Marker::Ext8 => (Is::Ext, Length::In(1)),
        Marker::Ext16 => (Is::Ext, Length::In(2)),
        Marker::Ext32 => (Is::Ext, Length::In(4)),
        Marker::FixArray(n) => (Is::Array, Length::Of(n.into())),
        Marker::Array16 => (Is::Array, Length::In(2)),
        Marker::Array32 => (Is::Array, Length::In(4)),
        Marker::FixMap(n) => (Is::Map, Length::Of(n.into())),
        Marker::Map16 => (Is::Map, Length::In(2)),
        Marker::Map32 => (Is::Map, Length::In(4)),
        Marker::Reserved => return None,
    })
}
