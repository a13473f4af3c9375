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
use crate::stream::content::Capture;
use crate::vitals::Vitals;
use std::sync::Arc;

/// Connections and engine threads whose numbers are followed.
pub(super) const CHANNELS: usize = 131_072;

/// The middle of the line.
#[derive(Debug)]
pub struct Line {
    vitals: Arc<Vitals>,
    decoder: Decoder,
    behind: Behind,
    /// Processes that have left, which the book does not know yet.
    leaving: Vec<(Pid, MonoNs)>,
}

/// What stands behind the decoder.
#[derive(Debug)]
struct Behind {
    stream: Stream,
    book: Book,
    messages: Vec<Message>,
    updates: Vec<Update>,
}

impl Behind {
    fn hear(&mut self, event: &Event<'_>, vitals: &Vitals) {
        self.stream.push(event, vitals, &mut self.messages);
        for message in self.messages.drain(..) {
            self.book.push(&message, vitals, &mut self.updates);
        }
    }
}

impl Line {
    /// An empty line that counts into `vitals`, and captures content where that is asked for.
    pub fn new(vitals: Arc<Vitals>, content: Option<Capture>) -> Self {
        Self {
            vitals,
            decoder: Decoder::new(CHANNELS),
            behind: Behind {
                stream: Stream::new(content),
                book: Book::new(book::Config::default()),
                messages: Vec::new(),
                updates: Vec::new(),
            },
            leaving: Vec::new(),
        }
    }

    /// Captures content, or no longer, of requests and answers that begin from now on.
    pub fn set_content(&mut self, content: Option<Capture>) {
        self.behind.stream.set_content(content);
    }

    /// One record of the ring; `changed` hears of processes.
    pub fn record(&mut self, record: &[u8], mut changed: impl FnMut(Pid, ProcessChange)) {
        let Self { vitals, decoder, behind, .. } = self;
        decoder.push(record, vitals, |event| {
            if let Event::Process { pid, change, .. } = event {
                changed(pid, change);
            }
            behind.hear(&event, vitals);
        });
    }

    /// The connections of which more is expected.
    pub fn open(&self) -> impl Iterator<Item = Conn> {
        self.decoder.open()
    }

    /// Records were lost: finds what the kernel side numbered and the ring did not bring, see [`Decoder::audit`].
    pub fn audit(&mut self, numbers: &Numbers, at: MonoNs) {
        let Self { vitals, decoder, behind, .. } = self;
        decoder.audit(numbers, at, |event| behind.hear(&event, vitals));
    }

    /// A process is traced from now on, or no longer. The ring may still hold what one that has left did last:
    /// that it left is told at the next tick, or when its id is taken again.
    pub fn attached(&mut self, attached: Attached, at: MonoNs) {
        match attached {
            Attached::Follows { process, engine, kind, role, late } => {
                self.leave(|pid| pid == process.pid);
                self.decoder.follow(process.pid);
                let message = Message::Appeared { process, engine, kind, role, at, late };
                self.behind.book.push(&message, &self.vitals, &mut self.behind.updates);
            }
            Attached::Left(pid) => self.leaving.push((pid, at)),
        }
    }

    fn leave(&mut self, mut who: impl FnMut(Pid) -> bool) {
        for (pid, at) in self.leaving.extract_if(.., |(pid, _)| who(*pid)) {
            self.decoder.forget(pid);
            self.behind.hear(&Event::Process { pid, at, change: ProcessChange::Exited }, &self.vitals);
            self.behind.book.push(&Message::Gone { pid, at }, &self.vitals, &mut self.behind.updates);
        }
    }

    /// Ends what has waited long enough, and reads the gauges off the book.
    pub fn tick(&mut self, now: MonoNs) {
        self.leave(|_| true);
        self.behind.book.tick(now, &self.vitals, &mut self.behind.updates);
    }

    /// Ends everything that is under way.
    pub fn close(&mut self, now: MonoNs) {
        self.leave(|_| true);
        self.behind.book.close(now, &self.vitals, &mut self.behind.updates);
    }

    /// What has come out since the last call.
    pub fn updates(&mut self) -> impl Iterator<Item = Update> {
        self.behind.updates.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::EngineId;
    use crate::ident::EngineKind;
    use crate::ident::ProcessId;
    use crate::ident::Role;
    use crate::run::sample::PID;
    use crate::run::sample::record;
    use agent_ebpf::event::Kind;

    fn follows(start_ticks: u64) -> Attached {
        let process = ProcessId { pid: PID, start_ticks };
        Attached::Follows {
            process,
            engine: EngineId(process),
            kind: EngineKind::Other,
            role: Role::Frontend,
            late: false,
        }
    }

    /// What came out: how each request went wrong, if it did, and who left.
    fn told(line: &mut Line) -> Vec<String> {
        let words = |update| match update {
            Update::Ended(request) => request.error_type.unwrap_or_else(|| "whole".to_owned()),
            Update::Gone(pid) => format!("{pid} left"),
            Update::InFlight { pid, .. } => format!("{pid} is here"),
            Update::Engine { core, .. } => format!("core {core} is here"),
            Update::Worked { core, .. } => format!("core {core} works"),
        };
        line.updates().map(words).collect()
    }

    fn line_with_a_request() -> Line {
        let mut line = Line::new(Arc::default(), None);
        line.attached(follows(1), MonoNs(1));
        let ask = b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        line.record(&record(2, 0, Kind::Received, ask), |_, _| {});
        line
    }

    #[test]
    fn what_a_process_did_last_counts_after_it_was_seen_to_have_left() {
        let mut line = line_with_a_request();
        line.attached(Attached::Left(PID), MonoNs(4));
        line.record(&record(3, 1, Kind::Sent, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), |_, _| {});
        line.tick(MonoNs(5));
        assert_eq!(told(&mut line), ["whole", "7 left"]);
    }

    #[test]
    fn a_process_has_left_before_another_takes_its_id() {
        let mut line = line_with_a_request();
        line.attached(Attached::Left(PID), MonoNs(4));
        line.attached(follows(2), MonoNs(5));
        line.tick(MonoNs(6));
        assert_eq!(told(&mut line), ["process_gone", "7 left", "7 is here"]);
    }
}
