//! A way to reach a server in; its answer out.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::fmt;
use std::io::Read;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server listens, on this machine.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    Tcp(u16),
    /// TLS, with a file that holds certificate and key.
    Tls(u16, PathBuf),
    Unix(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "http://127.0.0.1:{port}"),
            Self::Tls(port, _) => write!(f, "https://127.0.0.1:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Door {
    /// What tells vLLM to listen there.
    pub(crate) fn flags(&self) -> Result<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let port = |port: &u16| words(&["--host", "127.0.0.1", "--port", &port.to_string()]);
        Ok(match self {
            Self::Tcp(number) => port(number),
            Self::Tls(number, file) => {
                let file = file.to_str().context("a path that is no text")?;
                let mut all: Vec<String> = port(number);
                all.extend(words(&["--ssl-certfile", file, "--ssl-keyfile", file]));
                all
            }
            Self::Unix(path) => words(&["--uds", path.to_str().context("a path that is no text")?]),
        })
    }

    /// The body of an answer with status 200. HTTP/1.0, so the body ends with the connection.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json");
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = match self {
            Self::Tcp(port) => {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(request.as_bytes())?;
                whole(stream)?
            }
            Self::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(request.as_bytes())?;
                whole(stream)?
            }
            Self::Tls(port, _) => under_tls(*port, &request)?,
        };
        let (head, body) = answer.split_once("\r\n\r\n").context("no response head")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{method} {path}: {head}");
        Ok(body.to_owned())
    }
}

fn whole(mut stream: impl Read) -> Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// By openssl's own client, which makes the servers' certificates too.
fn under_tls(port: u16, request: &str) -> Result<String> {
    let mut client = Command::new("timeout")
        .arg(PATIENCE.as_secs().to_string())
        .args(["openssl", "s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // Left open until the answer is there: the client would leave with it.
    let mut input = client.stdin.take().context("no input")?;
    let sent = input.write_all(request.as_bytes());
    let answer = client.stdout.take().context("no output").and_then(whole);
    client.wait()?;
    sent?;
    answer
}
