//! A port and a path in; the body of the answer out. And the other side: a connection in; what is asked out.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use std::io::BufRead;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a 200 answer; any other answer is an error.
pub fn get(port: u16, path: &str) -> Result<String> {
    ask(port, "GET", path)
}

/// The same of a POST without a body.
pub fn post(port: u16, path: &str) -> Result<String> {
    ask(port, "POST", path)
}

fn ask(port: u16, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split_whitespace().nth(1);
    ensure!(status == Some("200"), "{path}: {}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// Posts a JSON body over HTTP/1.1; the body of the 200 answer, whose chunks are put together.
pub fn say(port: u16, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return Ok(body.to_owned());
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let (chunk, after) = after.split_at_checked(usize::from_str_radix(size, 16)?).context("a torn chunk")?;
        whole.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
    Ok(whole)
}

/// One request as a server reads it: its path and its body; `None` at the end of the connection.
pub fn hear(caller: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let (mut first, mut length) = (String::new(), 0);
    if caller.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        ensure!(caller.read_line(&mut line)? > 0, "a torn head");
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    caller.read_exact(&mut body)?;
    Ok(Some((first.split(' ').nth(1).context("a request without a path")?.to_owned(), body)))
}

/// Whether somebody listens.
pub fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// As many of them, all different.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let held = std::iter::repeat_with(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).take(N);
    let held = held.collect::<Result<Vec<_>, _>>()?;
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
    ports.try_into().map_err(|ports| anyhow!("{ports:?} are not {N}"))
}
