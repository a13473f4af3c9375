//! What was said on one connection about one exchange in, its life so far out.

use crate::clock::MonoNs;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::request::ITL_BOUNDS_NS;
use crate::request::Incomplete;
use crate::request::Itl;
use crate::request::names;
use crate::stream::AskBody;
use crate::stream::AskHead;
use crate::stream::Break;
use crate::stream::Chunk;
use crate::stream::Exchange;
use crate::stream::Operation;
use crate::stream::ReplyHead;
use crate::stream::Usage;
use crate::stream::content::Both;
use crate::stream::content::Said;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// 4xx for what took too long: Request Timeout, Client Closed Request.
const TIMEOUTS: [u16; 2] = [408, 499];

/// How an exchange stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// As HTTP ends.
    Ended,
    /// It could not be completed.
    Broken(Break),
    /// The book stopped looking.
    Unseen,
}

/// Whether the engine's messages are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tap {
    /// A core of its engine is traced.
    On,
    /// None was when the request was complete.
    Off,
}

/// The life of one exchange.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) exchange: Exchange,
    pub(super) engine: Option<EngineId>,
    pub(super) kind: EngineKind,
    pub(super) tap: Tap,
    pub(super) head: AskHead,
    pub(super) accepted: MonoNs,
    pub(super) received: Option<MonoNs>,
    pub(super) body: AskBody,
    pub(super) reply: Option<(MonoNs, ReplyHead)>,
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) first_content: Option<MonoNs>,
    pub(super) last_content: Option<MonoNs>,
    pub(super) itl: Itl,
    pub(super) finish: BTreeMap<u32, String>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<String>,
    pub(super) last: Option<MonoNs>,
    /// What is answered in words, where content is captured.
    pub(super) answered: Option<Box<Said>>,
    pub(super) end: Option<(MonoNs, Close)>,
    pub(super) blocked_ns: u64,
    pub(super) flags: BTreeSet<Incomplete>,
    pub(super) engine_dead: bool,
    pub(super) engine_lost: bool,
    /// The names it is filed under.
    pub(super) filed: Vec<String>,
}

impl Http {
    /// A new exchange.
    pub(super) fn new(exchange: Exchange, accepted: MonoNs, head: AskHead) -> Self {
        let itl = Itl { buckets: vec![0; ITL_BOUNDS_NS.len() + 1], ..Itl::default() };
        Self {
            exchange,
            engine: None,
            kind: EngineKind::Vllm,
            tap: Tap::Off,
            head,
            accepted,
            received: None,
            body: AskBody::default(),
            reply: None,
            id: None,
            model: None,
            first_content: None,
            last_content: None,
            itl,
            finish: BTreeMap::new(),
            usage: None,
            error: None,
            last: None,
            answered: None,
            end: None,
            blocked_ns: 0,
            flags: BTreeSet::new(),
            engine_dead: false,
            engine_lost: false,
            filed: Vec::new(),
        }
    }

    /// The request is complete.
    pub(super) fn receive(&mut self, at: MonoNs, body: &AskBody) {
        if self.received.is_none() {
            self.received = Some(at);
            self.body = body.clone();
            if body.unread == Some("truncated") {
                self.flags.insert(Incomplete::Truncated);
            }
        }
    }

    /// Part of the response.
    pub(super) fn say(&mut self, at: MonoNs, chunk: &Chunk) {
        if self.id.is_none() {
            self.id.clone_from(&chunk.id);
        }
        if self.model.is_none() {
            self.model.clone_from(&chunk.model);
        }
        if !chunk.content.is_empty() {
            self.write(at);
        }
        self.finish.extend(chunk.finish.iter().cloned());
        if let Some(usage) = chunk.usage {
            let so_far = self.usage.unwrap_or_default();
            self.usage = Some(Usage {
                input: usage.input.or(so_far.input),
                output: usage.output.or(so_far.output),
                cached: usage.cached.or(so_far.cached),
                reasoning: usage.reasoning.or(so_far.reasoning),
            });
        }
        if self.error.is_none() {
            self.error.clone_from(&chunk.error);
        }
        if chunk.last {
            self.last.get_or_insert(at);
        }
        match (&mut self.answered, &chunk.said) {
            (Some(so_far), Some(said)) => so_far.merge(said, |turn, part| (turn.number, part.kind, part.number)),
            (so_far @ None, said) => so_far.clone_from(said),
            (Some(_), None) => {}
        }
    }

    /// Several pieces of content in one write are one write.
    fn write(&mut self, at: MonoNs) {
        self.first_content.get_or_insert(at);
        if let Some(gap) = self.last_content.and_then(|last| at.since(last)).filter(|gap| *gap > 0) {
            let bucket = ITL_BOUNDS_NS.partition_point(|bound| *bound < gap);
            if let Some(count) = self.itl.buckets.get_mut(bucket) {
                *count += 1;
            }
            self.itl.count += 1;
            self.itl.sum_ns = self.itl.sum_ns.saturating_add(gap);
            self.itl.max_ns = self.itl.max_ns.max(gap);
        }
        self.last_content = self.last_content.max(Some(at));
    }

    /// The exchange stopped.
    pub(super) fn close(&mut self, at: MonoNs, how: Close) {
        if self.end.is_some() {
            return;
        }
        self.end = Some((at, how));
        match how {
            Close::Broken(Break::Evicted) => self.flags.insert(Incomplete::Evicted),
            Close::Broken(Break::ProcessGone) | Close::Unseen if self.last.is_none() => {
                self.flags.insert(Incomplete::Unfinished)
            }
            Close::Ended | Close::Unseen | Close::Broken(_) => false,
        };
    }

    /// What was captured of it, if anything.
    pub(super) fn said(&self) -> Option<Box<Both>> {
        let (asked, answered) = (self.body.said.clone(), self.answered.clone());
        (asked.is_some() || answered.is_some()).then(|| Box::new(Both { asked, answered }))
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.reply.as_ref().map(|(_, head)| head.status)
    }

    /// The response came whole: it ended as HTTP ends, or after its own end mark.
    pub(super) fn complete(&self) -> bool {
        self.end.is_some_and(|(_, how)| how == Close::Ended || self.last.is_some())
    }

    /// The last byte of the response, its end mark, or the break; `None` while it runs.
    pub(super) fn finished(&self) -> Option<MonoNs> {
        let (at, how) = self.end?;
        Some(if how == Close::Ended { at } else { self.last.unwrap_or(at) })
    }

    /// Whether it was answered without a word of failure.
    pub(super) fn good(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status)) && self.error.is_none()
    }

    /// Whether the engine must have worked for it.
    pub(super) fn served(&self) -> bool {
        self.first_content.is_some() || (self.good() && self.complete())
    }

    pub(super) fn streamed(&self) -> Option<bool> {
        self.reply.as_ref().map(|(_, head)| head.stream).or(self.body.stream)
    }

    /// How many engine requests one prompt becomes; `None` where the body was not read.
    pub(super) fn children(&self) -> Option<u32> {
        (self.received.is_some() && self.body.unread.is_none()).then(|| self.body.params.n.unwrap_or(1).max(1))
    }

    /// How many prompts it asks for, where that is known.
    pub(super) fn prompts(&self) -> Option<u32> {
        match self.head.operation {
            Operation::Chat | Operation::Messages => Some(1),
            Operation::TextCompletion => self.body.prompts,
            Operation::Responses | Operation::Embeddings | Operation::Pooling => None,
        }
    }

    /// How many engine requests it becomes, where that is known.
    pub(super) fn expected(&self) -> Option<usize> {
        usize::try_from(u64::from(self.children()?) * u64::from(self.prompts()?)).ok()
    }

    /// Whether it was turned down before the engine. With several prompts the first may have gone in
    /// before another was refused.
    pub(super) fn refused(&self) -> bool {
        let single = self.prompts() == Some(1) || self.head.operation == Operation::Responses;
        self.client_error() && single
    }

    /// Whether the answer says that the request was bad.
    pub(super) fn client_error(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status)) && !self.answered_early()
    }

    /// Whether the server may have gone on with the request behind its answer: one that gave up waiting, or
    /// one to bytes that came behind the request.
    pub(super) fn answered_early(&self) -> bool {
        let reply = self.reply.as_ref().map(|(_, head)| head);
        reply.is_some_and(|head| TIMEOUTS.contains(&head.status) || (head.after_rubbish && head.status >= 400))
    }

    /// The response ids it has or may have, surest knowledge only.
    pub(super) fn names(&self) -> Vec<String> {
        match (&self.id, &self.head.x_request_id) {
            (Some(id), _) => vec![id.clone()],
            (None, Some(asked)) => names::expected(self.head.operation, asked),
            (None, None) => Vec::new(),
        }
    }
}
