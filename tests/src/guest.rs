//! A guest's bytes in; the statuses that a server answered out. Over a bare TCP stream: nothing here makes HTTP.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::io;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const STATUS_LINE: &str = "HTTP/1.1 ";

/// How a guest behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It says all at once, and listens until the server hangs up.
    Listens,
    /// The same, but it says one byte a call.
    Stammers,
    /// It says all, and that nothing more comes; then it listens.
    Finishes,
    /// It waits for an answer to what it says first, says the rest, and is gone: with RST, for the answer lies unread.
    Resets,
    /// It waits for an answer to what it says first, says the rest, and hears that come back.
    Switches,
}

/// What a guest says: at first, and then.
#[derive(Debug, Clone, Default)]
pub struct Says {
    /// At first.
    pub first: Vec<u8>,
    /// After an answer.
    pub then: Vec<u8>,
}

/// One visit; the statuses of all answers that the guest has heard.
pub fn visit(port: u16, says: &Says, manner: Manner) -> Result<Vec<u16>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut heard = Vec::new();
    match manner {
        Manner::Listens => hung_up(stream.write_all(&says.first))?,
        Manner::Stammers => says.first.chunks(1).try_for_each(|byte| stream.write_all(byte))?,
        Manner::Finishes => hung_up(stream.write_all(&says.first).and_then(|()| stream.shutdown(Shutdown::Write)))?,
        Manner::Resets => {
            stream.write_all(&says.first)?;
            stream.peek(&mut [0])?;
            stream.write_all(&says.then)?;
            return Ok(Vec::new());
        }
        Manner::Switches => {
            stream.write_all(&says.first)?;
            listen(&mut stream, &mut heard, |heard| heard.ends_with(b"\r\n\r\n"))?;
            stream.write_all(&says.then)?;
            listen(&mut stream, &mut heard, |heard| heard.ends_with(&says.then))?;
            return statuses(&heard);
        }
    }
    hung_up(stream.read_to_end(&mut heard).map(drop))?;
    statuses(&heard)
}

/// A server that hangs up while it is spoken to is no failure of the visit.
fn hung_up(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
        outcome => outcome,
    }
}

fn listen(stream: &mut TcpStream, heard: &mut Vec<u8>, enough: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut buffer = [0; 4_096];
    while !enough(heard) {
        match stream.read(&mut buffer)? {
            0 => bail!("hung up after {}", String::from_utf8_lossy(heard)),
            n => heard.extend(buffer.iter().take(n)),
        }
    }
    Ok(())
}

fn statuses(heard: &[u8]) -> Result<Vec<u16>> {
    let text = String::from_utf8_lossy(heard);
    let codes = text.split(STATUS_LINE).skip(1).map(|rest| rest.split(' ').next().unwrap_or_default().parse());
    codes.collect::<Result<_, _>>().with_context(|| text.into_owned())
}
