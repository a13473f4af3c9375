//! Finished requests and the agent's snapshot in; a line for each request, running totals and a summary out.

use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

/// Times to first token kept for the summary.
const TTFTS: usize = 100_000;
/// Back to the start of the line, and what stands there wiped out.
const WIPE: &str = "\r\x1b[2K";

/// What was shown so far.
pub(super) struct Screen {
    began: Instant,
    terminal: bool,
    /// Of the last answer: what comes again is not new.
    known: BTreeSet<String>,
    requests: usize,
    by_status: BTreeMap<String, usize>,
    by_join: BTreeMap<String, usize>,
    input: u64,
    cached: u64,
    output: u64,
    incomplete: usize,
    ttft_seconds: Vec<f64>,
}

impl Screen {
    /// Says what is to be seen, and where there is more of it.
    pub(super) fn open(engine: &str, port: u16) -> Self {
        println!(
            "\nEvery request of {engine}, which was not changed, as it ends. Times are UTC, durations milliseconds.\n  \
             metrics   http://127.0.0.1:{port}/metrics\n  \
             requests  http://127.0.0.1:{port}/api/v1/requests?limit=5\n\
             Ctrl-C ends it.\n"
        );
        Self {
            began: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            known: BTreeSet::new(),
            requests: 0,
            by_status: BTreeMap::new(),
            by_join: BTreeMap::new(),
            input: 0,
            cached: 0,
            output: 0,
            incomplete: 0,
            ttft_seconds: Vec::new(),
        }
    }

    /// How many requests were shown.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// How long it is being shown.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Shows those that are new, of an answer that begins with the newest.
    pub(super) fn show(&mut self, newest_first: &[&Value]) {
        let wipe = if self.terminal { WIPE } else { "" };
        for request in newest_first.iter().rev().filter(|request| !self.known.contains(&request["id"].to_string())) {
            println!("{wipe}{}", Line(request));
            self.requests += 1;
            *self.by_status.entry(word(&request["status"])).or_default() += 1;
            *self.by_join.entry(word(&request["join"])).or_default() += 1;
            self.input += request["input_tokens"].as_u64().unwrap_or(0);
            self.cached += request["cached_tokens"].as_u64().unwrap_or(0);
            self.output += request["output_tokens"].as_u64().unwrap_or(0);
            self.incomplete += usize::from(!request["incomplete"].is_null());
            self.ttft_seconds.extend(request["ttft_seconds"].as_f64().filter(|_| self.ttft_seconds.len() < TTFTS));
        }
        self.known = newest_first.iter().map(|request| request["id"].to_string()).collect();
        if self.terminal {
            print!("{wipe}{}", self.totals());
            // A terminal that takes nothing shows nothing; the end says what there was.
            let _unshown = std::io::stdout().flush();
        }
    }

    /// Short enough for a narrow terminal: a line that wraps cannot be wiped out.
    fn totals(&self) -> String {
        let seconds = self.age().as_secs_f64();
        let (requests, output) = (self.requests as f64, self.output as f64);
        format!(
            "── {} requests in {seconds:.0} s: {:.1} and {:.0} output tokens a second",
            self.requests,
            requests / seconds,
            output / seconds
        )
    }

    /// What there was in all, and what the agent says of itself.
    pub(super) fn close(mut self, snapshot: &Value) {
        let wipe = if self.terminal { WIPE } else { "" };
        println!("{wipe}\n{}", self.totals());
        println!("  status    {}", counts(&self.by_status));
        println!("  tokens    input {} (cached {}), output {}", self.input, self.cached, self.output);
        self.ttft_seconds.sort_by(f64::total_cmp);
        let rank = |share: usize| self.ttft_seconds.get(self.ttft_seconds.len() * share / 100);
        if let (Some(median), Some(high)) = (rank(50), rank(99)) {
            let of = self.ttft_seconds.len();
            println!(
                "  ttft      median {} ms, 99 % {} ms, of {of} streams",
                milliseconds(*median),
                milliseconds(*high)
            );
        }
        println!("  joined    {}", counts(&self.by_join));
        println!(
            "  records   {} incomplete, {} lost in the ring",
            self.incomplete,
            word(at(snapshot, "/vitals/records_lost"))
        );
        let (cpu, memory) = (at(snapshot, "/own/cpu_seconds"), at(snapshot, "/own/memory_bytes"));
        if let (Some(cpu), Some(memory)) = (cpu.as_f64(), memory.as_f64()) {
            println!("  agent     {cpu:.1} s of processor time (a build without optimisation), {:.0} MB", memory / 1e6);
        }
    }
}

fn counts(of: &BTreeMap<String, usize>) -> String {
    of.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
}

/// One request as a line of the terminal; what is unknown is a dash.
struct Line<'a>(&'a Value);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(request) = self;
        let ended = request["end_unix_nano"].as_u64().unwrap_or(0) / 1_000_000_000;
        let (hour, minute, second) = (ended / 3600 % 24, ended / 60 % 60, ended % 60);
        let input = format!("{} (cached {})", word(&request["input_tokens"]), word(&request["cached_tokens"]));
        let of = |seconds: &Value| seconds.as_f64().map_or_else(|| "–".to_owned(), milliseconds);
        let phases = &request["phases"];
        write!(
            f,
            "{hour:02}:{minute:02}:{second:02}  {:>3}  {:<15}  {:<7}  in {input:<18}  out {:<4}  ttft {:>4} ms  ",
            word(&request["status"]),
            word(&request["operation"]),
            word(at(request, "/target/model")),
            word(&request["output_tokens"]),
            of(&request["ttft_seconds"]),
        )?;
        for phase in ["queue", "prefill", "decode"] {
            write!(f, "{phase} {:<4}  ", of(&phases[phase]))?;
        }
        write!(f, "join {}", word(&request["join"]))?;
        let reasons = request["finish_reasons"].as_array().into_iter().flatten();
        for word in std::iter::once(&request["error_type"]).filter(|error| !error.is_null()).chain(reasons).map(word) {
            write!(f, "  {word}")?;
        }
        let reasons = request["incomplete"].as_array().into_iter().flatten();
        reasons.map(word).try_for_each(|reason| write!(f, "  incomplete: {reason}"))
    }
}

/// What stands there; null where nothing does.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A JSON value without its quotes; what is unknown is a dash.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Milliseconds with two digits at least.
fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    if milliseconds < 9.95 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_what_is_known() {
        let request = json!({
            "end_unix_nano": 1_700_000_010_400_000_000_u64, "status": 200, "operation": "chat",
            "target": { "model": "tiny" }, "input_tokens": 39, "cached_tokens": 0, "output_tokens": 28,
            "ttft_seconds": 0.048_2, "phases": { "queue": 0.000_02, "prefill": 0.038_9, "decode": 0.143 },
            "join": "id", "finish_reasons": ["length"],
        });
        assert_eq!(
            Line(&request).to_string(),
            "22:13:30  200  chat             tiny     in 39 (cached 0)       out 28    ttft   48 ms  \
             queue 0.0   prefill 39    decode 143   join id  length"
        );
        let unseen = json!({ "status": "unobserved", "error_type": "client_disconnect", "incomplete": ["truncated"] });
        assert_eq!(
            Line(&unseen).to_string(),
            "00:00:00  unobserved  –                –        in – (cached –)        out –     ttft    – ms  \
             queue –     prefill –     decode –     join –  client_disconnect  incomplete: truncated"
        );
    }
}
