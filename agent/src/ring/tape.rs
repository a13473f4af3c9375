//! Raw ring records in, a tape out, and back: what a live agent read, for replays and tests.
//!
//! ```text
//! tape   = magic (8 bytes) version (u32) record*
//! record = length (u32) bytes
//! ```
//!
//! Integers are little-endian. A record is what the ring gave, or a masked copy of it; what it means is
//! [`ring`](crate::ring)'s business.

use std::io;
use std::io::Read;
use std::io::Write;
use thiserror::Error;

/// What a tape begins with.
const MAGIC: [u8; 8] = *b"tachtape";

/// The version of this format and of the records in it.
const VERSION: u32 = 1;

/// Bytes of a record at most, far above a kernel piece and its header.
const RECORD_BYTES: usize = 1 << 20;

/// Why a tape cannot be written or read.
#[derive(Debug, Error)]
pub enum Error {
    /// The medium failed.
    #[error("the tape cannot be read or written")]
    Io(#[from] io::Error),
    /// It is another kind of file.
    #[error("this is no tape: it does not begin with \"tachtape\"")]
    NoTape,
    /// It was made by another version of the agent.
    #[error("this tape has version {found} and this agent reads version {VERSION}: use the agent that recorded it")]
    Version {
        /// The version in its header.
        found: u32,
    },
    /// A record is longer than any that the ring gives.
    #[error("record {number} has {bytes} bytes, above the {RECORD_BYTES} that a record can have")]
    TooLong {
        /// Which record, from 0.
        number: u64,
        /// Its length, or the length that it claims.
        bytes: usize,
    },
    /// The tape ends inside a record.
    #[error("the tape ends inside record {number}: recording was cut off there")]
    CutOff {
        /// Which record, from 0.
        number: u64,
    },
}

/// Writes a tape.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a tape. Give it a buffered medium: a record is two writes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(mut inner: W) -> Result<Self, Error> {
        inner.write_all(&MAGIC)?;
        inner.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { inner, records: 0 })
    }

    /// Appends a record, as the ring gave it.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::TooLong`], after which nothing was written.
    pub fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_BYTES);
        let Some(length) = length else {
            return Err(Error::TooLong { number: self.records, bytes: record.len() });
        };
        self.inner.write_all(&length.to_le_bytes())?;
        self.inner.write_all(record)?;
        self.records += 1;
        Ok(())
    }

    /// Ends the tape: hands everything to the medium and gives it back.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W, Error> {
        self.inner.flush()?;
        Ok(self.inner)
    }
}

/// Reads a tape.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    record: Vec<u8>,
    records: u64,
}

impl<R: Read> Reader<R> {
    /// Opens a tape.
    ///
    /// # Errors
    /// [`Error::NoTape`] and [`Error::Version`] for what this agent cannot read, [`Error::Io`].
    pub fn new(mut inner: R) -> Result<Self, Error> {
        let (mut magic, mut version) = ([0; MAGIC.len()], [0; size_of::<u32>()]);
        let whole = fill(&mut inner, &mut magic)? == magic.len() && fill(&mut inner, &mut version)? == version.len();
        if !whole || magic != MAGIC {
            return Err(Error::NoTape);
        }
        let found = u32::from_le_bytes(version);
        if found != VERSION {
            return Err(Error::Version { found });
        }
        Ok(Self { inner, record: Vec::new(), records: 0 })
    }

    /// The next record; `None` at the tape's end.
    ///
    /// # Errors
    /// [`Error::TooLong`] and [`Error::CutOff`] for a damaged tape, [`Error::Io`].
    pub fn read(&mut self) -> Result<Option<&[u8]>, Error> {
        let number = self.records;
        let mut length = [0; size_of::<u32>()];
        match fill(&mut self.inner, &mut length)? {
            0 => return Ok(None),
            n if n < length.len() => return Err(Error::CutOff { number }),
            _ => {}
        }
        let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if bytes > RECORD_BYTES {
            return Err(Error::TooLong { number, bytes });
        }
        self.record.resize(bytes, 0);
        if fill(&mut self.inner, &mut self.record)? < bytes {
            return Err(Error::CutOff { number });
        }
        self.records += 1;
        Ok(Some(&self.record))
    }
}

/// Reads until `into` is full or the medium ends; gives the bytes read.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [&[u8]; 4] = [b"first", b"", &[0xff; 300], b"last"];

    fn tape() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in RECORDS {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap()
    }

    fn replay(tape: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut reader = Reader::new(tape)?;
        let mut records = Vec::new();
        while let Some(record) = reader.read()? {
            records.push(record.to_vec());
        }
        Ok(records)
    }

    #[test]
    fn a_tape_gives_back_what_it_was_given() {
        assert_eq!(replay(&tape()).unwrap(), RECORDS);
        assert_eq!(tape()[..13], *b"tachtape\x01\0\0\0\x05");
    }

    #[test]
    fn a_tape_that_ends_early_gives_its_whole_records_or_says_where() {
        let tape = tape();
        let mut ends = vec![12];
        for record in RECORDS {
            ends.push(ends[ends.len() - 1] + 4 + record.len());
        }
        for n in 0..=tape.len() {
            let before = ends.iter().filter(|end| **end < n).count();
            match replay(&tape[..n]) {
                Ok(records) => {
                    assert!(ends.contains(&n));
                    assert_eq!(records, RECORDS[..before]);
                }
                Err(Error::NoTape) => assert!(n < 12),
                Err(Error::CutOff { number }) => assert_eq!(usize::try_from(number).unwrap() + 1, before),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_is_no_tape_of_ours_is_said_clearly() {
        let text = |tape: &[u8]| replay(tape).unwrap_err().to_string();
        assert_eq!(text(b"PK\x03\x04 a zip file"), "this is no tape: it does not begin with \"tachtape\"");
        let version = "this tape has version 9 and this agent reads version 1: use the agent that recorded it";
        assert_eq!(text(b"tachtape\x09\0\0\0"), version);
        let long = "record 0 has 4294967295 bytes, above the 1048576 that a record can have";
        assert_eq!(text(b"tachtape\x01\0\0\0\xff\xff\xff\xff"), long);
        let written = Writer::new(Vec::new()).unwrap().write(&vec![0; RECORD_BYTES + 1]);
        assert!(matches!(written, Err(Error::TooLong { number: 0, .. })));
    }
}
