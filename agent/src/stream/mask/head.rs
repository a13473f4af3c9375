//! The beginning of an HTTP/1 header block in, the same out without queries and most values.

use super::HIDDEN;
use super::SPOILED;

/// Headers whose values are read. Any other may be a secret, or lead to one.
const READ: [&[u8]; 7] = [
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"traceparent",
    b"transfer-encoding",
    b"x-request-id",
    b"x-session-id",
];

/// Bytes of a header's name that stay; what is longer may be no name.
const NAME_BYTES: usize = 64;

/// Where in a block a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The method, or a response's version.
    First,
    /// Before a request's target.
    Target,
    Path,
    /// The scheme of a whole URL, after so many bytes.
    Scheme(usize),
    /// Its host, with what may be a password.
    Host,
    /// After `?` or `#`, or where no target begins so.
    Query,
    /// The version of a request.
    Version,
    Status,
    /// The words after the status.
    Reason,
    /// A header's name, after so many bytes.
    Name(usize),
    Read,
    Secret,
}

/// As long as `block`. What comes after it in the same block changes nothing of it.
pub fn masked(block: &[u8]) -> Vec<u8> {
    let (mut at, mut line) = (At::First, 0);
    let mut out = Vec::with_capacity(block.len());
    for (index, &byte) in block.iter().enumerate() {
        let so_far = block.get(line..index).unwrap_or_default();
        out.push(if stays(at, byte) { byte } else { hidden(at, byte) });
        at = next(at, byte, so_far);
        if byte == b'\n' {
            line = index + 1;
        }
    }
    out
}

fn stays(at: At, byte: u8) -> bool {
    if byte == b' ' || byte.is_ascii_control() {
        return true;
    }
    match at {
        At::First => byte.is_ascii() && !byte.is_ascii_lowercase(),
        At::Target => matches!(byte, b'/' | b'*' | b'h' | b'H'),
        At::Scheme(bytes) => in_scheme(bytes, byte),
        At::Version => byte.is_ascii_digit() || b"HTP/.".contains(&byte),
        At::Status => byte.is_ascii_digit(),
        At::Name(bytes) => byte.is_ascii() && (bytes < NAME_BYTES || !byte.is_ascii_alphanumeric()),
        At::Path | At::Read => true,
        At::Host => matches!(byte, b'/' | b'?' | b'#'),
        At::Query | At::Reason | At::Secret => false,
    }
}

/// What is no HTTP is none afterwards.
fn hidden(at: At, byte: u8) -> u8 {
    if matches!(at, At::First | At::Name(_)) && !byte.is_ascii() { SPOILED } else { HIDDEN }
}

/// Where the byte after `byte` stands; `line` is what came before it in its line.
fn next(at: At, byte: u8, line: &[u8]) -> At {
    match (at, byte) {
        (_, b'\n') => At::Name(0),
        (At::First, b' ') if line.starts_with(b"HTTP/") => At::Status,
        (At::First, b' ') => At::Target,
        (At::Target | At::Path | At::Scheme(_) | At::Host | At::Query, b' ') => At::Version,
        (At::Target, b'/' | b'*') | (At::Host, b'/') => At::Path,
        (At::Target, b'h' | b'H') => At::Scheme(1),
        (At::Scheme(_), b'/') if line.ends_with(b":/") => At::Host,
        (At::Scheme(bytes), _) if in_scheme(bytes, byte) => At::Scheme(bytes + 1),
        (At::Path | At::Host, b'?' | b'#') | (At::Target | At::Scheme(_), _) => At::Query,
        (At::Status, b' ') => At::Reason,
        (At::Name(_), b':') if READ.iter().any(|name| name.eq_ignore_ascii_case(line)) => At::Read,
        (At::Name(_), b':') | (At::Name(0), b' ' | b'\t') => At::Secret,
        (At::Name(bytes), _) => At::Name(bytes + 1),
        _ => at,
    }
}

fn in_scheme(at: usize, byte: u8) -> bool {
    let is = |scheme: &[u8]| scheme.get(at).is_some_and(|it| it.eq_ignore_ascii_case(&byte));
    is(b"http://") || is(b"https://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::http1;

    #[test]
    fn what_is_read_stays_and_secrets_do_not() {
        for (clear, expected) in [
            ("POST /v1/completions HTTP/1.1\r\n\r\n", "POST /v1/completions HTTP/1.1\r\n\r\n"),
            ("GET /v1/models?api_key=sk-1&x=%20 HTTP/1.1\r\n", "GET /v1/models?xxxxxxxxxxxxxxxxxx HTTP/1.1\r\n"),
            ("GET /a#sk-1 HTTP/1.1\r\n", "GET /a#xxxx HTTP/1.1\r\n"),
            ("GET http://me:pw@host:80/v1/x?k=1 HTTP/1.1\r\n", "GET http://xxxxxxxxxxxxx/v1/x?xxx HTTP/1.1\r\n"),
            ("GET HTTPS://h/ HTTP/1.1\r\n", "GET HTTPS://x/ HTTP/1.1\r\n"),
            ("OPTIONS * HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n"),
            ("Tell hello to me", "Txxx hxxxx xx xx"),
            ("HTTP/1.1 200 OK: sk-1\r\n", "HTTP/1.1 200 xxx xxxx\r\n"),
            ("A /\r\nAuthorization: Bearer sk-1\r\n", "A /\r\nAuthorization: xxxxxx xxxx\r\n"),
            ("A /\r\nproxy-authorization:Basic bTpw\r\n", "A /\r\nproxy-authorization:xxxxx xxxx\r\n"),
            ("A /\r\nCookie: a=b; c=\"d\"\r\n", "A /\r\nCookie: xxxx xxxxx\r\n"),
            ("A /\r\nSet-Cookie: s=1\tSecure\r\n", "A /\r\nSet-Cookie: xxx\txxxxxx\r\n"),
            ("A /\r\nX-API-Key: sk-1\r\napi-key: é\r\n", "A /\r\nX-API-Key: xxxx\r\napi-key: xx\r\n"),
            ("A /\r\nX-Any-Other: sk-1\n", "A /\r\nX-Any-Other: xxxx\n"),
            ("A /\r\nA: 1\r\n sk-1\r\n", "A /\r\nA: x\r\n xxxx\r\n"),
            (
                "A /\r\ncontent-LENGTH: 12\r\nx-request-id: a:b\r\n",
                "A /\r\ncontent-LENGTH: 12\r\nx-request-id: a:b\r\n",
            ),
            ("A /\r\nX-Request-Id2: sk-1\r\n", "A /\r\nX-Request-Id2: xxxx\r\n"),
        ] {
            assert_eq!(String::from_utf8(masked(clear.as_bytes())).unwrap(), expected);
            for cut in 0..clear.len() {
                let beginning = clear.as_bytes().split_at(cut).0;
                assert!(expected.as_bytes().starts_with(&masked(beginning)), "{clear:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_name_that_is_none_goes_too() {
        let block = format!("A /\r\n{} sk1\r\n", "n".repeat(NAME_BYTES));
        assert!(masked(block.as_bytes()).ends_with(b"n xxx\r\n"));
        assert!(masked("A /\r\né: 1".as_bytes()).ends_with(b"\n\0\0: x"));
    }

    #[test]
    fn a_masked_head_reads_as_before() {
        let clear = b"POST /v1/chat/completions?k=sk-1 HTTP/1.1\r\nHost: h\r\nX-Request-Id: a\r\nX-Session-ID: s\r\n\
            traceparent: t\r\nContent-Length: 7\r\nExpect: 100-continue\r\nAuthorization: Bearer sk-1\r\n\r\n";
        let read = |block: &[u8]| format!("{:?}", http1::request(block).unwrap());
        assert_eq!(read(&masked(clear)), read(clear));
        assert_eq!(masked(&masked(clear)), masked(clear));
    }
}
