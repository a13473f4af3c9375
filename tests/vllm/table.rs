//! What three sides say of the same requests in; a table of where they agree, and what is wrong, out.

use crate::run::Case;
use crate::run::Ground;
use crate::truth::EngineRequest;
use crate::truth::Record;
use crate::truth::Saw;
use crate::truth::Span;
use crate::truth::Usage;
use agent_tests::standin::Wire;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// How far the agent's phase may be from vLLM's own, seconds.
const PHASE: f64 = 1e-4;
/// The longest context that the suite's vLLM takes, tokens.
const LONGEST: u64 = 1_024;
/// How far sums may be apart, as a share.
const SUM: f64 = 1e-3;
/// The most that lies between the kernel's stamp, taken inside a write, and that write's return, ns. What a
/// write takes is microseconds; the rest is the process losing its CPU before it returns.
const WRITE: i64 = 50_000_000;
/// The distance of the two that half of the requests must keep, ns.
const HALF: i64 = 1_000_000;
/// vLLM's names of queue, prefill and decode.
const SUMS: [&str; 3] = ["queue", "prefill", "decode"];
/// Words in the names of the agent's counters that must have stayed at zero.
const LOSSES: [&str; 6] = ["lost", "undecoded", "dropped", "truncated", "evicted", "untrusted"];

/// A line of the table.
struct Row {
    what: &'static str,
    of: usize,
    wrong: Vec<String>,
    note: String,
}

impl Row {
    fn new(what: &'static str) -> Self {
        Self { what, of: 0, wrong: Vec::new(), note: String::new() }
    }

    fn check(&mut self, right: bool, wrong: impl FnOnce() -> String) {
        self.of += 1;
        if !right {
            self.wrong.push(wrong());
        }
    }
}

/// A client's request beside its records and spans.
struct Beside<'a> {
    saw: &'a Saw,
    records: Vec<&'a Record>,
    spans: Vec<&'a Span>,
}

impl Beside<'_> {
    /// Whether the client left when vLLM had just finished it: then vLLM counts it as any other.
    fn ended_unseen(&self) -> bool {
        self.saw.left.is_some() && !self.spans.is_empty()
    }

    /// Its record, if there is exactly one.
    fn record(&self) -> Option<&Record> {
        match self.records.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    fn name(&self) -> String {
        format!("{} {} {:?}", self.saw.kind, self.saw.temperature, self.saw.response_id)
    }
}

/// The unique temperature, however it was rounded on its way.
fn key(temperature: f64) -> String {
    format!("{temperature:.6}")
}

/// Puts together what belongs to one request. Its temperature says so; a body that is no JSON has none to
/// read, and is known by its X-Request-Id.
fn beside(ground: &Ground) -> Vec<Beside<'_>> {
    let mut records: HashMap<String, Vec<&Record>> = HashMap::new();
    let mut nameless: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &ground.records {
        match (record.params.temperature, &record.x_request_id) {
            (Some(temperature), _) => records.entry(key(temperature)).or_default().push(record),
            (None, Some(id)) => nameless.entry(id).or_default().push(record),
            (None, None) => {}
        }
    }
    let mut spans: HashMap<String, Vec<&Span>> = HashMap::new();
    for span in &ground.spans {
        spans.entry(key(span.temperature)).or_default().push(span);
    }
    let of = |saw: &Saw| {
        let named = records.get(&key(saw.temperature));
        named.or_else(|| nameless.get(saw.x_request_id.as_deref()?)).cloned().unwrap_or_default()
    };
    let spans = |saw: &Saw| spans.get(&key(saw.temperature)).cloned().unwrap_or_default();
    ground.saw.iter().map(|saw| Beside { saw, records: of(saw), spans: spans(saw) }).collect()
}

/// Prints the table of a run and gives all that is wrong.
pub(crate) fn judge(case: &Case, ground: &Ground) -> Vec<String> {
    let all = beside(ground);
    let mut rows = vec![
        recorded(&all, ground.records.len()),
        statuses(&all),
        usage(&all),
        without_usage(&all, case),
        sums_of_tokens(&all, ground, case),
    ];
    if case.has_spans {
        rows.extend([phases(&all), sum_of_ttft(&all)]);
    }
    if ground.counters.contains_key("vllm:request_queue_time_seconds_sum") {
        rows.push(sums_of_phases(&all, ground, case));
        // On a Unix socket the agent asks nobody, and the kernel stamps nothing.
        rows.extend((case.wire != Wire::Unix).then(|| own_metrics(ground)));
    }
    rows.extend((case.wire != Wire::Unix).then(|| content(&all)));
    rows.extend([parts(&ground.records), joined(&all), losses(ground)]);

    println!("\n{}: {} requests", case.name, ground.saw.len());
    kinds(&all);
    println!("  {:<66} {:>6} {:>6}", "", "of", "wrong");
    for row in &rows {
        println!("  {:<66} {:>6} {:>6}  {}", row.what, row.of, row.wrong.len(), row.note);
    }
    let empty = rows.iter().filter(|row| row.of == 0).map(|row| format!("{}: nothing to judge by", row.what));
    let wrong = rows.iter().flat_map(|row| row.wrong.iter().take(10).map(|it| format!("{}: {it}", row.what)));
    empty.chain(wrong).collect()
}

fn kinds(all: &[Beside<'_>]) {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for it in all {
        let (sent, recorded) = kinds.entry(&it.saw.kind).or_default();
        *sent += 1;
        *recorded += usize::from(it.record().is_some());
    }
    for (kind, (sent, recorded)) in kinds {
        println!("  {kind:<28} sent {sent:>4}  recorded once {recorded:>4}");
    }
}

fn recorded(all: &[Beside<'_>], records: usize) -> Row {
    let mut row = Row::new("requests recorded, one record each");
    for it in all {
        row.check(it.records.len() == 1, || format!("{}: {} records", it.name(), it.records.len()));
        row.check(it.saw.error.is_none(), || format!("{}: the client failed: {:?}", it.name(), it.saw.error));
    }
    row.check(records == all.len(), || format!("{records} records of {} requests", all.len()));
    let with_id = all.iter().filter(|it| it.saw.x_request_id.is_some()).count();
    let openai = all.iter().filter(|it| it.saw.client == "openai").count();
    row.note = format!("{with_id} with X-Request-Id, {openai} by the openai client");
    row
}

fn statuses(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("status and response id as the client saw them");
    for (it, record) in pairs(all) {
        if let Some(status) = it.saw.status {
            row.check(record.status == status, || format!("{}: {status}, {}", it.name(), record.status));
        }
        if it.saw.response_id.is_some() {
            row.check(record.response_id == it.saw.response_id, || format!("{}: {:?}", it.name(), record.response_id));
        }
    }
    row
}

fn usage(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("input, cached and output tokens = usage");
    for (it, record) in pairs(all) {
        let Some(usage) = it.saw.usage else { continue };
        let Usage { input, cached, output } = usage;
        let own = (record.input_tokens, record.output_tokens, record.cached_tokens.or(cached));
        row.check(own == (Some(input), Some(output), cached.or(own.2)), || {
            format!("{}: {usage:?}, {own:?}", it.name())
        });
    }
    row
}

/// The truth is vLLM's own span; where it makes none, the sums judge.
fn without_usage(all: &[Beside<'_>], case: &Case) -> Row {
    let mut row = Row::new("input and output tokens of streams without usage");
    for (it, record) in pairs(all).filter(|(it, _)| it.saw.is_whole() && it.saw.usage.is_none()) {
        let own = (record.input_tokens, record.output_tokens);
        let right = match it.spans.as_slice() {
            [span] => own == (Some(span.input), Some(span.output)),
            _ => !case.has_spans && own.0.is_some() && own.1.is_some(),
        };
        row.check(right, || format!("{}: {own:?}, spans {:?}", it.name(), it.spans));
    }
    row
}

fn sums_of_tokens(all: &[Beside<'_>], ground: &Ground, case: &Case) -> Row {
    let mut row = Row::new("sums of tokens = vLLM's counters");
    let prompt = |it: &Beside<'_>, record: &Record| it.saw.counts_prompt() * record.input_tokens.unwrap_or(0);
    let whole = || pairs(all).filter(|(it, _)| it.saw.is_whole());
    let left = || pairs(all).filter(|(it, _)| case.counts_aborted && it.saw.left.is_some());
    let late = || pairs(all).filter(|(it, _)| it.ended_unseen());
    let input: u64 = whole().chain(left()).chain(late()).map(|(it, record)| prompt(it, record)).sum();
    let delivered: u64 = whole().map(|(_, record)| record.output_tokens.unwrap_or(0)).sum();
    let output = delivered + late().map(|(_, record)| record.engine_tokens.unwrap_or(0)).sum::<u64>();
    // Of an aborted request vLLM counts what had reached its front end: no more than was produced.
    let above: u64 = left().map(|(_, record)| record.engine_tokens.unwrap_or(0)).sum();
    // Whose engine side could not be told from another's has a prompt that only vLLM knows.
    let unknown = left().filter(|(_, record)| record.input_tokens.is_none()).count() as u64 * LONGEST;
    for (name, own, above) in [("prompt", input, unknown), ("generation", output, above)] {
        let counted = ground.counters.get(&format!("vllm:request_{name}_tokens_sum"));
        // With its statistics off vLLM counts nothing; then each request's usage is all there is to compare.
        let between = own as f64 - 0.5..=(own + above) as f64 + 0.5;
        let right = counted.map_or(own > 0, |counted| between.contains(counted));
        row.check(right, || format!("{name}: {own}, {counted:?}"));
    }
    row
}

fn phases(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("queue, prefill, decode of each engine request within 0.1 ms of its span");
    let mut furthest = 0.0_f64;
    for (it, record) in pairs(all).filter(|(it, _)| !it.spans.is_empty()) {
        let mut own: Vec<_> = record.engine_requests.iter().filter_map(EngineRequest::phases).collect();
        let mut truth: Vec<_> = it.spans.iter().copied().map(Span::phases).collect();
        // Several engine requests of one have one temperature; each phase of the one order tells them apart.
        own.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        truth.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        let apart = own.iter().flatten().zip(truth.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        furthest = furthest.max(apart);
        row.check(own.len() == truth.len() && apart <= PHASE, || format!("{}: {own:?}, {truth:?}", it.name()));
    }
    row.note = format!("furthest {:.3} ms", furthest * 1e3);
    row
}

fn sums_of_phases(all: &[Beside<'_>], ground: &Ground, case: &Case) -> Row {
    let mut row = Row::new("sums of queue, prefill, decode within 0.1 % of vLLM's");
    let sum = |of: &dyn Fn(&Beside<'_>) -> bool, at: usize| -> f64 {
        let those = pairs(all).filter(|(it, _)| of(it));
        let each = those.flat_map(|(_, record)| &record.engine_requests).filter_map(EngineRequest::phases);
        each.filter_map(|phases| phases.get(at).copied()).sum()
    };
    for (at, name) in SUMS.iter().enumerate() {
        let least = sum(&|it| it.saw.is_whole() || it.ended_unseen(), at);
        let most = least + sum(&|it| case.counts_aborted && it.saw.left.is_some(), at);
        let truth = ground.counters.get(&format!("vllm:request_{name}_time_seconds_sum")).copied().unwrap_or(f64::NAN);
        let right = (least - truth * SUM..=most + truth * SUM).contains(&truth);
        row.check(right, || format!("{name}: {least} to {most}, {truth}"));
    }
    row
}

/// vLLM's TTFT starts after parsing and ends before the write, so ours, which holds it, is not below.
fn sum_of_ttft(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("sum of TTFT of streamed requests not below vLLM's");
    let both = |(it, record): (&Beside<'_>, &Record)| match it.spans.as_slice() {
        [span] if it.saw.stream => Some((record.ttft_seconds?, span.ttft)),
        _ => None,
    };
    let (own, truth) = pairs(all).filter_map(both).fold((0.0, 0.0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
    row.check(own > 0.0 && own >= truth, || format!("{own}, {truth}"));
    row.note = format!("{own:.3} s, {truth:.3} s");
    row
}

fn content(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("first content at the client's kernel stamp, or a write later");
    let mut apart = Vec::new();
    for (it, record) in pairs(all).filter(|(it, _)| it.saw.stream && it.saw.n == 1) {
        let (Some(stamp), Some(true)) = (it.saw.first_content_ns, it.saw.first_content_alone) else { continue };
        let later = record.instants.first_content.map(|own| own - stamp);
        // How long loopback takes to deliver is not the agent's: a stamp may come after the write's return.
        let right = later.is_some_and(|later| later <= WRITE) && record.ttft_seconds.is_some();
        row.check(right, || format!("{}: {later:?} ns after the stamp", it.name()));
        apart.extend(later.map(i64::abs));
    }
    apart.sort_unstable();
    let median = apart.get(apart.len() / 2).copied().unwrap_or(i64::MAX);
    row.check(median <= HALF, || format!("median {median} ns"));
    row.note = format!(
        "median {:.3} ms, furthest {:.3} ms",
        median as f64 / 1e6,
        apart.last().map_or(0.0, |&it| it as f64 / 1e6)
    );
    row
}

fn parts(records: &[Record]) -> Row {
    let mut row = Row::new("phases each ≥ 0 and in sum the duration, to the nanosecond");
    for record in records.iter().filter(|record| record.incomplete.is_null()) {
        let known: Vec<i64> = record.phases_ns.values().flatten().copied().collect();
        let whole = record.instants.finished.zip(record.instants.accepted).map(|(end, start)| end - start);
        let sums = known.len() < record.phases_ns.len() || Some(known.iter().sum()) == whole;
        row.check(sums && known.iter().all(|&it| it >= 0), || {
            format!("{:?}: {:?}, {whole:?}", record.response_id, record.phases_ns)
        });
    }
    row
}

fn joined(all: &[Beside<'_>]) -> Row {
    let mut row = Row::new("joined to its engine requests, none wrongly");
    let mut ambiguous = 0;
    for (it, record) in pairs(all).filter(|(it, _)| it.saw.is_whole()) {
        if record.join == "ambiguous" {
            ambiguous += 1;
            row.check(it.saw.kind == "twin_ids", || format!("{}: ambiguous", it.name()));
            continue;
        }
        let engines = &record.engine_requests;
        row.check(engines.len() == it.saw.n, || format!("{}: {} engine requests", it.name(), engines.len()));
        for external in engines.iter().filter_map(|engine| engine.external_id.as_deref()) {
            let own = it.saw.response_id.as_deref().is_some_and(|id| external.starts_with(id));
            row.check(own, || format!("{}: joined to {external}", it.name()));
        }
    }
    row.note = format!("{ambiguous} ambiguous");
    row
}

fn losses(ground: &Ground) -> Row {
    let mut row = Row::new("nothing lost, dropped or undecoded, by the agent's own counters");
    for (name, value) in ground.vitals.iter().filter(|(name, _)| LOSSES.iter().any(|loss| name.contains(loss))) {
        row.check(value == 0, || format!("{name}: {value}"));
    }
    row
}

/// The agent compares by itself where nothing moved; each comparison that failed is one too many.
fn own_metrics(ground: &Ground) -> Row {
    let mut row = Row::new("its own gauges and counters agree with its messages, when still");
    for (what, tally) in &ground.checks {
        (0..tally.agreed).for_each(|_| row.check(true, String::new));
        (0..tally.disagreed).for_each(|_| row.check(false, || what.clone()));
    }
    row
}

/// Requests with exactly one record, with it; the others are counted where records are.
fn pairs<'a>(all: &'a [Beside<'a>]) -> impl Iterator<Item = (&'a Beside<'a>, &'a Record)> {
    all.iter().filter_map(|it| Some((it, it.record()?)))
}
