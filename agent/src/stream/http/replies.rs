//! The bytes a server sends: heads and bodies of responses.

use crate::clock::MonoNs;
use crate::stream::Break;
use crate::stream::Chunk;
use crate::stream::Message;
use crate::stream::ReplyHead;
use crate::stream::content::Capture;
use crate::stream::http::connection::Connection;
use crate::stream::http::connection::Context;
use crate::stream::http1;
use crate::stream::http1::body::Chunked;
use crate::stream::http1::body::Framing;
use crate::stream::http1::body::Step;
use crate::stream::http1::collect::Collector;
use crate::stream::http1::collect::Taken;
use crate::stream::openai::reply::ReplyScan;
use crate::stream::sse;
use crate::stream::sse::mask::Masked;
use memchr::memmem;

/// How a chunked body ends.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// How a stream of events ends.
const DONE: &[u8] = b"data: [DONE]";

/// Where in the responses a connection is.
#[derive(Debug)]
pub(super) enum Replies {
    /// Before or inside a head.
    Head(Collector),
    /// Inside a body.
    Body { framing: Framing, reading: Reading },
    /// After a gap, or where no request was seen: nothing counts until a call begins with something known.
    Adrift { chunked: bool, reading: Reading },
}

/// How a body is read.
#[derive(Debug)]
pub(super) enum Reading {
    /// Not at all: plain, encoded, or torn.
    Nothing,
    /// As one JSON document.
    Json(Box<ReplyScan>),
    /// As a stream of events.
    Events(Box<Events>),
}

/// A stream of events under way.
#[derive(Debug)]
pub(super) struct Events {
    parser: sse::Parser,
    scan: ReplyScan,
}

impl Default for Replies {
    fn default() -> Self {
        Self::Adrift { chunked: true, reading: Reading::Nothing }
    }
}

impl Replies {
    /// Whether it is unknown where the response under way ends.
    pub(super) fn is_adrift(&self) -> bool {
        matches!(self, Self::Adrift { .. })
    }

    /// Bytes were missed, an unknown number of them.
    pub(super) fn gap(&mut self) {
        *self = match std::mem::take(self) {
            Self::Head(_) => Self::default(),
            Self::Body { framing: Framing::Close, reading } => {
                Self::Body { framing: Framing::Close, reading: reading.go_on(sse::Parser::after_gap()) }
            }
            Self::Body { framing, reading } => Self::Adrift {
                chunked: matches!(framing, Framing::Chunked(_)),
                reading: reading.go_on(sse::Parser::after_gap()),
            },
            adrift @ Self::Adrift { .. } => adrift,
        };
    }

    /// Whether the response under way is complete when its connection ends like that.
    pub(super) fn end_with_connection(&self, why: Break) -> bool {
        match self {
            Self::Body { framing: Framing::Close, .. } => why == Break::ServerClosed,
            Self::Body { .. } | Self::Head(_) => false,
            Self::Adrift { .. } => true,
        }
    }
}

impl Reading {
    fn events(content: Option<&Capture>) -> Self {
        Self::Events(Box::new(Events { parser: sse::Parser::new(), scan: ReplyScan::new(content) }))
    }

    /// After a gap: a document is torn, a stream goes on with its next event.
    fn go_on(self, parser: sse::Parser) -> Self {
        match self {
            Self::Nothing | Self::Json(_) => Self::Nothing,
            Self::Events(events) => Self::Events(Box::new(Events { parser, scan: events.scan.afresh() })),
        }
    }

    /// Reads on; what stays of the data is left in its copy, where there is one.
    fn read(&mut self, data: &[u8], copy: Option<&mut [u8]>, said: &mut impl FnMut(Chunk)) {
        match copy {
            None => self.feed(data, said),
            Some(copy) if !matches!(self, Self::Nothing) => {
                copy.copy_from_slice(data);
                self.mask(copy, said);
            }
            Some(_) => {}
        }
    }

    fn mask(&mut self, data: &mut [u8], said: &mut impl FnMut(Chunk)) {
        match self {
            Self::Nothing => {}
            Self::Json(scan) => scan.mask(data),
            Self::Events(events) => {
                let Events { parser, scan } = &mut **events;
                parser.mask(data, &mut |piece| match piece {
                    Masked::Data(run) => scan.mask(run),
                    Masked::End => scan.finish().into_iter().for_each(&mut *said),
                });
            }
        }
    }

    fn feed(&mut self, data: &[u8], said: &mut impl FnMut(Chunk)) {
        match self {
            Self::Nothing => {}
            Self::Json(scan) => scan.feed(data),
            Self::Events(events) => {
                let Events { parser, scan } = &mut **events;
                parser.feed(data, &mut |piece| match piece {
                    sse::Piece::Data(run) => scan.feed(run),
                    sse::Piece::End => scan.finish().into_iter().for_each(&mut *said),
                });
            }
        }
    }

    /// What a body says at its end.
    fn finish(&mut self) -> Option<Chunk> {
        match self {
            Self::Json(scan) => scan.finish(),
            Self::Nothing | Self::Events(_) => None,
        }
    }
}

impl Connection {
    /// Bytes went out.
    pub(super) fn outgoing(&mut self, mut bytes: &[u8], missing: u32, cx: &mut Context<'_>) {
        self.unblock(cx);
        let before = self.last_out.replace(cx.at);
        if before != Some(cx.at) && self.replies.is_adrift() {
            self.find(bytes, before, cx);
        }
        while !self.deaf && !self.open.is_empty() {
            let more = match &mut self.replies {
                Replies::Adrift { .. } => false,
                Replies::Head(_) => !bytes.is_empty() && self.reply_head(&mut bytes, cx),
                Replies::Body { .. } => self.reply_body(&mut bytes, cx),
            };
            if !more {
                break;
            }
        }
        if missing > 0 && !self.deaf {
            self.reply_missing(missing, cx);
        }
        if self.open.is_empty() && (missing > 0 || !bytes.is_empty()) {
            self.replies = Replies::default();
        }
    }

    /// Looks for something known at the beginning of a call: a head, a chunk of the response under way,
    /// or its end.
    fn find(&mut self, bytes: &[u8], before: Option<MonoNs>, cx: &mut Context<'_>) {
        let Some(first) = self.open.front() else { return };
        let (responded, lost) = (first.responded, first.lost);
        if bytes.starts_with(http1::RESPONSE) {
            cx.pen.stamp(0, http1::RESPONSE);
            if responded {
                self.end_first(before.unwrap_or(cx.at), cx);
            }
            self.replies = Replies::Head(Collector::new());
            return;
        }
        let Replies::Adrift { chunked, reading } = &mut self.replies else { return };
        let (chunked, is_stream) = (*chunked, matches!(reading, Reading::Events(_)));
        if !lost {
            return;
        }
        if chunked && Chunked::starts(bytes) {
            let reading = std::mem::replace(reading, Reading::Nothing).go_on(sse::Parser::new());
            self.replies = Replies::Body { framing: Framing::Chunked(Chunked::new()), reading };
            return;
        }
        let end = bytes.len().checked_sub(LAST_CHUNK.len()).filter(|_| chunked && bytes.ends_with(LAST_CHUNK));
        let done = memmem::find(bytes, DONE).filter(|_| is_stream);
        for (at, mark) in [(end, LAST_CHUNK), (done, DONE)] {
            if let Some(at) = at {
                cx.pen.stamp(at, mark);
            }
        }
        if end.or(done).is_some() {
            self.end_first(cx.at, cx);
            self.replies = Replies::default();
        }
    }

    /// Whether there is more to do with these bytes.
    fn reply_head(&mut self, bytes: &mut &[u8], cx: &mut Context<'_>) -> bool {
        let (Replies::Head(head), Some(first)) = (&mut self.replies, self.open.front_mut()) else { return false };
        let from = *bytes;
        let whole = head.take(bytes, cx.at, cx.head_bytes);
        let taken = from.split_at(from.len() - bytes.len()).0;
        let parsed = match whole {
            Taken::Partial if http1::may_be_response(head.block()) => {
                cx.pen.head(taken, head.block());
                return false;
            }
            Taken::Whole(block, at) => http1::response(&block, first.method).map(|response| {
                cx.pen.head(taken, &block);
                (response, at)
            }),
            Taken::Partial | Taken::TooLong => None,
        };
        if parsed.is_none() {
            cx.pen.spoil(taken);
        }
        match parsed {
            None => return self.reply_bad(cx),
            Some((response, _)) if response.status == 101 => self.upgraded(cx),
            Some((response, _)) if response.status < 200 => {}
            Some((response, at)) => {
                first.responded = true;
                let told = first.told;
                let http1::Response { status, framing, encoded, stream } = response;
                let has_body = framing != Framing::Length(0);
                let reading = match (told, encoded && has_body, stream) {
                    (false, _, _) => Reading::Nothing,
                    (true, true, _) => {
                        cx.vitals.http_encoded.one();
                        Reading::Nothing
                    }
                    (true, false, true) => Reading::events(cx.content),
                    (true, false, false) => Reading::Json(Box::new(ReplyScan::new(cx.content))),
                };
                if let Some(exchange) = self.first() {
                    let head = ReplyHead { status, stream, after_rubbish: self.asks.is_over() };
                    cx.out.push(Message::Responded { exchange, at, head });
                }
                self.replies = Replies::Body { framing, reading };
            }
        }
        true
    }

    fn reply_body(&mut self, bytes: &mut &[u8], cx: &mut Context<'_>) -> bool {
        let exchange = self.first();
        let (Replies::Body { framing, reading }, Some(first)) = (&mut self.replies, self.open.front_mut()) else {
            return false;
        };
        match framing.read(bytes, &mut cx.pen) {
            Step::Data(data) => {
                let (at, out, copy) = (cx.at, &mut *cx.out, cx.pen.next(data.len()));
                reading.read(data, copy, &mut |chunk| {
                    first.last |= chunk.last;
                    out.extend(exchange.map(|exchange| Message::Said { exchange, at, chunk: Box::new(chunk) }));
                });
                true
            }
            Step::More => false,
            Step::End => {
                self.say_body_end(cx.at, cx);
                self.replies = Replies::Head(Collector::new());
                true
            }
            Step::Bad => self.reply_bad(cx),
        }
    }

    /// The first response's body is complete.
    pub(super) fn say_body_end(&mut self, at: MonoNs, cx: &mut Context<'_>) {
        if let Replies::Body { reading, .. } = &mut self.replies
            && let Some(chunk) = reading.finish()
        {
            cx.out.extend(self.first().map(|exchange| Message::Said { exchange, at, chunk: Box::new(chunk) }));
        }
        self.end_first(at, cx);
    }

    /// These bytes do not fit: a wonder only where nothing was missed.
    fn reply_bad(&mut self, cx: &mut Context<'_>) -> bool {
        if self.open.front().is_some_and(|open| open.lost) {
            self.replies.gap();
        } else {
            self.give_up(cx);
        }
        false
    }

    /// Bytes that follow were not copied.
    fn reply_missing(&mut self, missing: u32, cx: &mut Context<'_>) {
        let Some(first) = self.open.front() else { return };
        let number = first.number;
        self.lost(number, cx);
        let Replies::Body { framing, reading } = &mut self.replies else {
            self.replies.gap();
            return;
        };
        if let Some(left) = framing.skip(missing.into()) {
            // A new chunk begins where a line of the stream does, as all servers of this field send it.
            let parser = if left == 0 { sse::Parser::new() } else { sse::Parser::after_gap() };
            *reading = std::mem::replace(reading, Reading::Nothing).go_on(parser);
            // The missing bytes may have been the last ones.
            self.reply_body(&mut [].as_slice(), cx);
        } else {
            self.replies.gap();
        }
    }
}
