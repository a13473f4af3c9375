//! One connection: its open exchanges, and what ends them. [asks](super::asks) and
//! [replies](super::replies) read the bytes of either way.

use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ring::Close;
use crate::stream::AskBody;
use crate::stream::AskHead;
use crate::stream::Break;
use crate::stream::Exchange;
use crate::stream::Message;
use crate::stream::content::Capture;
use crate::stream::http::asks::Asks;
use crate::stream::http::replies::Replies;
use crate::stream::http1::Method;
use crate::stream::mask::Pen;
use crate::vitals::Vitals;
use std::collections::VecDeque;

/// What the handling of one event needs beside the connection.
pub(super) struct Context<'a> {
    pub(super) at: MonoNs,
    pub(super) head_bytes: usize,
    pub(super) content: Option<&'a Capture>,
    pub(super) vitals: &'a Vitals,
    pub(super) out: &'a mut Vec<Message>,
    /// At the first byte of the event's that was not read yet.
    pub(super) pen: Pen<'a>,
}

/// What is said about an exchange before it is its turn.
#[derive(Debug, Default)]
struct Held {
    begun: Option<(MonoNs, Box<AskHead>)>,
    lost: Option<MonoNs>,
    received: Option<(MonoNs, Box<AskBody>)>,
}

/// An exchange whose response has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u32,
    pub(super) method: Method,
    /// Whether it is inference; of others nothing is said.
    pub(super) told: bool,
    /// Its final response head was seen.
    pub(super) responded: bool,
    /// The response's own end mark was seen.
    pub(super) last: bool,
    /// Bytes of it may have been missed.
    pub(super) lost: bool,
    /// When it began, once that is told.
    begun: MonoNs,
    held: Held,
}

/// The state of one connection between two events.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: Conn,
    pub(super) asks: Asks,
    pub(super) replies: Replies,
    /// Oldest first: the first one's response comes next.
    pub(super) open: VecDeque<Open>,
    pub(super) last_in: Option<MonoNs>,
    pub(super) last_out: Option<MonoNs>,
    pub(super) blocked: Option<MonoNs>,
    /// Given up: whatever comes is not read.
    pub(super) deaf: bool,
    next: u32,
    /// When the previous response ended.
    ended: MonoNs,
}

impl Connection {
    /// A connection seen from its first byte, or, with [`Asks::Seeking`], from somewhere.
    pub(super) fn new(conn: Conn, asks: Asks) -> Self {
        Self {
            conn,
            asks,
            replies: Replies::default(),
            open: VecDeque::new(),
            last_in: None,
            last_out: None,
            blocked: None,
            deaf: false,
            next: 0,
            ended: MonoNs(0),
        }
    }

    /// A request head is complete. Its number.
    pub(super) fn begin(&mut self, first: MonoNs, method: Method, head: Option<AskHead>, cx: &mut Context<'_>) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let told = head.is_some();
        let held = Held { begun: head.map(|head| (first, Box::new(head))), ..Held::default() };
        self.open.push_back(Open {
            number,
            method,
            told,
            responded: false,
            last: false,
            lost: false,
            begun: MonoNs(0),
            held,
        });
        self.tell(cx);
        number
    }

    /// A request body is complete.
    pub(super) fn received(&mut self, number: u32, body: AskBody, cx: &mut Context<'_>) {
        let at = cx.at;
        if let Some(open) = self.open.iter_mut().find(|open| open.number == number && open.told) {
            open.held.received = Some((at, Box::new(body)));
            self.tell(cx);
        }
    }

    /// Bytes of one exchange were missed.
    pub(super) fn lost(&mut self, number: u32, cx: &mut Context<'_>) {
        let at = cx.at;
        if let Some(open) = self.open.iter_mut().find(|open| open.number == number) {
            open.lost = true;
            open.held.lost = Some(at).filter(|_| open.told);
            self.tell(cx);
        }
    }

    /// The first exchange: told of, or not.
    pub(super) fn first(&self) -> Option<Exchange> {
        let open = self.open.front().filter(|open| open.told)?;
        Some(self.exchange(open.number))
    }

    /// Says what was held back of the first exchange, for its turn has come.
    fn tell(&mut self, cx: &mut Context<'_>) {
        let earliest = self.ended;
        let Some(open) = self.open.front_mut() else { return };
        let exchange = Exchange { conn: self.conn, number: open.number };
        let Held { begun, lost, received } = std::mem::take(&mut open.held);
        if let Some((at, head)) = begun {
            open.begun = at.max(earliest);
            cx.out.push(Message::Begun { exchange, at: at.max(earliest), head });
        }
        if let Some(at) = lost {
            cx.out.push(Message::Lost { exchange, at: at.max(earliest) });
        }
        if let Some((at, body)) = received {
            cx.out.push(Message::Received { exchange, at: at.max(earliest), body });
        }
    }

    /// The first exchange's response is complete.
    pub(super) fn end_first(&mut self, at: MonoNs, cx: &mut Context<'_>) {
        let Some(open) = self.open.pop_front() else { return };
        let at = at.max(open.begun);
        if open.told {
            cx.out.push(Message::Ended { exchange: self.exchange(open.number), at });
        }
        self.ended = self.ended.max(at);
        self.blocked = None;
        self.answered(open.number);
        self.tell(cx);
        if self.asks.is_over() && self.open.is_empty() {
            self.silence(cx);
        }
    }

    /// Ends exchanges whose end was missed, for something later shows that it must have come.
    pub(super) fn end_all_unseen(&mut self, last_out: Option<MonoNs>, cx: &mut Context<'_>) {
        while let Some(open) = self.open.front() {
            if !open.lost {
                let number = open.number;
                self.lost(number, cx);
            }
            self.end_first(last_out.unwrap_or(cx.at), cx);
            self.replies = Replies::default();
        }
    }

    /// Breaks every open exchange, in order.
    pub(super) fn break_all(&mut self, why: Break, cx: &mut Context<'_>) {
        self.unblock(cx);
        while let Some(open) = self.open.front() {
            let (told, exchange) = (open.told, self.exchange(open.number));
            self.tell(cx);
            if told {
                cx.out.push(Message::Broken { exchange, at: cx.at, why });
            }
            self.open.pop_front();
        }
    }

    /// These bytes are no request, and none is read any more. What was asked before them is still answered,
    /// with a refusal if nothing else.
    pub(super) fn stop_asking(&mut self, cx: &mut Context<'_>) {
        cx.vitals.http_undecoded.one();
        self.asks = Asks::Over;
        if self.open.is_empty() {
            self.silence(cx);
        }
    }

    /// These bytes are no HTTP/1: nothing more is read here.
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>) {
        if !self.asks.is_over() {
            cx.vitals.http_undecoded.one();
        }
        self.silence(cx);
    }

    /// The connection speaks something else from here on.
    pub(super) fn upgraded(&mut self, cx: &mut Context<'_>) {
        cx.vitals.http_upgraded.one();
        self.silence(cx);
    }

    fn silence(&mut self, cx: &mut Context<'_>) {
        self.break_all(Break::Protocol, cx);
        self.deaf = true;
        (self.asks, self.replies) = (Asks::Seeking, Replies::default());
    }

    /// A write was refused or cut short.
    pub(super) fn block(&mut self, at: MonoNs) {
        if !self.open.is_empty() {
            self.blocked.get_or_insert(at);
        }
    }

    /// A write went through, or never will.
    pub(super) fn unblock(&mut self, cx: &mut Context<'_>) {
        // The piece that did go through carries the same instant as its refusal.
        let Some(since) = self.blocked.filter(|since| cx.at > *since) else { return };
        self.blocked = None;
        if let (Some(exchange), Some(ns)) = (self.first(), cx.at.since(since)) {
            cx.out.push(Message::Blocked { exchange, at: cx.at, ns });
        }
    }

    /// Records were lost: an unknown number of bytes of either way.
    pub(super) fn gap(&mut self, cx: &mut Context<'_>) {
        if self.deaf {
            return;
        }
        let numbers: Vec<u32> = self.open.iter().map(|open| open.number).collect();
        for number in numbers {
            self.lost(number, cx);
        }
        self.asks.gap();
        if self.open.front().is_some_and(|open| open.last) {
            self.end_first(self.last_out.unwrap_or(cx.at), cx);
            self.replies = Replies::default();
        }
        self.replies.gap();
    }

    /// The connection is over.
    pub(super) fn close(&mut self, how: Close, cx: &mut Context<'_>) {
        let last_out = self.last_out;
        let why = match how {
            Close::Peer | Close::Error { .. } => Break::ClientGone,
            Close::Local | Close::Replaced => Break::ServerClosed,
        };
        let first_answered = self.open.front().is_some_and(|open| open.responded);
        if first_answered && self.replies.end_with_connection(why) {
            self.say_body_end(last_out.unwrap_or(cx.at), cx);
        }
        self.break_all(why, cx);
        if self.asks.is_torn() && !self.deaf {
            cx.vitals.http_undecoded.one();
        }
    }

    fn exchange(&self, number: u32) -> Exchange {
        Exchange { conn: self.conn, number }
    }
}
