//! The kit, its ports and folders moved to where this run has room, in; its programs at work out.

use crate::kit;
use crate::programs::Programs;
use crate::prometheus::Prometheus;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

const START: Duration = Duration::from_mins(1);
/// Every port that the kit's programs listen on.
const PORTS: [u16; 15] = [9478, 8000, 9090, 9093, 3000, 3100, 9096, 3200, 9095, 4317, 4318, 4327, 4328, 8888, 13_133];

/// A kit of this run's own.
pub(crate) struct Kit {
    /// Its files.
    pub(crate) folder: PathBuf,
    ports: BTreeMap<u16, u16>,
}

impl Kit {
    /// Renders it, with its ports and folders moved and its rules hastened; those of its ports that are given are there.
    pub(crate) fn render(programs: &Programs, scratch: &Scratch, given: &[(u16, u16)]) -> Result<Self> {
        let folder = kit::generated(programs, scratch, "box")?;
        let free = |port: &u16| Ok((*port, http::free_port()?));
        let mut ports = PORTS.iter().map(free).collect::<Result<BTreeMap<u16, u16>>>()?;
        ports.extend(given.iter().copied());
        let this = Self { folder, ports };
        let place = |name: &str| scratch.file(name).display().to_string();
        let moved = [
            ("/var/lib/otelcol/queue", place("queue")),
            ("/var/tempo", place("tempo")),
            (" /loki", format!(" {}", place("loki"))),
            ("/etc/alertmanager/secrets", place("secrets")),
            ("scrape_interval: 15s", "scrape_interval: 500ms".to_owned()),
            ("scrape_timeout: 10s", "scrape_timeout: 500ms".to_owned()),
            ("  interval: 30s\n", "  interval: 1s\n".to_owned()),
            ("group_wait: 30s", "group_wait: 1s".to_owned()),
            ("group_wait: 10s", "group_wait: 1s".to_owned()),
            ("group_interval: 5m", "group_interval: 1s".to_owned()),
        ];
        for file in ["prometheus.yml", "alertmanager.yml", "collector/collector.yaml", "loki.yaml", "tempo.yaml"]
            .map(|name| this.folder.join(name))
            .into_iter()
            .chain(fs::read_dir(this.folder.join("rules"))?.filter_map(|file| Some(file.ok()?.path())))
            .filter(|file| file.is_file())
        {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let text = moved.iter().fold(text, |text, (from, to)| text.replace(from, to));
            fs::write(&file, with_ports(&text, &this.ports))?;
        }
        Ok(this)
    }

    /// Where that of the kit is in this run.
    pub(crate) fn port(&self, own: u16) -> u16 {
        self.ports.get(&own).copied().unwrap_or(own)
    }

    /// Changes one file's text.
    pub(crate) fn change(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
        Ok(fs::write(path, text.replace(from, to))?)
    }

    /// Prometheus with the kit's rules.
    pub(crate) fn prometheus(&self, programs: &Programs, scratch: &Scratch) -> Result<Prometheus> {
        Prometheus::with(programs, scratch, &self.folder.join("prometheus.yml"), self.port(9090))
    }

    /// Alertmanager with the kit's routes.
    pub(crate) fn alertmanager(&self, programs: &Programs, scratch: &Scratch) -> Result<Running> {
        let mut command = programs.alertmanager();
        command.arg(format!("--config.file={}", self.folder.join("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", scratch.file("alertmanager").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.port(9093))).arg("--cluster.listen-address=");
        self.start("alertmanager", command, scratch, 9093, "/-/ready")
    }

    /// One of the programs that no registry has, with the kit's settings; `None` where it is not there.
    pub(crate) fn built(&self, name: &'static str, scratch: &Scratch) -> Result<Option<Running>> {
        let Some(mut command) = Programs::built(name) else { return Ok(None) };
        let file = |name: &str| self.folder.join(name).display().to_string();
        let (port, ready) = match name {
            "loki" => {
                command.arg(format!("-config.file={}", file("loki.yaml")));
                (3100, "/ready")
            }
            "tempo" => {
                command.args(["-target=all", &format!("-config.file={}", file("tempo.yaml"))]);
                (3200, "/ready")
            }
            _ => {
                command.args(["--config", &file("collector/collector.yaml")]);
                (13_133, "/")
            }
        };
        command.current_dir(scratch.path());
        self.start(name, command, scratch, port, ready).map(Some)
    }

    fn start(
        &self,
        name: &'static str,
        mut command: Command,
        scratch: &Scratch,
        port: u16,
        ready: &str,
    ) -> Result<Running> {
        let mut running = Running::start(name, &mut command, scratch.file(&format!("{name}.log")))?;
        running.until_ready(START, || http::get(self.port(port), ready).is_ok())?;
        Ok(running)
    }
}

/// The text with each number that is one of these ports replaced.
fn with_ports(text: &str, ports: &BTreeMap<u16, u16>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|it: char| it.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (number, after) = from.split_at(from.find(|it: char| !it.is_ascii_digit()).unwrap_or(from.len()));
        out.push_str(before);
        match number.parse().ok().and_then(|number| ports.get(&number)) {
            Some(port) => out.push_str(&port.to_string()),
            None => out.push_str(number),
        }
        rest = after;
    }
    out + rest
}

/// Takes what is posted to it, as PagerDuty and Slack would.
pub(crate) struct Hook {
    port: u16,
    got: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hook {
    /// Listens for as long as the test runs.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let this = Self { port: listener.local_addr()?.port(), got: Arc::default() };
        let got = Arc::clone(&this.got);
        std::thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                let mut bytes = Vec::new();
                let mut piece = vec![0; 65_536];
                let whole = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    (body.len() >= length.unwrap_or(0))
                        .then(|| (head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
                };
                while let Ok(read) = caller.read(&mut piece) {
                    bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
                    if let Some(post) = whole(&bytes) {
                        got.lock().unwrap_or_else(PoisonError::into_inner).push(post);
                        break;
                    }
                    if read == 0 {
                        break;
                    }
                }
                // PagerDuty says 202, Slack says ok; both take 202 with this.
                let _left =
                    caller.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        });
        Ok(this)
    }

    /// Its address below which paths tell who was meant.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What came to a path so far.
    pub(crate) fn got(&self, path: &str) -> Vec<String> {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |head: &String| head.starts_with(&format!("POST /{path}"));
        got.iter().filter(|(head, _)| meant(head)).map(|(_, body)| body.clone()).collect()
    }
}

/// Writes the kit's secrets: the two ways lead to this hook.
pub(crate) fn secrets(kit: &Kit, scratch: &Scratch, hook: &Hook) -> Result<()> {
    let folder: &Path = &scratch.file("secrets");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("slack_url"), hook.url("slack"))?;
    fs::write(folder.join("pagerduty_routing_key"), "0123456789abcdef0123456789abcdef")?;
    let key = "    routing_key_file:";
    kit.change("alertmanager.yml", key, &format!("    url: {}\n{key}", hook.url("pagerduty")))
}

#[test]
fn only_whole_numbers_are_ports() {
    let ports = BTreeMap::from([(3100, 7), (9090, 8)]);
    assert_eq!(with_ports("a:3100/x 31000 9090, 13100\nport: 9090", &ports), "a:7/x 31000 8, 13100\nport: 8");
}
