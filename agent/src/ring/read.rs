//! The kernel's ring in, raw records out, drained in batches: the kernel side wakes nobody.

use aya::maps::MapData;
use aya::maps::RingBuf;

/// The reading end of the ring.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// Takes the ring over.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// Hands each record that is there to `each`, at most `most`; says how many there were.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut read = 0;
        while read < most {
            let Some(record) = self.0.next() else { break };
            each(&record);
            read += 1;
        }
        read
    }
}
