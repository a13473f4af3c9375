//! Whole ring records in, the same with only that in them which is read, for tapes that may leave the machine.

use crate::attach::Attached;
use crate::clock::MonoNs;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::decode::Decoder;
use crate::run::line::CHANNELS;
use crate::stream::mask::HIDDEN;
use crate::stream::mask::Masks;
use crate::vitals::Vitals;
use agent_ebpf::event::Header;
use zerocopy::IntoBytes as _;
use zerocopy::TryFromBytes as _;

/// Masks records, one after the other.
#[derive(Debug)]
pub(super) struct Masked {
    decoder: Decoder,
    masks: Masks,
    vitals: Vitals,
    record: Vec<u8>,
}

impl Default for Masked {
    fn default() -> Self {
        let (decoder, masks, vitals) = (Decoder::new(CHANNELS), Masks::default(), Vitals::default());
        Self { decoder, masks, vitals, record: Vec::new() }
    }
}

impl Masked {
    /// The record masked, without the noise behind its payload; `None` where it is none.
    pub(super) fn record(&mut self, record: &[u8]) -> Option<&[u8]> {
        let (header, rest) = Header::try_read_from_prefix(record).ok()?;
        let payload = rest.get(..usize::try_from(header.len).ok()?)?;
        self.record.clear();
        self.record.extend_from_slice(header.as_bytes());
        self.record.resize(size_of::<Header>() + payload.len(), HIDDEN);
        let Self { decoder, masks, vitals, record: masked } = self;
        let copy = masked.get_mut(size_of::<Header>()..)?;
        decoder.push(record, vitals, |event| match event {
            Event::Data { .. } | Event::Frame { .. } => masks.push(&event, copy),
            _ => masks.push(&event, &mut []),
        });
        Some(&self.record)
    }

    /// Somebody arrived or left: with a process its numbers and connections are forgotten.
    pub(super) fn attached(&mut self, attached: Attached, at: MonoNs) {
        if let Attached::Left(pid) = attached {
            self.decoder.forget(pid);
            self.masks.push(&Event::Process { pid, at, change: ProcessChange::Exited }, &mut []);
        }
    }
}

#[cfg(test)]
mod tests;
