//! A few words a step in, a stream of messages out; a stream of messages in, records out.

use crate::clock::MonoNs;
use crate::ident::Conn;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::request::Book;
use crate::request::Config;
use crate::request::Join;
use crate::request::Request;
use crate::request::Update;
use crate::stream::Added;
use crate::stream::AskBody;
use crate::stream::AskHead;
use crate::stream::Break;
use crate::stream::Chunk;
use crate::stream::Exchange;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Message;
use crate::stream::Operation;
use crate::stream::Output;
use crate::stream::ReplyHead;
use crate::stream::Step;
use crate::stream::Usage;
use crate::vitals::Vitals;

/// The front end process and two engine cores.
pub(super) const FRONT: Pid = Pid(10);
pub(super) const CORE: Pid = Pid(20);
pub(super) const CORE_2: Pid = Pid(21);

/// Milliseconds as an instant.
pub(super) fn ms(ms: f64) -> MonoNs {
    MonoNs::from_secs_f64(ms / 1e3).unwrap()
}

/// Messages, each with its instant in milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) told: Vec<(f64, Message)>,
}

/// What a caller asks.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) head: AskHead,
    pub(super) body: AskBody,
}

/// A streamed chat of one prompt.
pub(super) fn chat() -> Ask {
    let head = AskHead {
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        operation: Operation::Chat,
        x_request_id: None,
        traceparent: None,
        session: None,
    };
    Ask { head, body: AskBody { stream: Some(true), ..AskBody::default() } }
}

impl Ask {
    pub(super) fn with(mut self, change: impl FnOnce(&mut AskHead, &mut AskBody)) -> Self {
        change(&mut self.head, &mut self.body);
        self
    }

    pub(super) fn named(self, x_request_id: &str) -> Self {
        self.with(|head, _| head.x_request_id = Some(x_request_id.to_owned()))
    }

    pub(super) fn completion(self, prompts: u32) -> Self {
        self.with(|head, body| {
            head.operation = Operation::TextCompletion;
            body.prompts = Some(prompts);
        })
    }
}

fn exchange(number: u64) -> Exchange {
    Exchange { conn: Conn { pid: FRONT, fd: 3, opened_ns: number }, number: 0 }
}

impl Story {
    /// One vLLM with one core.
    pub(super) fn vllm() -> Self {
        let mut story = Self::default();
        story.process(FRONT, Role::Frontend, EngineKind::Vllm).process(CORE, Role::Core, EngineKind::Vllm);
        story
    }

    pub(super) fn tell(&mut self, at: f64, message: Message) -> &mut Self {
        self.told.push((at, message));
        self
    }

    pub(super) fn process(&mut self, pid: Pid, role: Role, kind: EngineKind) -> &mut Self {
        let engine = EngineId(ProcessId { pid: FRONT, start_ticks: 1 });
        let process = ProcessId { pid, start_ticks: 1 };
        self.tell(0.0, Message::Appeared { process, engine, kind, role, at: ms(0.0), late: false })
    }

    /// The request comes at `begun`, whole half a millisecond later.
    pub(super) fn ask(&mut self, x: u64, begun: f64, ask: &Ask) -> &mut Self {
        let received = begun + 0.5;
        self.tell(begun, Message::Begun { exchange: exchange(x), at: ms(begun), head: Box::new(ask.head.clone()) });
        let body = Box::new(ask.body.clone());
        self.tell(received, Message::Received { exchange: exchange(x), at: ms(received), body })
    }

    pub(super) fn reply(&mut self, x: u64, at: f64, status: u16, stream: bool) -> &mut Self {
        let head = ReplyHead { status, stream, after_rubbish: false };
        self.tell(at, Message::Responded { exchange: exchange(x), at: ms(at), head })
    }

    /// The answer to bytes that came behind the request.
    pub(super) fn reply_to_rubbish(&mut self, x: u64, at: f64) -> &mut Self {
        let head = ReplyHead { status: 400, stream: false, after_rubbish: true };
        self.tell(at, Message::Responded { exchange: exchange(x), at: ms(at), head })
    }

    /// `id=X`, `text`, `finish=stop`, `usage=3/5`, `error=kind`, `done`.
    pub(super) fn say(&mut self, x: u64, at: f64, words: &str) -> &mut Self {
        let mut chunk = Chunk::default();
        for word in words.split(' ') {
            match word.split_once('=').unwrap_or((word, "")) {
                ("id", id) => chunk.id = Some(id.to_owned()),
                ("text", _) => chunk.content = vec![0],
                ("finish", why) => chunk.finish = vec![(0, why.to_owned())],
                ("usage", counts) => {
                    let (input, output) = counts.split_once('/').unwrap();
                    chunk.usage =
                        Some(Usage { input: input.parse().ok(), output: output.parse().ok(), ..Usage::default() });
                }
                ("error", kind) => chunk.error = Some(kind.to_owned()),
                ("done", _) => chunk.last = true,
                other => panic!("{other:?}"),
            }
        }
        self.tell(at, Message::Said { exchange: exchange(x), at: ms(at), chunk: Box::new(chunk) })
    }

    pub(super) fn end(&mut self, x: u64, at: f64) -> &mut Self {
        self.tell(at, Message::Ended { exchange: exchange(x), at: ms(at) })
    }

    pub(super) fn cut(&mut self, x: u64, at: f64, why: Break) -> &mut Self {
        self.tell(at, Message::Broken { exchange: exchange(x), at: ms(at), why })
    }

    pub(super) fn lose(&mut self, x: u64, at: f64) -> &mut Self {
        self.tell(at, Message::Lost { exchange: exchange(x), at: ms(at) })
    }

    /// An ADD of `prompt` tokens as vLLM sends it now: external id, and the same with a suffix.
    pub(super) fn add(&mut self, at: f64, id: &str, prompt: u32) -> &mut Self {
        let external = id.rsplit_once('-').map(|(rest, _)| rest.to_owned());
        let external = external.map(|id| id.trim_start_matches("0_").trim_start_matches("1_").to_owned());
        self.add_with(at, CORE, |added| {
            added.id = id.to_owned();
            added.external_id = external;
            added.prompt_tokens = Some(prompt);
        })
    }

    pub(super) fn add_with(&mut self, at: f64, engine: Pid, change: impl FnOnce(&mut Added)) -> &mut Self {
        let mut request = Box::new(Added::default());
        change(&mut request);
        self.tell(at, Message::Added { engine, at: ms(at), request })
    }

    /// A step sent at `at`, made 0.1 ms earlier; outputs as `id tokens q@1 s@2 p@3 fin=stop`.
    pub(super) fn step(&mut self, at: f64, outputs: &[&str]) -> &mut Self {
        self.step_of(CORE, at, outputs)
    }

    pub(super) fn step_of(&mut self, engine: Pid, at: f64, outputs: &[&str]) -> &mut Self {
        let outputs = outputs.iter().map(|words| output(words)).collect();
        let load = Some(Load { running: Some(1), waiting: Some(0), kv_usage: Some(0.5) });
        let step = Box::new(Step { index: 0, timestamp: Some(ms(at - 0.1)), outputs, load });
        self.tell(at, Message::Stepped { engine, at: ms(at), step })
    }

    pub(super) fn abort(&mut self, at: f64, id: &str) -> &mut Self {
        self.tell(at, Message::Aborted { engine: CORE, at: ms(at), ids: vec![id.to_owned()] })
    }

    /// The messages in the order of their instants.
    pub(super) fn sorted(&self) -> Vec<(f64, Message)> {
        let mut told = self.told.clone();
        told.sort_by(|a, b| a.0.total_cmp(&b.0));
        told
    }

    pub(super) fn run(&self) -> Outcome {
        run(&self.sorted(), Config::default())
    }

    /// The one record of the story.
    pub(super) fn record(&self) -> Request {
        let mut records = self.run().records;
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }
}

fn output(words: &str) -> Output {
    let mut words = words.split(' ');
    let mut output = Output { id: words.next().unwrap().to_owned(), ..Output::default() };
    output.tokens = words.next().unwrap().parse().unwrap();
    for word in words {
        let mark = |mark, at: &str| (mark, ms(at.parse().unwrap()));
        match word.split_once(['@', '=']).unwrap() {
            ("q", at) => output.marks.push(mark(Mark::Queued, at)),
            ("s", at) => output.marks.push(mark(Mark::Scheduled, at)),
            ("p", at) => output.marks.push(mark(Mark::Preempted, at)),
            ("cached", count) => output.cached_tokens = count.parse().ok(),
            ("fin", "stop") => output.finish = Some(Finish::Stop),
            ("fin", "length") => output.finish = Some(Finish::Length),
            other => panic!("{other:?}"),
        }
    }
    output
}

/// What a story came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) records: Vec<Request>,
    pub(super) updates: Vec<Update>,
    pub(super) vitals: Vitals,
}

impl Outcome {
    pub(super) fn http(&self) -> impl Iterator<Item = &Request> {
        self.records.iter().filter(|record| record.join != Join::EngineOnly)
    }
}

/// Pushes the messages with a tick each 100 ms, lets the grace pass, and closes the book.
pub(super) fn run(told: &[(f64, Message)], config: Config) -> Outcome {
    let (mut book, vitals, mut out) = (Book::new(config), Vitals::default(), Vec::new());
    let mut tick = 0.0;
    for (at, message) in told {
        while tick < *at {
            book.tick(ms(tick), &vitals, &mut out);
            tick += 100.0;
        }
        book.push(message, &vitals, &mut out);
    }
    for _ in 0..50 {
        book.tick(ms(tick), &vitals, &mut out);
        tick += 100.0;
    }
    book.close(ms(tick), &vitals, &mut out);
    let ended = |update: &Update| match update {
        Update::Ended(request) => Some((**request).clone()),
        Update::Engine { .. } | Update::Worked { .. } | Update::InFlight { .. } | Update::Gone(_) => None,
    };
    Outcome { records: out.iter().filter_map(ended).collect(), updates: out, vitals }
}
