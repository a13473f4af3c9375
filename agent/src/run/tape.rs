//! What one entry of a tape holds: a ring record as it was, or who arrived or left.

use crate::attach::Attached;
use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;

const RECORD: u8 = 1;
const ROSTER: u8 = 2;

/// Little-endian, as the ring records of the machines that run this.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Roster {
    at_ns: u64,
    start_ticks: u64,
    engine_start_ticks: u64,
    pid: u32,
    engine_pid: u32,
    left: u8,
    other: u8,
    core: u8,
    late: u8,
    _pad: [u8; 4],
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A ring record.
    Record(&'a [u8]),
    /// Somebody arrived or left.
    Roster(Attached, MonoNs),
}

impl<'a> Entry<'a> {
    /// Into bytes for a tape, after what `out` holds.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Record(record) => {
                out.push(RECORD);
                out.extend_from_slice(record);
            }
            Self::Roster(attached, at) => {
                out.push(ROSTER);
                out.extend_from_slice(roster(attached, at).as_bytes());
            }
        }
    }

    /// From bytes of a tape; `None` for what is neither.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            RECORD => Some(Self::Record(rest)),
            ROSTER => {
                let it = Roster::read_from_bytes(rest).ok()?;
                let process = ProcessId { pid: Pid(it.pid), start_ticks: it.start_ticks };
                let engine = ProcessId { pid: Pid(it.engine_pid), start_ticks: it.engine_start_ticks };
                let attached = if it.left != 0 {
                    Attached::Left(process.pid)
                } else {
                    Attached::Follows {
                        process,
                        engine: EngineId(engine),
                        kind: if it.other != 0 { EngineKind::Other } else { EngineKind::Vllm },
                        role: if it.core != 0 { Role::Core } else { Role::Frontend },
                        late: it.late != 0,
                    }
                };
                Some(Self::Roster(attached, MonoNs(it.at_ns)))
            }
            _ => None,
        }
    }
}

fn roster(attached: Attached, at: MonoNs) -> Roster {
    let nobody = Roster {
        at_ns: at.0,
        start_ticks: 0,
        engine_start_ticks: 0,
        pid: 0,
        engine_pid: 0,
        left: 0,
        other: 0,
        core: 0,
        late: 0,
        _pad: [0; 4],
    };
    match attached {
        Attached::Left(pid) => Roster { pid: pid.0, left: 1, ..nobody },
        Attached::Follows { process, engine, kind, role, late } => Roster {
            start_ticks: process.start_ticks,
            engine_start_ticks: engine.0.start_ticks,
            pid: process.pid.0,
            engine_pid: engine.0.pid.0,
            other: u8::from(kind == EngineKind::Other),
            core: u8::from(role == Role::Core),
            late: u8::from(late),
            ..nobody
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went() {
        let process = ProcessId { pid: Pid(7), start_ticks: 70 };
        let engine = EngineId(ProcessId { pid: Pid(6), start_ticks: 60 });
        let follows = Attached::Follows { process, engine, kind: EngineKind::Other, role: Role::Core, late: true };
        for entry in [
            Entry::Record(b"bytes"),
            Entry::Roster(follows, MonoNs(5)),
            Entry::Roster(Attached::Left(Pid(7)), MonoNs(6)),
        ] {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            assert_eq!(Entry::read(&bytes), Some(entry));
        }
        assert_eq!(Entry::read(&[]), None);
        assert_eq!(Entry::read(&[9, 1]), None);
        assert_eq!(Entry::read(&[ROSTER, 1]), None);
    }
}
