//! A whole HTTP/1 header block in; what matters of it out. [collect] finds the block, [body] what follows it.

pub mod body;
pub mod collect;

use crate::stream::http1::body::Chunked;
use crate::stream::http1::body::Framing;
use httparse::Error;
use httparse::Header;
use httparse::Status;

/// How an HTTP/2 connection begins.
pub const HTTP2: &[u8] = b"PRI * HTTP/2";
/// How every HTTP/1 response begins.
pub const RESPONSE: &[u8] = b"HTTP/1.";

const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"];
/// Headers for which no memory is asked.
const HEADERS: usize = 64;
/// As many as fit a block of 64 KiB.
const MANY_HEADERS: usize = 16_384;
/// Bytes of the beginning that are checked before the block is complete.
const PEEK: usize = 1_024;

/// The methods that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `POST`: the only one that asks for inference.
    Post,
    /// `HEAD`: its response has no body.
    Head,
    /// `CONNECT`: no HTTP afterwards.
    Connect,
    /// Any other.
    Other,
}

/// The head of a request.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path without the query.
    pub path: String,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the body is encoded.
    pub encoded: bool,
    /// Whether the caller waits for `100 Continue`.
    pub expects: bool,
    /// `X-Request-Id`, at most 512 bytes.
    pub x_request_id: Option<String>,
    /// `traceparent`, at most 128 bytes; `None` when there were two that differ.
    pub traceparent: Option<String>,
    /// `X-Session-ID`, at most 256 bytes.
    pub session: Option<String>,
}

/// The head of a response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the body is encoded.
    pub encoded: bool,
    /// Whether the body is `text/event-stream`.
    pub stream: bool,
}

/// Whether the first bytes of a call look like a request of a known method.
pub fn looks_like_request(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        let target = bytes.strip_prefix(*method).and_then(|rest| rest.strip_prefix(b" "));
        matches!(target, Some([b'/' | b'*' | b'h' | b'H', ..])) || *method == b"CONNECT" && target.is_some()
    })
}

/// Whether an incomplete block may still become a request (an HTTP/2 preface included).
pub fn may_be_request(block: &[u8]) -> bool {
    if HTTP2.starts_with(block) || block.starts_with(HTTP2) || block.len() > PEEK {
        return true;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    matches!(httparse::Request::new(&mut headers).parse(block), Ok(_) | Err(Error::TooManyHeaders))
}

/// Whether an incomplete block may still become a response.
pub fn may_be_response(block: &[u8]) -> bool {
    RESPONSE.starts_with(block) || block.starts_with(RESPONSE)
}

/// Reads the block of a request; `None` where it is none, or its framing is contradictory.
pub fn request(block: &[u8]) -> Option<Request> {
    with_headers(|headers| {
        let mut parsed = httparse::Request::new(headers);
        let status = parsed.parse(block)?;
        Ok(whole(status, block).then(|| read_request(&parsed)).flatten())
    })
}

/// Reads the block of a response to `method`; `None` where it is none.
pub fn response(block: &[u8], method: Method) -> Option<Response> {
    with_headers(|headers| {
        let mut parsed = httparse::Response::new(headers);
        let status = parsed.parse(block)?;
        Ok(whole(status, block).then(|| read_response(&parsed, method)).flatten())
    })
}

fn with_headers<'a, T>(mut parse: impl FnMut(&mut [Header<'a>]) -> Result<Option<T>, Error>) -> Option<T> {
    match parse(&mut [httparse::EMPTY_HEADER; HEADERS]) {
        Err(Error::TooManyHeaders) => parse(&mut vec![httparse::EMPTY_HEADER; MANY_HEADERS]).ok().flatten(),
        parsed => parsed.ok().flatten(),
    }
}

fn whole(status: Status<usize>, block: &[u8]) -> bool {
    status == Status::Complete(block.len())
}

fn read_request(parsed: &httparse::Request<'_, '_>) -> Option<Request> {
    let method = match parsed.method? {
        "POST" => Method::Post,
        "HEAD" => Method::Head,
        "CONNECT" => Method::Connect,
        _ => Method::Other,
    };
    let headers = Headers(parsed.headers);
    let framing = match headers.transfer()? {
        Transfer::Chunked => Framing::Chunked(Chunked::new()),
        // A request cannot end with its connection.
        Transfer::Other => return None,
        Transfer::Plain => match headers.length() {
            Length::Unsaid => Framing::Length(0),
            Length::Bytes(bytes) => Framing::Length(bytes),
            Length::Contradiction => return None,
        },
    };
    Some(Request {
        method,
        path: path_of(parsed.path?),
        framing,
        encoded: headers.encoded(),
        expects: headers.all("expect").next().is_some(),
        x_request_id: headers.text("x-request-id", 512),
        traceparent: headers.text("traceparent", 128).filter(|_| headers.agree("traceparent")),
        session: headers.text("x-session-id", 256),
    })
}

fn read_response(parsed: &httparse::Response<'_, '_>, method: Method) -> Option<Response> {
    let status = parsed.code?;
    let headers = Headers(parsed.headers);
    let bodiless = method == Method::Head || matches!(status, 100..200 | 204 | 304);
    let framing = match (headers.transfer()?, headers.length()) {
        _ if bodiless => Framing::Length(0),
        (Transfer::Chunked, _) => Framing::Chunked(Chunked::new()),
        (Transfer::Other, _) | (Transfer::Plain, Length::Unsaid) => Framing::Close,
        (Transfer::Plain, Length::Bytes(bytes)) => Framing::Length(bytes),
        (Transfer::Plain, Length::Contradiction) => return None,
    };
    let stream = headers.all("content-type").any(|value| {
        let kind = value.split(|&byte| byte == b';').next().unwrap_or(value);
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    });
    Some(Response { status, framing, encoded: headers.encoded(), stream })
}

/// The path of a target in origin form or absolute form, without query and fragment.
fn path_of(target: &str) -> String {
    let target = target.split(['?', '#']).next().unwrap_or(target);
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| rest.split_at(at).1),
        _ => target,
    };
    path.to_owned()
}

/// `text` up to `cap` bytes, ending with a whole character.
pub fn cut(text: &str, cap: usize) -> &str {
    text.split_at(text.floor_char_boundary(cap)).0
}

enum Transfer {
    Plain,
    Chunked,
    Other,
}

#[derive(PartialEq)]
enum Length {
    Unsaid,
    Bytes(u64),
    Contradiction,
}

struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The elements of a header that is a list, over all its lines.
    fn list(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let elements = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    }

    fn text(&self, name: &'static str, cap: usize) -> Option<String> {
        let value = String::from_utf8_lossy(self.all(name).next()?);
        Some(cut(&value, cap).to_owned())
    }

    fn agree(&self, name: &'static str) -> bool {
        let mut values = self.all(name);
        let first = values.next();
        values.all(|value| Some(value) == first)
    }

    fn encoded(&self) -> bool {
        self.list("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }

    fn transfer(&self) -> Option<Transfer> {
        let mut codings = self.list("transfer-encoding").filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let (mut transfer, mut earlier) = (Transfer::Plain, 0);
        for coding in &mut codings {
            earlier += u32::from(chunked(coding));
            transfer = if chunked(coding) { Transfer::Chunked } else { Transfer::Other };
        }
        (earlier <= 1).then_some(transfer)
    }

    fn length(&self) -> Length {
        let mut length = Length::Unsaid;
        for value in self.list("content-length") {
            let digits = value.iter().all(u8::is_ascii_digit);
            match str::from_utf8(value).unwrap_or_default().parse::<u64>() {
                Ok(bytes) if digits && [Length::Unsaid, Length::Bytes(bytes)].contains(&length) => {
                    length = Length::Bytes(bytes);
                }
                _ => return Length::Contradiction,
            }
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &str) -> Option<Request> {
        request(format!("POST /v1/x HTTP/1.1\r\n{headers}\r\n").as_bytes())
    }

    fn reply(status: &str, headers: &str, method: Method) -> Option<Response> {
        response(format!("HTTP/1.1 {status}\r\n{headers}\r\n").as_bytes(), method)
    }

    #[test]
    fn framing_follows_the_headers() {
        let chunked = Framing::Chunked(Chunked::new());
        for (headers, expected) in [
            ("", Some(Framing::Length(0))),
            ("Content-Length: 12\r\n", Some(Framing::Length(12))),
            ("content-length: 5\r\nCONTENT-LENGTH: 5\r\n", Some(Framing::Length(5))),
            ("Content-Length: 5, 5\r\n", Some(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            ("Content-Length: -1\r\n", None),
            ("Content-Length: +1\r\n", None),
            ("Content-Length: 99999999999999999999\r\n", None),
            ("Transfer-Encoding: chunked\r\n", Some(chunked)),
            ("Transfer-Encoding: gzip, Chunked\r\nContent-Length: 4\r\n", Some(chunked)),
            ("Transfer-Encoding: gzip\r\n", None),
            ("Transfer-Encoding: chunked, chunked\r\n", None),
        ] {
            assert_eq!(ask(headers).map(|head| head.framing), expected, "{headers:?}");
        }
        for (status, headers, method, expected) in [
            ("200 OK", "Content-Length: 3\r\n", Method::Post, Some(Framing::Length(3))),
            ("200 OK", "Content-Length: 3\r\n", Method::Head, Some(Framing::Length(0))),
            ("204 No Content", "", Method::Post, Some(Framing::Length(0))),
            ("304 Not Modified", "Content-Length: 9\r\n", Method::Other, Some(Framing::Length(0))),
            ("200 OK", "", Method::Post, Some(Framing::Close)),
            ("200", "transfer-encoding: chunked\r\n", Method::Post, Some(chunked)),
            ("200 OK", "Transfer-Encoding: gzip\r\n", Method::Post, Some(Framing::Close)),
            ("2x0 OK", "", Method::Post, None),
        ] {
            assert_eq!(reply(status, headers, method).map(|head| head.framing), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn ids_are_kept_up_to_their_caps() {
        let long = "x".repeat(600);
        let head =
            ask(&format!("x-REQUEST-id: {long}\r\nX-Session-ID: {long}\r\ntraceparent: a\r\nTraceparent: a\r\n"));
        let head = head.unwrap();
        let lengths = [head.x_request_id, head.session].map(|id| id.unwrap().len());
        assert_eq!((lengths, head.traceparent.as_deref()), ([512, 256], Some("a")));
        assert_eq!(ask("traceparent: a\r\ntraceparent: b\r\n").unwrap().traceparent, None);
    }

    #[test]
    fn any_number_of_headers_is_read() {
        let head = ask(&format!("{}Content-Length: 7\r\n", "a:\r\n".repeat(5_000))).unwrap();
        assert_eq!(head.framing, Framing::Length(7));
    }

    #[test]
    fn encodings_and_streams_are_recognised() {
        assert!(!ask("Content-Encoding: identity\r\n").unwrap().encoded);
        assert!(ask("Content-Encoding: GZip\r\n").unwrap().encoded);
        for (kind, expected) in [
            ("text/event-stream; charset=utf-8", true),
            ("Text/Event-Stream", true),
            ("application/json", false),
            ("text/event-streams", false),
        ] {
            let head = reply("200 OK", &format!("Content-Type: {kind}\r\n"), Method::Post).unwrap();
            assert_eq!(head.stream, expected, "{kind}");
        }
    }

    #[test]
    fn paths_lose_scheme_host_and_query() {
        for (target, expected) in [
            ("/v1/x?api-version=1&u=http://h/y", "/v1/x"),
            ("http://host:80/v1/x?q", "/v1/x"),
            ("http://host", "/"),
            ("http://host?u=/v1/x", "/"),
            ("*", "*"),
            ("/a#b", "/a"),
        ] {
            assert_eq!(path_of(target), expected);
        }
    }

    #[test]
    fn a_beginning_tells_requests_from_rubbish() {
        for (bytes, may) in [
            (&b"P"[..], true),
            (b"POST /v1/ch", true),
            (b"PRI * HTTP/2.0\r\n", true),
            (b"\x16\x03\x01\x02", false),
            (b"GET / HTTP/3", false),
            (b"SSH-2.0-x\r\n", false),
        ] {
            assert_eq!(may_be_request(bytes), may, "{bytes:?}");
        }
        assert!(looks_like_request(b"POST /v1") && looks_like_request(b"GET http://h/"));
        assert!(!looks_like_request(b"POST") && !looks_like_request(b"data: POST /") && !looks_like_request(b"PUT it"));
    }
}
