//! A request's own `traceparent` and random bytes in, its place in a trace out.

use crate::correlate::Trace;
use std::fmt::Write as _;

/// Fills a buffer with random bytes: the operating system's in service, a script's in replays.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// The caller's side of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// The sampled flag.
    pub sampled: bool,
}

/// Reads a `traceparent` header as W3C Trace Context prescribes; `None` for whatever is not valid.
///
/// Version 00 has exactly four fields. Of a higher version the first four are read and more may
/// follow behind a dash; version ff is forbidden.
pub fn parse(header: &str) -> Option<Parent> {
    let header = header.trim_matches([' ', '\t']);
    let mut fields = header.splitn(5, '-');
    let [version] = hex(fields.next()?)?;
    let trace_id = hex(fields.next()?)?;
    let span_id = hex(fields.next()?)?;
    let [flags] = hex(fields.next()?)?;
    let more = fields.next().is_some();
    let valid = version != 0xff && !(version == 0 && more) && trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(Parent { trace_id, span_id, sampled: flags & 1 == 1 })
}

/// The place of a request in a trace: under its caller, else a root of its own.
pub fn place(traceparent: Option<&str>, random: &mut Random) -> Trace {
    let span_id = fresh(random);
    match traceparent.and_then(parse) {
        Some(parent) => {
            Trace { trace_id: parent.trace_id, span_id, parent_span_id: Some(parent.span_id), sampled: parent.sampled }
        }
        None => Trace { trace_id: fresh(random), span_id, parent_span_id: None, sampled: true },
    }
}

/// An identifier that is not all zero, which would mean none.
fn fresh<const N: usize>(random: &mut Random) -> [u8; N] {
    let mut id = [0; N];
    random(&mut id);
    if id == [0; N]
        && let Some(last) = id.last_mut()
    {
        *last = 1;
    }
    id
}

/// Bytes as lower-case hex.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes of lower-case hex.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut out = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn valid_headers_give_the_caller() {
        for (header, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-ff"), true),
            (format!(" 00-{TRACE}-{SPAN}-02\t"), false),
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-ever"), true),
        ] {
            let parent = parse(&header).unwrap_or_else(|| panic!("{header} is valid"));
            assert_eq!((parent.trace_id[0], parent.span_id[7], parent.sampled), (0x0a, 0x31, sampled), "{header}");
        }
    }

    #[test]
    fn everything_else_gives_none() {
        for header in [
            String::new(),
            "00".to_owned(),
            "garbage".to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("cc-{TRACE}-{SPAN}-01x"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{}é-{SPAN}-01", "0a".repeat(15)),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            assert_eq!(parse(&header), None, "{header}");
        }
    }

    #[test]
    fn a_root_is_made_where_there_is_no_caller_and_no_id_is_zero() {
        let mut zeros: Random = Box::new(|bytes| bytes.fill(0));
        let trace = place(Some("nonsense"), &mut zeros);
        assert_eq!((trace.parent_span_id, trace.sampled), (None, true));
        assert_ne!(trace.trace_id, [0; 16]);
        assert_ne!(trace.span_id, [0; 8]);
        let child = place(Some(&format!("00-{TRACE}-{SPAN}-00")), &mut zeros);
        assert_eq!((child.parent_span_id.map(|id| id[0]), child.sampled), (Some(0xb7), false));
    }
}
