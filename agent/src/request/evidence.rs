//! An exchange and an engine request in, whether they can be one and the same out.
//!
//! Order in time and the shape of the request decide for good. Everything else is evidence that holds
//! for a front end until a pair that its ids join for certain contradicts it; then that kind of evidence
//! is no longer used for the engine. Temperature is never looked at: it stays free to check the joins by.

use crate::clock::MonoNs;
use crate::ident::Pid;
use crate::request::engine::Life;
use crate::request::engine::Stop;
use crate::request::http::Close;
use crate::request::http::Http;
use crate::request::names;
use crate::stream::Break;
use crate::stream::Finish;
use crate::stream::Operation;
use crate::stream::Params;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long an ADD may be under way when its caller leaves.
const ADD_AFTER_BREAK: Duration = Duration::from_millis(250);
/// How long an ABORT may take after its caller left.
const ABORT_AFTER_BREAK: Duration = Duration::from_secs(1);
/// How far the two sides' messages may be apart in the order in which they arrive here.
pub(super) const SETTLE: Duration = Duration::from_millis(250);

/// A kind of evidence against a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Against {
    /// Streaming against waiting for the end.
    OutputKind,
    /// Another token limit.
    MaxTokens,
    /// Another seed.
    Seed,
    /// Another `top_p`, `top_k` or penalty.
    Sampling,
    /// Another front end process.
    Client,
    /// Another X-Request-Id.
    XRequestId,
    /// No child's number, where several children were asked for.
    Children,
    /// It ended otherwise, or at another time.
    End,
    /// Content before there was output.
    Content,
    /// Other token counts.
    Usage,
}

/// What was learned about one engine.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// Evidence that has been contradicted.
    pub(super) distrusted: BTreeSet<Against>,
    /// The front end process behind each client index.
    pub(super) clients: BTreeMap<(Pid, u32), Pid>,
    /// The longest prompt plus token limit seen: no context is shorter.
    longest: u64,
    /// The highest token limit seen: no server-wide limit is lower.
    most: u64,
    /// Requests that the engine got before this may belong to exchanges that were never seen.
    pub(super) settled: MonoNs,
}

impl Habits {
    /// An ADD was read.
    pub(super) fn added(&mut self, life: &Life) {
        if let Some(limit) = life.params.max_tokens {
            self.most = self.most.max(limit);
            self.longest = self.longest.max(limit.saturating_add(life.prompt_tokens.unwrap_or(0)));
        }
    }

    /// Learns from a pair that its ids join for certain.
    pub(super) fn learn(&mut self, http: &Http, life: &Life, now: MonoNs) {
        if !(http.flags.is_empty() && life.flags.is_empty() && life.added.is_some()) {
            return;
        }
        if let Some(index) = life.client_index {
            let pid = http.exchange.conn.pid;
            if *self.clients.entry((life.core, index)).or_insert(pid) != pid {
                self.distrusted.insert(Against::Client);
            }
        }
        self.distrusted.extend(self.all(http, life, now));
    }

    /// Whether evidence that still holds speaks against the pair.
    pub(super) fn speak_against(&self, http: &Http, life: &Life, now: MonoNs) -> bool {
        self.all(http, life, now).any(|against| !self.distrusted.contains(&against))
    }

    fn all(&self, http: &Http, life: &Life, now: MonoNs) -> impl Iterator<Item = Against> + use<> {
        let read = http.received.is_some() && http.body.unread.is_none();
        let asked = &http.body.params;
        [
            (Against::OutputKind, read && other_kind(http.body.stream, life.output_kind)),
            (Against::MaxTokens, read && self.other_limit(http, life)),
            (Against::Seed, read && other_seed(asked.seed, life)),
            (Against::Sampling, read && other_sampling(asked, &life.params)),
            (Against::Client, self.other_client(http, life)),
            (Against::XRequestId, other_x_request_id(http, life)),
            (Against::Children, life.names.child.is_none() && http.children().is_some_and(|n| n > 1)),
            (Against::End, other_end(http, life, now)),
            (Against::Content, http.first_content.is_some_and(|at| life.first_sent().is_none_or(|sent| sent > at))),
            (Against::Usage, other_usage(http, life)),
        ]
        .into_iter()
        .filter_map(|(against, speaks)| speaks.then_some(against))
    }

    fn other_client(&self, http: &Http, life: &Life) -> bool {
        let known = life.client_index.and_then(|index| self.clients.get(&(life.core, index)));
        known.is_some_and(|pid| *pid != http.exchange.conn.pid)
    }

    /// A front end lowers the caller's limit to what the context or the server allows, and only then.
    fn other_limit(&self, http: &Http, life: &Life) -> bool {
        let text = http.head.operation == Operation::TextCompletion;
        let asked = http.body.params.max_tokens.or(text.then_some(16));
        let got = match (life.params.max_tokens, life.output_kind) {
            (Some(got), _) => got,
            // The parameters were read, and 16 is what they leave out.
            (None, Some(_)) => 16,
            (None, None) => return false,
        };
        let fills = life.prompt_tokens.is_none_or(|prompt| got.saturating_add(prompt) >= self.longest);
        let lowered = fills || got >= self.most;
        asked.map_or(!lowered, |asked| got > asked || (got < asked && !lowered))
    }
}

/// Whether order in time and the shape of the request allow the pair.
pub(super) fn possible(http: &Http, life: &Life) -> bool {
    let in_order = match (http.received, life.added) {
        (Some(received), Some(added)) => received <= added,
        (None, Some(_)) => !http.flags.is_empty() && http.accepted <= life.seen,
        (_, None) => http.accepted <= life.seen,
    };
    let before_end = http.end.is_none_or(|(at, how)| {
        let until = if how == Close::Ended && !http.answered_early() { at } else { at.plus(ADD_AFTER_BREAK) };
        life.added.unwrap_or(life.seen) <= until
    });
    let child = life.names.child.zip(http.children()).is_none_or(|(child, children)| children > 1 && child < children);
    in_order && before_end && child && !http.refused()
}

fn other_kind(stream: Option<bool>, kind: Option<u32>) -> bool {
    kind.is_some_and(|kind| (kind == 1) != stream.unwrap_or(false))
}

fn other_seed(asked: Option<i64>, life: &Life) -> bool {
    // Children of one request get the caller's seed plus their number.
    let child = i64::from(life.names.child.unwrap_or(0));
    match (asked, life.params.seed) {
        (Some(asked), Some(got)) => got != asked && Some(got) != asked.checked_add(child),
        (None, Some(_)) => true,
        (Some(_), None) => life.output_kind.is_some(),
        (None, None) => false,
    }
}

fn other_sampling(asked: &Params, got: &Params) -> bool {
    // One side may have gone through 32 bits.
    let apart = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| (a - b).abs() > 1e-6 * a.abs().max(1.0));
    let top_k = asked.top_k.zip(got.top_k).is_some_and(|(a, b)| a.max(0) != b.max(0));
    top_k
        || apart(asked.top_p, got.top_p)
        || apart(asked.presence_penalty, got.presence_penalty)
        || apart(asked.frequency_penalty, got.frequency_penalty)
        || apart(asked.repetition_penalty, got.repetition_penalty)
}

fn other_x_request_id(http: &Http, life: &Life) -> bool {
    // The Responses API makes its ids itself.
    let asked = http.head.x_request_id.as_ref().filter(|_| http.head.operation != Operation::Responses);
    asked.is_some_and(|asked| {
        names::expected(http.head.operation, asked).iter().all(|name| life.names.reading(name).is_none())
    })
}

fn other_end(http: &Http, life: &Life, now: MonoNs) -> bool {
    // A stop string ends the response before the engine knows.
    let stops = http.body.stop || http.body.unread.is_some();
    let Some((closed, how)) = http.end else {
        let failed = http.status().is_some_and(|status| status >= 400) || http.error.is_some();
        return life.aborted.is_some_and(|aborted| !stops && !failed && now > aborted.plus(SETTLE));
    };
    if http.complete() {
        let finished = http.finished().unwrap_or(closed);
        let reasons = || http.finish.values().map(String::as_str);
        let otherwise = match life.finish {
            Some(Finish::Length) => reasons().any(|reason| reason == "stop"),
            Some(Finish::Stop) => reasons().any(|reason| reason == "length"),
            Some(_) | None => false,
        };
        let in_time = life.end.is_some_and(|(at, why)| why != Stop::Aborted && at <= finished);
        return http.good() && !stops && (otherwise || !in_time);
    }
    match (how, life.aborted) {
        (Close::Broken(Break::ClientGone), Some(aborted)) => {
            aborted > closed.plus(ABORT_AFTER_BREAK) || (aborted < closed && !stops)
        }
        (_, Some(_) | None) => false,
    }
}

fn other_usage(http: &Http, life: &Life) -> bool {
    let Some(usage) = http.usage.filter(|_| http.complete() && http.expected() == Some(1)) else { return false };
    let input = usage.input.zip(life.prompt_tokens).is_some_and(|(told, known)| told != known);
    let stops = http.body.stop || life.aborted.is_some();
    let output =
        usage.output.is_some_and(|told| told > life.tokens || (told < life.tokens && !stops && life.finish.is_some()));
    input || output
}
