//! Nothing in; the guests out: what each says, how it behaves, and what must come of it.

use agent_tests::guest::Manner;
use agent_tests::guest::Says;

/// What the agent counts of connections; the load raises none of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) plain: u64,
    pub(super) undecoded: u64,
    pub(super) upgraded: u64,
    pub(super) encoded: u64,
}

const NOTHING: Counts = Counts { plain: 0, undecoded: 0, upgraded: 0, encoded: 0 };
const PLAIN: Counts = Counts { plain: 1, ..NOTHING };
const UNDECODED: Counts = Counts { undecoded: 1, ..NOTHING };
const UPGRADED: Counts = Counts { upgraded: 1, ..NOTHING };
const ENCODED: Counts = Counts { encoded: 1, ..NOTHING };

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"standin","messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":3}"#;

/// One who comes to the server.
#[derive(Debug)]
pub(super) struct Guest {
    /// Also the X-Request-Id of what it asks for.
    pub(super) name: &'static str,
    pub(super) says: Says,
    pub(super) manner: Manner,
    pub(super) counts: Counts,
    pub(super) records: &'static [Due],
    /// What agent and server see differently; where they see the same, its records are held against the truth.
    pub(super) differs: Option<Differs>,
}

/// What a record must say of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Status(u16),
    /// There was none.
    Unobserved,
    /// It depends on who was faster: the truth tells.
    AsItWas,
}

const GOOD: &[Due] = &[Due::Status(200)];
const REFUSED: &[Due] = &[Due::Status(400)];
const UNOBSERVED: &[Due] = &[Due::Unobserved];
const AS_IT_WAS: &[Due] = &[Due::AsItWas];

/// Where the agent and this server part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Differs {
    /// The server refuses a head that others would take: its truth begins behind the head.
    Refused,
    /// The engine worked for it, and the agent cannot tell for whom.
    Stray,
}

impl Guest {
    fn says(name: &'static str, first: impl Into<Vec<u8>>) -> Self {
        let says = Says { first: first.into(), then: Vec::new() };
        Self { name, says, manner: Manner::Listens, counts: NOTHING, records: &[], differs: None }
    }

    /// It asks for inference.
    fn asks(name: &'static str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        Self::says(name, sized(name, headers, body))
    }

    fn asks_in_chunks(name: &'static str, body: &str) -> Self {
        Self::says(name, ask(CHAT, name, "Transfer-Encoding: chunked\r\n", body))
    }

    fn then(self, manner: Manner, then: impl Into<Vec<u8>>) -> Self {
        Self { manner, says: Says { then: then.into(), ..self.says }, ..self }
    }

    fn finishes(self) -> Self {
        self.then(Manner::Finishes, "")
    }

    fn counts(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    fn recorded(self, records: &'static [Due]) -> Self {
        Self { records, ..self }
    }

    fn but(self, differs: Differs) -> Self {
        Self { differs: Some(differs), ..self }
    }

    /// How many of its requests the server knows of.
    pub(super) fn truths(&self) -> usize {
        match self.differs {
            None => self.records.len(),
            Some(Differs::Refused) => 0,
            Some(Differs::Stray) => 1,
        }
    }
}

/// All of them.
pub(super) fn guests() -> Vec<Guest> {
    [no_http(), bad_heads(), lengths(), chunks(), other_protocols(), bodies(), neighbours(), unusual()]
        .into_iter()
        .flatten()
        .collect()
}

/// The server hangs up behind its answer.
fn head(line: &str, headers: &str) -> String {
    let connection = if headers.contains("Upgrade:") { "Upgrade, close" } else { "close" };
    format!("{line} HTTP/1.1\r\nHost: guest\r\nConnection: {connection}\r\n{headers}\r\n")
}

fn get(path: &str, headers: &str) -> String {
    head(&format!("GET {path}"), headers)
}

fn ask(path: &str, name: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = head(&format!("POST {path}"), &format!("X-Request-Id: {name}\r\n{headers}"));
    [head.as_bytes(), body.as_ref()].concat()
}

fn sized(name: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    ask(CHAT, name, &format!("{headers}Content-Length: {}\r\n", body.as_ref().len()), body)
}

/// One request and what stands behind it on its connection.
fn before(request: &[u8], behind: &[u8]) -> Vec<u8> {
    [String::from_utf8_lossy(request).replace("Connection: close\r\n", "").as_bytes(), behind].concat()
}

fn no_http() -> Vec<Guest> {
    let noise: Vec<u8> = (0..3_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise].concat();
    vec![
        Guest::says("says nothing", "").finishes(),
        Guest::says("any bytes", noise),
        Guest::says("NULs", [0; 100]),
        Guest::says("TLS", hello),
        Guest::says("a method that is none", "BREW /pot HTTP/1.1\r\n\r\n"),
        Guest::says("a capital letter", "Q").finishes().counts(UNDECODED),
        Guest::says("a method and rubbish", *b"POST \x01\x02\xff rubbish\r\n\r\n").counts(UNDECODED),
        Guest::says("no version", "GET rubbish\r\n\r\n").counts(UNDECODED),
        Guest::says("HTTP/1.2", "GET /health HTTP/1.2\r\nHost: guest\r\n\r\n").counts(UNDECODED),
    ]
}

fn bad_heads() -> Vec<Guest> {
    // Beyond what the agent keeps of a head; this server has no bound.
    let long = format!("X-Long: {}\r\n", "x".repeat(100_000));
    let endless = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(40_000));
    let mut no_cr = sized("lines without CR", "", BODY);
    no_cr.retain(|byte| *byte != b'\r');
    vec![
        Guest::says("huge head", get("/health", &long)).counts(UNDECODED),
        Guest::asks("huge head for inference", &long, BODY).counts(UNDECODED).but(Differs::Stray),
        Guest::says("head without end", "POST /v1/chat/completions HTTP/1.1\r\nX-Req").finishes().counts(UNDECODED),
        Guest::says("endless headers", endless).finishes().counts(UNDECODED),
        Guest::says("NUL in a path", "POST /v1/\0chat/completions HTTP/1.1\r\n\r\n").counts(UNDECODED),
        Guest::asks("NUL in a header", "X: a\0b\r\n", BODY).counts(UNDECODED),
        Guest::asks("folded header", "X: a\r\n b\r\n", BODY).counts(UNDECODED),
        Guest::says("lines without CR", no_cr).recorded(REFUSED).but(Differs::Refused),
    ]
}

fn lengths() -> Vec<Guest> {
    let known = format!("Content-Length: {}\r\n", BODY.len());
    let length = |name: &'static str, length: &str| {
        Guest::says(name, ask(CHAT, name, &format!("Content-Length: {length}\r\n"), BODY))
    };
    vec![
        length("length too long", "5000").finishes().recorded(UNOBSERVED),
        length("negative length", "-5").counts(UNDECODED),
        length("length that is no number", "0x10").counts(UNDECODED),
        Guest::asks("two lengths", "Content-Length: 7\r\n", BODY).counts(UNDECODED),
        Guest::asks("two equal lengths", &known, BODY).recorded(REFUSED).but(Differs::Refused),
        Guest::asks("length and chunks", "Transfer-Encoding: chunked\r\n", "1\r\n{\r\n0\r\n\r\n")
            .recorded(REFUSED)
            .but(Differs::Refused),
    ]
}

fn chunks() -> Vec<Guest> {
    let broken = |name: &'static str, body: &str| Guest::asks_in_chunks(name, body).counts(UNDECODED).recorded(REFUSED);
    let whole = format!("{:x};a=b\r\n{BODY}\r\n0\r\nTrailer: x\r\n\r\n", BODY.len());
    vec![
        broken("chunk size that is none", "zz\r\nhello\r\n"),
        broken("chunk size beyond all numbers", "ffffffffffffffffff\r\nhello\r\n"),
        broken("chunk longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
        Guest::asks_in_chunks("chunks cut in the middle", "ff\r\n{\"model\"").finishes().recorded(UNOBSERVED),
        Guest::asks_in_chunks("chunks", &whole).recorded(GOOD),
    ]
}

fn other_protocols() -> Vec<Guest> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let websocket =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let h2c = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let encoded =
        |name: &'static str, body: &[u8]| Guest::asks(name, "Content-Encoding: gzip\r\n", body).counts(ENCODED);
    vec![
        Guest::says("HTTP/2", before(preface, &sized("HTTP/2", "", BODY))).counts(UPGRADED),
        Guest::says("CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n").counts(UPGRADED),
        // What comes then is a request in all but name, both ways.
        Guest::says("WebSocket", get("/v1/realtime", websocket))
            .then(Manner::Switches, sized("WebSocket", "", BODY))
            .counts(Counts { plain: 1, ..UPGRADED }),
        Guest::says("WebSocket refused", get("/v1/else", websocket)).counts(PLAIN),
        Guest::says("h2c", get("/health", h2c)).counts(PLAIN),
        // uvicorn stays with HTTP/1.1, but reads no body behind such a head.
        Guest::asks("h2c for inference", h2c, BODY).recorded(REFUSED),
        encoded("gzip that is none", b"\x1f\x8b no gzip").recorded(REFUSED),
        encoded("JSON called gzip", BODY.as_bytes()).recorded(GOOD),
        encoded("gzip", &zipped(BODY.as_bytes())).recorded(GOOD),
    ]
}

fn bodies() -> Vec<Guest> {
    let (open, closed) = ("[".repeat(100_000), "]".repeat(100_000));
    let bodies: [(&str, &[u8]); 8] = [
        ("no body", b""),
        ("JSON without end", br#"{"model":"standin","temperature":1.5,"messages":["#),
        ("no JSON", b"--x\r\nContent-Disposition: form-data\r\n\r\nPOST /v1/chat/completions HTTP/1.1\r\n\r\n"),
        ("no UTF-8", b"{\"model\":\"standin\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}"),
        ("brackets without end", open.as_bytes()),
        ("100,000 brackets deep", &[open.as_bytes(), closed.as_bytes()].concat()),
        ("NULs for a body", &[0; 100]),
        ("NUL in a string", b"{\"model\":\"standin\",\"messages\":[{\"role\":\"user\",\"content\":\"a\0b\"}]}"),
    ];
    bodies.map(|(name, body)| Guest::asks(name, "", body).recorded(REFUSED)).into()
}

fn neighbours() -> Vec<Guest> {
    let sized = |name: &str, body: &str| sized(name, "", body);
    let two = before(&sized("good behind bad JSON", "{"), &sized("good behind bad JSON 2", BODY));
    vec![
        Guest::says("good behind bad", before(b"POST / x\r\n\r\n", &sized("good behind bad", BODY))).counts(UNDECODED),
        Guest::says("good behind bad JSON", two).recorded(&[Due::Status(400), Due::Status(200)]),
        Guest::says("rubbish behind good", before(&sized("rubbish behind good", BODY), b"\0\0rubbish"))
            .counts(UNDECODED)
            .recorded(REFUSED),
        Guest::says("reset", before(get("/health", "").as_bytes(), b""))
            .then(Manner::Resets, sized("reset", BODY))
            .counts(PLAIN)
            .recorded(AS_IT_WAS),
        Guest::asks("half closed", "", BODY).finishes().recorded(AS_IT_WAS),
    ]
}

/// What is seldom seen, and good.
fn unusual() -> Vec<Guest> {
    let old = String::from_utf8_lossy(&sized("HTTP/1.0", "", BODY)).replace("HTTP/1.1", "HTTP/1.0");
    let at = |name: &'static str, path: &str| {
        Guest::says(name, ask(path, name, &format!("Content-Length: {}\r\n", BODY.len()), BODY)).recorded(GOOD)
    };
    vec![
        Guest::asks("a byte a call", "", BODY).then(Manner::Stammers, "").recorded(GOOD),
        Guest::asks("100-continue", "Expect: 100-continue\r\n", BODY).recorded(GOOD),
        Guest::asks("3,000 headers", &"a: b\r\n".repeat(3_000), BODY).recorded(GOOD),
        Guest::says("empty lines", before(b"\r\n\r\n", &sized("empty lines", "", BODY))).recorded(GOOD),
        Guest::says("HTTP/1.0", old).recorded(GOOD),
        at("absolute form", "http://guest/v1/chat/completions?a=b"),
        at("escaped path", "/v1/chat%2Fcomplet%69ons"),
        Guest::says("GET for inference", get(CHAT, "")).counts(PLAIN),
    ]
}

/// gzip without compression: what it holds lies in it as it is.
fn zipped(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    [
        &b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01"[..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        bytes,
        &crc.to_le_bytes(),
        &u32::from(length).to_le_bytes(),
    ]
    .concat()
}
