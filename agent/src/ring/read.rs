//! The kernel's ring in, raw records out, drained in batches: the kernel side wakes nobody.

use super::Way;
use super::decode::Numbers;
use crate::attach::object::Numbering;
use crate::ident::Conn;
use crate::ident::Pid;
use agent_ebpf::map::ConnKey;
use agent_ebpf::map::carries;
use agent_ebpf::map::pid_of_thread;
use agent_ebpf::map::tid_of_thread;
use aya::maps::MapData;
use aya::maps::RingBuf;

/// The reading end of the ring.
pub struct Ring {
    ring: RingBuf<MapData>,
    numbering: Numbering,
}

impl Ring {
    /// Takes the ring over, and the tables that number its records.
    pub fn new(ring: RingBuf<MapData>, numbering: Numbering) -> Self {
        Self { ring, numbering }
    }

    /// Hands each record that is there to `each`, at most `most`; says how many there were.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut read = 0;
        while read < most {
            let Some(record) = self.ring.next() else { break };
            each(&record);
            read += 1;
        }
        read
    }

    /// What the kernel side will number next: of these connections, and of every engine thread.
    pub fn numbers(&self, open: impl Iterator<Item = Conn>) -> Numbers {
        let conns = open.map(|conn| (conn, self.next_of(conn))).collect();
        let threads = self.numbering.zmq_threads.iter().filter_map(Result::ok);
        let both = threads.flat_map(|(thread, state)| {
            let (pid, tid) = (Pid(pid_of_thread(thread)), tid_of_thread(thread));
            [((pid, tid, Way::Out), state.seq_out), ((pid, tid, Way::In), state.seq_in)]
        });
        Numbers { conns, threads: both.collect(), connections_lost: false }
    }

    fn next_of(&self, conn: Conn) -> Option<u32> {
        let state = self.numbering.conns.get(&ConnKey { pid: conn.pid.0, fd: conn.fd }, 0).ok()?;
        (state.opened_ns == conn.opened_ns && state.carries != carries::OVER).then_some(state.seq)
    }
}
