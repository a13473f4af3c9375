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
use std::path::PathBuf;
use std::process::Command;
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
            ("scrape_interval: 15s", "scrape_interval: 500ms".to_owned()),
            ("scrape_timeout: 10s", "scrape_timeout: 500ms".to_owned()),
            ("  interval: 30s\n", "  interval: 1s\n".to_owned()),
        ];
        for file in ["prometheus.yml", "collector/collector.yaml", "loki.yaml", "tempo.yaml"]
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

    /// Prometheus with the kit's rules.
    pub(crate) fn prometheus(&self, programs: &Programs, scratch: &Scratch) -> Result<Prometheus> {
        Prometheus::with(programs, scratch, &self.folder.join("prometheus.yml"), self.port(9090))
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

#[test]
fn only_whole_numbers_are_ports() {
    let ports = BTreeMap::from([(3100, 7), (9090, 8)]);
    assert_eq!(with_ports("a:3100/x 31000 9090, 13100\nport: 9090", &ports), "a:7/x 31000 8, 13100\nport: 8");
}
