//! A record as the ring brings it, for tests of what stands behind the ring.

use crate::ident::Pid;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use zerocopy::IntoBytes as _;

/// The only process.
pub(super) const PID: Pid = Pid(7);

/// One of its only connection.
pub(super) fn record(at_ns: u64, seq: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let header = Header {
        at_ns,
        opened_ns: 1,
        pid: PID.0,
        tid: PID.0,
        fd: 5,
        seq,
        offset: 0,
        len,
        total: len,
        missing: 0,
        result: 0,
        kind,
        flags: 0,
        pad: [0; 2],
    };
    [header.as_bytes(), payload].concat()
}
