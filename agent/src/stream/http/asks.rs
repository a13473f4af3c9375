//! The bytes a server receives: heads and bodies of requests.

use crate::clock::MonoNs;
use crate::stream::AskBody;
use crate::stream::AskHead;
use crate::stream::http::connection::Connection;
use crate::stream::http::connection::Context;
use crate::stream::http1;
use crate::stream::http1::Method;
use crate::stream::http1::body::Framing;
use crate::stream::http1::body::Step;
use crate::stream::http1::collect::Collector;
use crate::stream::http1::collect::Taken;
use crate::stream::openai;
use crate::stream::openai::ask::AskScan;

/// Requests that may wait for their responses in one connection.
const PIPELINED: usize = 256;

/// Bytes of a path that are kept.
const PATH_CAP: usize = 512;

/// Where in the requests a connection is.
#[derive(Debug)]
pub(super) enum Asks {
    /// Between two requests or inside a head.
    Head {
        head: Collector,
        /// It is a guess: if it is none after all, nothing is wrong.
        sought: bool,
    },
    /// Inside a body.
    Body(Box<Body>),
    /// After a gap: nothing counts until a call begins with a request.
    Seeking,
    /// They stopped making sense, and none is read any more.
    Over,
}

/// A request body under way.
#[derive(Debug)]
pub(super) struct Body {
    number: u32,
    framing: Framing,
    reading: Reading,
    bytes: u64,
    expects: bool,
    missed: bool,
}

#[derive(Debug)]
enum Reading {
    Scan(Box<AskScan>),
    Unread(&'static str),
}

impl Asks {
    /// Before the first request.
    pub(super) fn fresh() -> Self {
        Self::Head { head: Collector::new(), sought: false }
    }

    /// Bytes were missed, an unknown number of them.
    pub(super) fn gap(&mut self) {
        if !self.is_over() {
            *self = Self::Seeking;
        }
    }

    /// Whether nothing more is read.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Whether a head has begun and is incomplete.
    pub(super) fn is_torn(&self) -> bool {
        matches!(self, Self::Head { head, sought: false } if !head.block().is_empty())
    }
}

impl Connection {
    /// Bytes came in.
    pub(super) fn incoming(&mut self, mut bytes: &[u8], missing: u32, cx: &mut Context<'_>) {
        let call_begins = self.last_in.replace(cx.at) != Some(cx.at);
        if call_begins && matches!(self.asks, Asks::Seeking) && http1::looks_like_request(bytes) {
            self.asks = Asks::Head { head: Collector::new(), sought: true };
        }
        while !self.deaf {
            let more = match &mut self.asks {
                Asks::Seeking | Asks::Over => false,
                Asks::Head { .. } => !bytes.is_empty() && self.ask_head(&mut bytes, cx),
                Asks::Body(_) => self.ask_body(&mut bytes, cx),
            };
            if !more {
                break;
            }
        }
        if missing > 0 && !self.deaf {
            self.ask_missing(missing, cx);
        }
    }

    /// Whether there is more to do with these bytes.
    fn ask_head(&mut self, bytes: &mut &[u8], cx: &mut Context<'_>) -> bool {
        let Asks::Head { head, sought } = &mut self.asks else { return false };
        let from = *bytes;
        let (whole, sought) = (head.take(bytes, cx.at, cx.head_bytes), *sought);
        let taken = from.split_at(from.len() - bytes.len()).0;
        let parsed = match whole {
            Taken::Partial if http1::may_be_request(head.block()) => {
                cx.pen.head(taken, head.block());
                return false;
            }
            Taken::Whole(block, _) if block.starts_with(http1::HTTP2) => {
                cx.pen.head(taken, &block);
                self.upgraded(cx);
                return false;
            }
            Taken::Whole(block, first) => http1::request(&block).map(|request| {
                cx.pen.head(taken, &block);
                (request, first)
            }),
            Taken::Partial | Taken::TooLong => None,
        };
        if parsed.is_none() {
            cx.pen.spoil(taken);
        }
        match parsed {
            Some((request, first)) => self.ask(request, first, sought, cx),
            None if sought => self.asks = Asks::Seeking,
            None => self.stop_asking(cx),
        }
        true
    }

    fn ask(&mut self, request: http1::Request, first: MonoNs, sought: bool, cx: &mut Context<'_>) {
        if request.method == Method::Connect {
            self.upgraded(cx);
            return;
        }
        // With a whole exchange under way, a request between the two may have been missed.
        let doubtful = sought && self.open.iter().any(|open| !open.lost);
        // Where an end was missed, the next request is the proof that it came.
        if sought || self.replies.is_adrift() && self.open.iter().any(|open| open.lost) {
            self.end_all_unseen(self.last_out, cx);
        }
        if self.open.len() >= PIPELINED {
            self.stop_asking(cx);
            return;
        }
        let operation = openai::operation(&request.path).filter(|_| request.method == Method::Post);
        let head = operation.map(|operation| AskHead {
            method: "POST".to_owned(),
            path: http1::cut(&request.path, PATH_CAP).to_owned(),
            operation,
            x_request_id: request.x_request_id,
            traceparent: request.traceparent,
            session: request.session,
        });
        let reading = match operation {
            None => {
                cx.vitals.http_plain.one();
                Reading::Unread("plain")
            }
            Some(operation) => {
                cx.vitals.requests_seen.one();
                if request.encoded {
                    cx.vitals.http_encoded.one();
                    Reading::Unread("encoded")
                } else {
                    Reading::Scan(Box::new(AskScan::new(operation, cx.content)))
                }
            }
        };
        let number = self.begin(first, request.method, head, cx);
        if doubtful {
            self.lost(number, cx);
        }
        let (framing, expects) = (request.framing, request.expects);
        self.asks = Asks::Body(Box::new(Body { number, framing, reading, bytes: 0, expects, missed: false }));
    }

    fn ask_body(&mut self, bytes: &mut &[u8], cx: &mut Context<'_>) -> bool {
        let Asks::Body(body) = &mut self.asks else { return false };
        match body.framing.read(bytes, &mut cx.pen) {
            Step::Data(data) => {
                body.bytes += data.len() as u64;
                let copy = cx.pen.next(data.len());
                match (&mut body.reading, copy) {
                    (Reading::Scan(scan), None) => scan.feed(data),
                    (Reading::Scan(scan), Some(copy)) => {
                        copy.copy_from_slice(data);
                        scan.mask(copy);
                    }
                    (Reading::Unread(_), _) => {}
                }
                true
            }
            Step::More => false,
            Step::End => {
                if let Asks::Body(body) = std::mem::replace(&mut self.asks, Asks::fresh()) {
                    let read = match body.reading {
                        Reading::Scan(scan) => scan.finish(),
                        Reading::Unread(why) => AskBody { unread: Some(why), ..AskBody::default() },
                    };
                    self.received(body.number, AskBody { bytes: body.bytes, ..read }, cx);
                }
                true
            }
            Step::Bad if body.missed => {
                self.asks = Asks::Seeking;
                false
            }
            Step::Bad => {
                self.stop_asking(cx);
                false
            }
        }
    }

    /// Bytes that follow were not copied.
    fn ask_missing(&mut self, missing: u32, cx: &mut Context<'_>) {
        let Asks::Body(body) = &mut self.asks else {
            self.asks.gap();
            return;
        };
        let number = body.number;
        let known = body.framing.skip(missing.into()).is_some();
        body.missed = true;
        body.bytes += u64::from(missing);
        if matches!(body.reading, Reading::Scan(_)) {
            body.reading = Reading::Unread("truncated");
        }
        self.lost(number, cx);
        if known {
            // The missing bytes may have been the last ones.
            self.ask_body(&mut [].as_slice(), cx);
        } else {
            self.asks = Asks::Seeking;
        }
    }

    /// The response to a request has ended. A caller that waited for `100 Continue`
    /// in vain sends no body, or sends it all the same.
    pub(super) fn answered(&mut self, number: u32) {
        if matches!(&self.asks, Asks::Body(body) if body.number == number && body.expects && body.bytes == 0) {
            self.asks = Asks::Head { head: Collector::new(), sought: true };
        }
    }
}
