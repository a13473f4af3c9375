//! A tape and a folder in; the frames of the engine core that tell of the recorded requests, as files, out.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use tachograph::ring::Event;
use tachograph::ring::Way;
use tachograph::ring::decode::Decoder;
use tachograph::ring::tape::Reader;
use tachograph::run::tape::Entry;
use tachograph::vitals::Vitals;

const CHANNELS: usize = 1_024;
const ADD: u8 = 0;
const ABORT: u8 = 1;

/// One frame; one that was received has the type that came before it.
struct Frame {
    kind: Option<u8>,
    bytes: Vec<u8>,
}

impl Frame {
    fn names(&self, request: &str) -> bool {
        self.bytes.windows(request.len()).any(|part| part == request.as_bytes())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (tape, folder) = arguments.next().zip(arguments.next()).context("usage: frames TAPE FOLDER")?;
    let mut reader = Reader::new(BufReader::new(File::open(&tape)?))?;
    let (mut decoder, vitals) = (Decoder::new(CHANNELS), Vitals::default());
    let (mut frames, mut kinds) = (Vec::new(), HashMap::new());
    while let Some(bytes) = reader.read()? {
        let Some(Entry::Record(record)) = Entry::read(bytes) else { continue };
        decoder.push(record, &vitals, |event| {
            let Event::Frame { engine, tid, way, bytes, offset: 0, total, .. } = event else { return };
            // What is cut into pieces is longer than any message of these requests.
            if usize::try_from(total) != Ok(bytes.len()) {
                return;
            }
            match (way, bytes) {
                (Way::In, [kind]) => drop(kinds.insert((engine, tid), *kind)),
                (Way::In, _) => frames.push(Frame { kind: kinds.remove(&(engine, tid)), bytes: bytes.to_vec() }),
                (Way::Out, _) => frames.push(Frame { kind: None, bytes: bytes.to_vec() }),
            }
        });
    }
    ensure!(vitals.records_undecoded.get() == 0, "records that could not be read");
    let pick = |kind, request: &'static str| frames.iter().filter(move |it| it.kind == kind && it.names(request));
    let (mut chat, mut logprobs) = (pick(None, "recorded-chat"), pick(None, "recorded-logprobs"));
    for (name, frame) in [
        ("add", pick(Some(ADD), "recorded-chat").next()),
        ("abort", pick(Some(ABORT), "recorded-left").next()),
        ("first", chat.next()),
        ("last", chat.next_back()),
        ("logprobs", logprobs.next()),
    ] {
        let frame = frame.with_context(|| format!("no {name} on the tape"))?;
        std::fs::write(folder.join(format!("recorded-{name}.bin")), &frame.bytes)?;
    }
    Ok(())
}
