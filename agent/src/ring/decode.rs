//! Raw records in, [`Event`]s out. Any bytes are safe: what is no record is counted, a gap in the
//! numbers becomes the loss of exactly the connection or engine thread it belongs to.

use super::Close;
use super::Event;
use super::ProcessChange;
use super::Way;
use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::Pid;
use crate::vitals::Vitals;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use agent_ebpf::event::closed;
use agent_ebpf::event::flags;
use std::collections::HashMap;
use std::collections::HashSet;
use zerocopy::TryFromBytes as _;

/// What the kernel side will number next. What the ring does not bring of the numbers before it was lost.
#[derive(Debug, Default)]
pub struct Numbers {
    /// By connection; `None` where it has ended.
    pub conns: HashMap<Conn, Option<u32>>,
    /// By engine thread.
    pub threads: HashMap<(Pid, u32, Way), u32>,
    /// Whether records of connections were lost since the last audit.
    pub connections_lost: bool,
}

/// Numbers expected next, by connection and by engine thread.
#[derive(Debug)]
pub struct Decoder {
    conns: HashMap<Conn, u32>,
    threads: HashMap<(Pid, u32, Way), u32>,
    /// Processes that have left; the kernel side may keep their numbers a while.
    left: HashSet<Pid>,
    most: usize,
}

impl Decoder {
    /// Knows no connection yet; keeps at most `most` of each kind.
    pub fn new(most: usize) -> Self {
        Self { conns: HashMap::new(), threads: HashMap::new(), left: HashSet::new(), most }
    }

    /// Decodes one record and hands on what it says: the loss before it, then the event itself.
    pub fn push(&mut self, record: &[u8], vitals: &Vitals, mut each: impl FnMut(Event<'_>)) {
        vitals.records_seen.one();
        let Ok((header, rest)) = Header::try_read_from_prefix(record) else {
            vitals.records_undecoded.one();
            return;
        };
        let Some(bytes) = usize::try_from(header.len).ok().and_then(|len| rest.get(..len)) else {
            vitals.records_undecoded.one();
            return;
        };
        let at = MonoNs(header.at_ns);
        let pid = Pid(header.pid);
        let conn = Conn { pid, fd: header.fd, opened_ns: header.opened_ns };
        let mut on_conn = |decoder: &mut Self, event: Event<'_>| {
            let records = decoder.gap(conn, header.seq, vitals);
            if records > 0 {
                each(Event::Lost { conn, at, records });
            }
            each(event);
        };
        match header.kind {
            Kind::Opened => on_conn(self, Event::Opened { conn, at }),
            Kind::Received => {
                on_conn(self, Event::Data { conn, way: Way::In, at, bytes, missing: header.missing });
            }
            Kind::Sent => on_conn(self, Event::Data { conn, way: Way::Out, at, bytes, missing: header.missing }),
            Kind::Blocked => on_conn(self, Event::Blocked { conn, at }),
            Kind::Closed => {
                let how = match header.result {
                    closed::PEER => Close::Peer,
                    closed::LOCAL => Close::Local,
                    closed::REPLACED => Close::Replaced,
                    errno => Close::Error { errno },
                };
                on_conn(self, Event::Closed { conn, at, how });
                self.conns.remove(&conn);
            }
            Kind::FrameIn | Kind::FrameOut => {
                let way = if header.kind == Kind::FrameIn { Way::In } else { Way::Out };
                let records = self.thread_gap((pid, header.tid, way), header.seq, vitals);
                if records > 0 {
                    each(Event::FramesLost { engine: pid, tid: header.tid, at, records });
                }
                each(Event::Frame {
                    engine: pid,
                    tid: header.tid,
                    way,
                    at,
                    bytes,
                    offset: header.offset,
                    total: header.total,
                    more: header.flags & flags::MORE != 0,
                });
            }
            Kind::Forked => each(Event::Process { pid, at, change: ProcessChange::Forked }),
            Kind::Execed => each(Event::Process { pid, at, change: ProcessChange::Execed }),
            Kind::Loaded => each(Event::Process { pid, at, change: ProcessChange::Loaded }),
            Kind::Exited => {
                self.forget(pid);
                each(Event::Process { pid, at, change: ProcessChange::Exited });
            }
        }
        vitals.bytes_truncated.add(header.missing.into());
    }

    /// The connections of which more is expected.
    pub fn open(&self) -> impl Iterator<Item = Conn> {
        self.conns.keys().copied()
    }

    /// Says what was lost behind the last record that came, which no later record shows.
    ///
    /// `numbers` were read before what the ring held then was decoded, of connections that were open already.
    pub fn audit(&mut self, numbers: &Numbers, at: MonoNs, mut each: impl FnMut(Event<'_>)) {
        if numbers.connections_lost {
            each(Event::ConnectionsLost { at });
        }
        for (conn, next) in &numbers.conns {
            let Some(expected) = self.conns.get_mut(conn) else { continue };
            let records = next.map_or(1, |next| behind(*expected, next));
            if records > 0 {
                each(Event::Lost { conn: *conn, at, records });
            }
            *expected = expected.wrapping_add(records);
            if next.is_none() {
                self.conns.remove(conn);
                each(Event::Closed { conn: *conn, at, how: Close::Replaced });
            }
        }
        self.left.retain(|pid| numbers.threads.keys().any(|(kept, ..)| kept == pid));
        for (thread, next) in numbers.threads.iter().filter(|((pid, ..), _)| !self.left.contains(pid)) {
            let expected = self.threads.entry(*thread).or_default();
            let records = behind(*expected, *next);
            if records > 0 {
                *expected = *next;
                let (engine, tid, _) = *thread;
                each(Event::FramesLost { engine, tid, at, records });
            }
        }
    }

    /// Forgets the numbers of a process: the kernel side has, and would begin again.
    pub fn forget(&mut self, pid: Pid) {
        self.conns.retain(|conn, _| conn.pid != pid);
        self.threads.retain(|(engine, _, _), _| *engine != pid);
        if self.left.len() >= self.most {
            self.left.clear();
        }
        self.left.insert(pid);
    }

    /// A process is followed, perhaps under an id that was used before.
    pub fn follow(&mut self, pid: Pid) {
        self.left.remove(&pid);
    }

    /// Records missing before number `seq` of a connection, which begins with 0.
    fn gap(&mut self, conn: Conn, seq: u32, vitals: &Vitals) -> u32 {
        if !self.conns.contains_key(&conn) && self.conns.len() >= self.most {
            vitals.evicted.add(self.conns.len() as u64);
            self.conns.clear();
        }
        let expected = self.conns.insert(conn, seq.wrapping_add(1)).unwrap_or(0);
        seq.wrapping_sub(expected)
    }

    fn thread_gap(&mut self, thread: (Pid, u32, Way), seq: u32, vitals: &Vitals) -> u32 {
        if !self.threads.contains_key(&thread) && self.threads.len() >= self.most {
            vitals.evicted.add(self.threads.len() as u64);
            self.threads.clear();
        }
        let expected = self.threads.insert(thread, seq.wrapping_add(1)).unwrap_or(0);
        seq.wrapping_sub(expected)
    }
}

/// How many numbers from `expected` on come before `next`; none where the ring has brought more since.
fn behind(expected: u32, next: u32) -> u32 {
    let ahead = next.wrapping_sub(expected);
    if ahead <= u32::MAX / 2 { ahead } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    const CONN: Conn = Conn { pid: Pid(7), fd: 5, opened_ns: 3 };
    const THREAD: (Pid, u32, Way) = (Pid(7), 8, Way::Out);

    fn header(kind: Kind, seq: u32) -> Header {
        Header {
            at_ns: 1,
            opened_ns: CONN.opened_ns,
            pid: 7,
            tid: 8,
            fd: CONN.fd,
            seq,
            offset: 0,
            len: 0,
            total: 0,
            missing: 0,
            result: 0,
            kind,
            flags: 0,
            pad: [0; 2],
        }
    }

    /// Records lost, and connections closed, in what `said` says.
    fn toll(said: impl FnOnce(&mut dyn FnMut(Event<'_>))) -> (u32, u32) {
        let (mut lost, mut closed) = (0, 0);
        said(&mut |event| match event {
            Event::FramesLost { records, .. } | Event::Lost { records, .. } => lost += records,
            Event::Closed { .. } => closed += 1,
            _ => {}
        });
        (lost, closed)
    }

    fn push(decoder: &mut Decoder, kind: Kind, seq: u32) -> (u32, u32) {
        toll(|each| decoder.push(header(kind, seq).as_bytes(), &Vitals::default(), each))
    }

    #[test]
    fn a_process_that_was_left_and_is_followed_again_begins_with_0() {
        let mut decoder = Decoder::new(8);
        assert_eq!([0, 1, 4].map(|seq| push(&mut decoder, Kind::FrameOut, seq).0), [0, 0, 2]);
        decoder.forget(Pid(7));
        assert_eq!(push(&mut decoder, Kind::FrameOut, 0), (0, 0));
    }

    #[test]
    fn what_is_lost_behind_the_last_record_is_found_once() {
        let mut decoder = Decoder::new(8);
        push(&mut decoder, Kind::Sent, 0);
        push(&mut decoder, Kind::FrameOut, 0);
        let of = |conn: Option<u32>, thread: u32| Numbers {
            conns: HashMap::from([(CONN, conn)]),
            threads: HashMap::from([(THREAD, thread)]),
            connections_lost: false,
        };
        let mut audit = |numbers: &Numbers| toll(|each| decoder.audit(numbers, MonoNs(2), each));
        assert_eq!(audit(&of(Some(1), 1)), (0, 0), "all came");
        assert_eq!(audit(&of(Some(3), 2)), (3, 0), "two and one did not");
        assert_eq!(audit(&of(Some(2), 1)), (0, 0), "more came since the numbers were read");
        assert_eq!(audit(&of(None, 2)), (1, 1), "its end did not come");
        assert_eq!(audit(&of(None, 2)), (0, 0));
    }

    #[test]
    fn a_thread_of_which_nothing_came_has_lost_all() {
        let mut decoder = Decoder::new(8);
        let numbers = Numbers { threads: HashMap::from([(THREAD, 4)]), ..Numbers::default() };
        assert_eq!(toll(|each| decoder.audit(&numbers, MonoNs(2), each)), (4, 0));
        assert_eq!(push(&mut decoder, Kind::FrameOut, 4), (0, 0));
    }

    #[test]
    fn a_process_that_has_left_loses_nothing_more() {
        let mut decoder = Decoder::new(8);
        let numbers = Numbers { threads: HashMap::from([(THREAD, 4)]), ..Numbers::default() };
        let audit = |decoder: &mut Decoder| toll(|each| decoder.audit(&numbers, MonoNs(2), each));
        decoder.forget(Pid(7));
        assert_eq!(audit(&mut decoder), (0, 0));
        decoder.follow(Pid(7));
        assert_eq!(audit(&mut decoder), (4, 0));
    }
}
