//! Whole ring records in, the same with their text masked out, for tapes that may leave the machine.

use super::mask::Mask;
use agent_ebpf::event::Header;
use agent_ebpf::event::Kind;
use std::collections::HashMap;
use zerocopy::TryFromBytes as _;

/// Connections whose masks are followed at a time.
const MOST: usize = 65_536;

/// Masks records, one after the other.
#[derive(Debug, Default)]
pub struct Records {
    open: HashMap<(u32, i32, u64), Masks>,
}

/// The masks of one connection.
#[derive(Debug, Default)]
struct Masks {
    received: Mask,
    sent: Mask,
    next: u32,
    torn: bool,
}

impl Records {
    /// Masks one record in place. False where it must not be written: after a loss, what is text and
    /// what is structure cannot be told.
    pub fn apply(&mut self, record: &mut [u8]) -> bool {
        let Ok((header, _)) = Header::try_read_from_prefix(record) else { return false };
        let Some(payload) = record.get_mut(size_of::<Header>()..) else { return false };
        let Ok(len) = usize::try_from(header.len) else { return false };
        let Some((payload, noise)) = payload.split_at_mut_checked(len) else { return false };
        // What lies behind the payload is what the ring held before.
        noise.fill(0);
        let conn = (header.pid, header.fd, header.opened_ns);
        match header.kind {
            Kind::Opened | Kind::Received | Kind::Sent | Kind::Blocked => {
                if self.open.len() >= MOST && !self.open.contains_key(&conn) {
                    return false;
                }
                let masks = self.open.entry(conn).or_default();
                masks.torn |= header.seq != masks.next;
                masks.next = header.seq.wrapping_add(1);
                let mask = if header.kind == Kind::Sent { &mut masks.sent } else { &mut masks.received };
                mask.apply(payload);
                masks.torn |= header.missing > 0;
                !masks.torn
            }
            Kind::Closed => {
                self.open.remove(&conn);
                true
            }
            Kind::FrameIn | Kind::FrameOut | Kind::Forked | Kind::Execed | Kind::Exited | Kind::Loaded => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    fn record(seq: u32, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            at_ns: 1,
            opened_ns: 1,
            pid: 1,
            tid: 1,
            fd: 5,
            seq,
            offset: 0,
            len: u32::try_from(payload.len()).unwrap(),
            total: 0,
            missing: 0,
            result: 0,
            kind: Kind::Received,
            flags: 0,
            pad: [0; 2],
        };
        [header.as_bytes(), payload, b"left over"].concat()
    }

    #[test]
    fn text_and_noise_go_and_a_torn_connection_is_kept_out() {
        let mut records = Records::default();
        let mut first = record(0, br#"{"prompt":"my secret"#);
        assert!(records.apply(&mut first));
        assert!(!String::from_utf8_lossy(&first).contains("secret"));
        assert!(!String::from_utf8_lossy(&first).contains("left"));
        assert!(records.apply(&mut record(1, br#" and more"}"#)));
        assert!(!records.apply(&mut record(3, b"text after a gap")));
        assert!(!records.apply(&mut record(4, b"and ever after")));
    }
}
