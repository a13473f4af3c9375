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
use zerocopy::TryFromBytes as _;

/// Numbers expected next, by connection and by engine thread.
#[derive(Debug)]
pub struct Decoder {
    conns: HashMap<Conn, u32>,
    threads: HashMap<(Pid, u32, Way), u32>,
    most: usize,
}

impl Decoder {
    /// Knows no connection yet; keeps at most `most` of each kind.
    pub fn new(most: usize) -> Self {
        Self { conns: HashMap::new(), threads: HashMap::new(), most }
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

    /// Forgets the numbers of a process: the kernel side has, and would begin again.
    pub fn forget(&mut self, pid: Pid) {
        self.conns.retain(|conn, _| conn.pid != pid);
        self.threads.retain(|(engine, _, _), _| *engine != pid);
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

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    #[test]
    fn a_process_that_was_left_and_is_followed_again_begins_with_0() {
        let mut decoder = Decoder::new(8);
        let vitals = Vitals::default();
        let losses = |decoder: &mut Decoder, seq| {
            let header = Header {
                at_ns: 1,
                opened_ns: 0,
                pid: 7,
                tid: 8,
                fd: -1,
                seq,
                offset: 0,
                len: 0,
                total: 0,
                missing: 0,
                result: 0,
                kind: Kind::FrameOut,
                flags: 0,
                pad: [0; 2],
            };
            let mut lost = 0;
            decoder.push(header.as_bytes(), &vitals, |event| {
                if let Event::FramesLost { records, .. } = event {
                    lost += records;
                }
            });
            lost
        };
        assert_eq!([0, 1, 4].map(|seq| losses(&mut decoder, seq)), [0, 0, 2]);
        decoder.forget(Pid(7));
        assert_eq!(losses(&mut decoder, 0), 0);
    }
}
