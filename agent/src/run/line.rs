//! Raw ring records in, updates out: decoder, stream and book in one straight call, live or from a tape.

use crate::attach::Attached;
use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::Pid;
use crate::request::Update;
use crate::request::book;
use crate::request::book::Book;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::decode::Decoder;
use crate::ring::decode::Numbers;
use crate::stream::Message;
use crate::stream::Stream;
use crate::vitals::Vitals;
use std::sync::Arc;

/// Connections and engine threads whose numbers are followed.
pub(super) const CHANNELS: usize = 131_072;

/// The middle of the line.
#[derive(Debug)]
pub struct Line {
    vitals: Arc<Vitals>,
    decoder: Decoder,
    stream: Stream,
    book: Book,
    messages: Vec<Message>,
    updates: Vec<Update>,
}

impl Line {
    /// An empty line that counts into `vitals`.
    pub fn new(vitals: Arc<Vitals>) -> Self {
        Self {
            vitals,
            decoder: Decoder::new(CHANNELS),
            stream: Stream::default(),
            book: Book::new(book::Config::default()),
            messages: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// One record of the ring; `changed` hears of processes.
    pub fn record(&mut self, record: &[u8], mut changed: impl FnMut(Pid, ProcessChange)) {
        let Self { vitals, decoder, stream, book, messages, updates } = self;
        decoder.push(record, vitals, |event| {
            if let Event::Process { pid, change, .. } = event {
                changed(pid, change);
            }
            stream.push(&event, vitals, messages);
            for message in messages.drain(..) {
                book.push(&message, vitals, updates);
            }
        });
    }

    /// The connections of which more is expected.
    pub fn open(&self) -> impl Iterator<Item = Conn> {
        self.decoder.open()
    }

    /// Records were lost: finds what the kernel side numbered and the ring did not bring, see [`Decoder::audit`].
    pub fn audit(&mut self, numbers: &Numbers, at: MonoNs) {
        let Self { vitals, decoder, stream, book, messages, updates } = self;
        decoder.audit(numbers, at, |event| {
            stream.push(&event, vitals, messages);
            for message in messages.drain(..) {
                book.push(&message, vitals, updates);
            }
        });
    }

    /// A process is traced from now on, or no longer.
    pub fn attached(&mut self, attached: Attached, at: MonoNs) {
        let message = match attached {
            Attached::Follows { process, engine, kind, role, late } => {
                Message::Appeared { process, engine, kind, role, at, late }
            }
            Attached::Left(pid) => {
                self.decoder.forget(pid);
                let exit = Event::Process { pid, at, change: ProcessChange::Exited };
                self.stream.push(&exit, &self.vitals, &mut self.messages);
                for message in self.messages.drain(..) {
                    self.book.push(&message, &self.vitals, &mut self.updates);
                }
                Message::Gone { pid, at }
            }
        };
        self.book.push(&message, &self.vitals, &mut self.updates);
    }

    /// Ends what has waited long enough, and reads the gauges off the book.
    pub fn tick(&mut self, now: MonoNs) {
        self.book.tick(now, &self.vitals, &mut self.updates);
    }

    /// Ends everything that is under way.
    pub fn close(&mut self, now: MonoNs) {
        self.book.close(now, &self.vitals, &mut self.updates);
    }

    /// What has come out since the last call.
    pub fn updates(&mut self) -> impl Iterator<Item = Update> {
        self.updates.drain(..)
    }
}
