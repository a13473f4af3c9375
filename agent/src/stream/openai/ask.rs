//! The body of an inference request in, in pieces; an [`AskBody`] out.

mod content;

use crate::stream::AskBody;
use crate::stream::Operation;
use crate::stream::Transfer;
use crate::stream::content::Capture;
use crate::stream::content::KEPT;
use crate::stream::json::Fault;
use crate::stream::json::Scanner;
use crate::stream::json::Value;
use crate::stream::json::paths::Node;
use crate::stream::json::paths::Row;
use crate::stream::json::paths::SOME;
use crate::stream::openai::ask::content::Asked;
use crate::stream::openai::ask::content::Place;
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy)]
enum Field {
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    N,
    Temperature,
    TopP,
    TopK,
    Seed,
    MaxTokens,
    MaxNewTokens,
    Presence,
    Frequency,
    Repetition,
    User,
    Session,
    Extras,
    ExtraSession,
    Prompt,
    PromptItem,
    Input,
    InputItem,
    Stop,
    StopItem,
    Transfer,
    RemotePrefill,
    RemoteDecode,
    RemoteEngine,
    RemoteRequest,
    TransferId,
    Said(Place),
}

impl Field {
    /// What it is to what is asked.
    fn place(self) -> Option<Place> {
        match self {
            Self::Said(place) => Some(place),
            Self::Prompt | Self::Input => Some(Place::Prompts),
            Self::PromptItem | Self::InputItem => Some(Place::Prompt),
            _ => None,
        }
    }
}

/// Kept of names: model, user, session.
const NAME: usize = 256;
/// Kept of a request's id.
const ID: usize = 512;

const ROWS: &[Row<Field>] = &[
    ("model", Field::Model, NAME),
    ("stream", Field::Stream, SOME),
    ("stream_options", Field::StreamOptions, SOME),
    ("stream_options.include_usage", Field::IncludeUsage, SOME),
    ("n", Field::N, SOME),
    ("temperature", Field::Temperature, SOME),
    ("top_p", Field::TopP, SOME),
    ("top_k", Field::TopK, SOME),
    ("seed", Field::Seed, SOME),
    ("max_tokens", Field::MaxTokens, SOME),
    ("max_completion_tokens", Field::MaxNewTokens, SOME),
    ("max_output_tokens", Field::MaxNewTokens, SOME),
    ("presence_penalty", Field::Presence, SOME),
    ("frequency_penalty", Field::Frequency, SOME),
    ("repetition_penalty", Field::Repetition, SOME),
    ("user", Field::User, NAME),
    ("session_id", Field::Session, NAME),
    ("vllm_xargs", Field::Extras, SOME),
    ("vllm_xargs.session_id", Field::ExtraSession, NAME),
    ("prompt", Field::Prompt, SOME),
    ("prompt[]", Field::PromptItem, SOME),
    ("input", Field::Input, SOME),
    ("input[]", Field::InputItem, SOME),
    ("stop", Field::Stop, SOME),
    ("stop[]", Field::StopItem, SOME),
    ("stop_sequences", Field::Stop, SOME),
    ("stop_sequences[]", Field::StopItem, SOME),
    ("kv_transfer_params", Field::Transfer, SOME),
    ("kv_transfer_params.do_remote_prefill", Field::RemotePrefill, SOME),
    ("kv_transfer_params.do_remote_decode", Field::RemoteDecode, SOME),
    ("kv_transfer_params.remote_engine_id", Field::RemoteEngine, NAME),
    ("kv_transfer_params.remote_request_id", Field::RemoteRequest, ID),
    ("kv_transfer_params.transfer_id", Field::TransferId, NAME),
];

static TREE: LazyLock<Node<Field>> = LazyLock::new(|| Node::default().with("", ROWS));

/// What is counted and captured.
const PROMPTS: &[Row<Field>] = &[
    ("prompt", Field::Prompt, KEPT),
    ("prompt[]", Field::PromptItem, KEPT),
    ("input", Field::Input, KEPT),
    ("input[]", Field::InputItem, KEPT),
];

/// The same with words, for where content is captured.
static WITH_WORDS: LazyLock<Node<Field>> = LazyLock::new(|| {
    let said = |rows: &[Row<Place>]| -> Vec<Row<Field>> {
        rows.iter().map(|(path, place, cap)| (*path, Field::Said(*place), *cap)).collect()
    };
    let turn = said(content::TURN);
    Node::default()
        .with("", ROWS)
        .with("", &said(content::ROWS))
        .with("", PROMPTS)
        .with("messages[]", &turn)
        .with("input[]", &turn)
});

#[derive(Debug, Default)]
struct Draft {
    body: AskBody,
    max_tokens: Option<u64>,
    max_new_tokens: Option<u64>,
    session: Option<String>,
    extra_session: Option<String>,
}

/// The state between two pieces of one body.
#[derive(Debug)]
pub struct AskScan {
    operation: Operation,
    scanner: Scanner<Field>,
    draft: Draft,
    asked: Option<Box<Asked>>,
}

impl AskScan {
    /// Before the first byte of the body of such a request.
    pub fn new(operation: Operation, content: Option<&Capture>) -> Self {
        let tree = if content.is_some() { &WITH_WORDS } else { &TREE };
        let asked = content.map(|capture| Box::new(Asked::new(capture)));
        Self { operation, scanner: Scanner::new(tree), draft: Draft::default(), asked }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { operation, scanner, draft, asked } = self;
        scanner.feed(bytes, &mut |field, value| draft.take(*operation, field, value, asked.as_deref_mut()));
    }

    /// Reads on, and masks in the bytes' place what is not read.
    pub fn mask(&mut self, bytes: &mut [u8]) {
        let Self { operation, scanner, draft, asked } = self;
        scanner.mask(bytes, &mut |field, value| draft.take(*operation, field, value, asked.as_deref_mut()));
    }

    /// The body's end. What is no JSON says nothing but why.
    pub fn finish(self) -> AskBody {
        let Self { operation, mut scanner, mut draft, mut asked } = self;
        match scanner.finish(&mut |field, value| draft.take(operation, field, value, asked.as_deref_mut())) {
            Ok(()) => AskBody { said: asked.and_then(|asked| asked.finish()), ..draft.finish() },
            Err(Fault::NotJson) => AskBody { unread: Some("not_json"), ..AskBody::default() },
            Err(Fault::Nesting) => AskBody { unread: Some("nesting"), ..AskBody::default() },
        }
    }
}

impl Draft {
    fn take(&mut self, operation: Operation, field: Field, value: Value<'_>, asked: Option<&mut Asked>) {
        if let Some((asked, place)) = asked.zip(field.place()) {
            asked.take(place, value);
        }
        if value == Value::Close {
            return;
        }
        let body = &mut self.body;
        let params = &mut body.params;
        let transfer = body.transfer.as_deref_mut();
        match field {
            Field::Model => body.model = value.text(),
            Field::Stream => body.stream = value.bool(),
            Field::StreamOptions => body.include_usage = None,
            Field::IncludeUsage => body.include_usage = value.bool(),
            Field::N => params.n = value.unsigned(),
            Field::Temperature => params.temperature = value.float(),
            Field::TopP => params.top_p = value.float(),
            Field::TopK => params.top_k = value.int(),
            Field::Seed => params.seed = value.int(),
            Field::MaxTokens => self.max_tokens = value.unsigned(),
            Field::MaxNewTokens => self.max_new_tokens = value.unsigned(),
            Field::Presence => params.presence_penalty = value.float(),
            Field::Frequency => params.frequency_penalty = value.float(),
            Field::Repetition => params.repetition_penalty = value.float(),
            Field::User => body.user = value.text(),
            Field::Session => self.session = value.text(),
            Field::Extras => self.extra_session = None,
            Field::ExtraSession => self.extra_session = value.text(),
            Field::Prompt if operation == Operation::TextCompletion => body.prompts = start(value),
            Field::PromptItem if operation == Operation::TextCompletion => body.prompts = more(body.prompts, value),
            Field::Input if many_inputs(operation) => body.prompts = start(value),
            Field::InputItem if many_inputs(operation) => body.prompts = more(body.prompts, value),
            Field::Prompt | Field::PromptItem | Field::Input | Field::InputItem | Field::Said(_) => {}
            Field::Stop => body.stop = value.filled(),
            Field::StopItem => body.stop = true,
            Field::Transfer => body.transfer = (value == Value::Open).then(Box::default),
            Field::RemotePrefill => within(transfer, |it| it.remote_prefill = value.bool()),
            Field::RemoteDecode => within(transfer, |it| it.remote_decode = value.bool()),
            Field::RemoteEngine => within(transfer, |it| it.remote_engine = whole(value)),
            Field::RemoteRequest => within(transfer, |it| it.remote_request = whole(value)),
            Field::TransferId => within(transfer, |it| it.id = whole(value)),
        }
    }

    fn finish(self) -> AskBody {
        let mut body = self.body;
        body.params.max_tokens = self.max_new_tokens.or(self.max_tokens);
        body.session = self.session.or(self.extra_session);
        body
    }
}

/// An id, which says nothing once it is cut.
fn whole(value: Value<'_>) -> Option<String> {
    matches!(value, Value::Text(_)).then(|| value.text()).flatten()
}

fn within(transfer: Option<&mut Transfer>, change: impl FnOnce(&mut Transfer)) {
    if let Some(transfer) = transfer {
        change(transfer);
    }
}

/// Operations whose `input` is a list of prompts rather than a conversation.
fn many_inputs(operation: Operation) -> bool {
    matches!(operation, Operation::Embeddings | Operation::Pooling)
}

/// The prompts after a `prompt` itself: a string is one, a list starts at none.
fn start(value: Value<'_>) -> Option<u32> {
    match value {
        Value::Text(_) | Value::Cut(..) => Some(1),
        Value::Open => Some(0),
        Value::Number(_) | Value::Bool(_) | Value::Null | Value::Close => None,
    }
}

/// The prompts after one element of the list: a list of token ids is one prompt.
fn more(so_far: Option<u32>, value: Value<'_>) -> Option<u32> {
    match value {
        Value::Text(_) | Value::Cut(..) | Value::Open => so_far.map(|prompts| prompts.saturating_add(1)),
        Value::Number(_) => Some(1),
        Value::Close | Value::Bool(_) | Value::Null => so_far,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Params;
    use rand::Rng as _;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    fn read(operation: Operation, text: &str) -> AskBody {
        let mut scan = AskScan::new(operation, None);
        scan.feed(text.as_bytes());
        scan.finish()
    }

    #[test]
    fn every_field_is_found() {
        let body = read(
            Operation::Chat,
            r#"{"messages":[{"role":"user","content":"\"model\":\"x\", hi","model":"no"}],"temperature":0.5,"top_p":1,
            "top_k":-1,"seed":42,"max_tokens":10,"max_completion_tokens":20,"n":2,"presence_penalty":0.1,
            "frequency_penalty":-0.2,"repetition_penalty":1.1,"user":"u","vllm_xargs":{"session_id":"s"},
            "stream":true,"stream_options":{"include_usage":true},"stop":["x"],"model":"tiny"}"#,
        );
        let params = Params {
            temperature: Some(0.5),
            top_p: Some(1.0),
            top_k: Some(-1),
            seed: Some(42),
            max_tokens: Some(20),
            n: Some(2),
            presence_penalty: Some(0.1),
            frequency_penalty: Some(-0.2),
            repetition_penalty: Some(1.1),
        };
        let expected = AskBody {
            model: Some("tiny".into()),
            stream: Some(true),
            include_usage: Some(true),
            params,
            user: Some("u".into()),
            session: Some("s".into()),
            stop: true,
            ..AskBody::default()
        };
        assert_eq!(body, expected);
    }

    #[test]
    fn the_last_of_two_keys_wins_and_a_wrong_type_is_unknown() {
        let body = read(
            Operation::Chat,
            r#"{"model":"a","model":"b","stream":true,"stream":null,"stream_options":{"include_usage":true},
            "stream_options":null,"max_completion_tokens":null,"max_tokens":7,"n":"2","temperature":{"model":"c"},
            "stop":["a"],"stop":[],"session_id":"top","vllm_xargs":{"session_id":"below"}}"#,
        );
        assert_eq!(body.model.as_deref(), Some("b"));
        assert_eq!((body.stream, body.include_usage, body.params.n, body.params.temperature), (None, None, None, None));
        assert_eq!((body.params.max_tokens, body.stop, body.session.as_deref()), (Some(7), false, Some("top")));
    }

    #[test]
    fn what_is_said_of_another_engine() {
        let said = |value: &str| read(Operation::Chat, &format!(r#"{{"kv_transfer_params":{value}}}"#)).transfer;
        let whole = r#"{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[1,2]],
            "remote_engine_id":"e","remote_request_id":"chatcmpl-1-0a","transfer_id":"t","remote_host":"h"}"#;
        let expected = Transfer {
            remote_prefill: Some(true),
            remote_decode: Some(false),
            remote_engine: Some("e".into()),
            remote_request: Some("chatcmpl-1-0a".into()),
            id: Some("t".into()),
        };
        assert_eq!(said(whole).as_deref(), Some(&expected));
        assert_eq!(said(r#"{"remote_request_id":null}"#).as_deref(), Some(&Transfer::default()));
        assert_eq!(said(&format!(r#"{{"remote_request_id":"{}"}}"#, "x".repeat(600))).unwrap().remote_request, None);
        assert_eq!((said("null"), said("1")), (None, None));
    }

    /// `serde_json` is the judge: what it accepts is read as it reads it.
    #[test]
    fn damaged_bodies_are_read_as_they_stand() {
        let whole =
            r#"{"a":[{"model":"no","s":"\"model\":1\\"},-1.5e3,true],"model":"ti\u00e9\nny","stream":false,"n":null}"#;
        let (mut random, mut accepted) = (SmallRng::seed_from_u64(2), 0);
        for _ in 0..20_000 {
            let mut text = whole.as_bytes().to_vec();
            for _ in 0..random.random_range(1..4) {
                let (from, to) = (random.random_range(0..text.len()), random.random_range(0..text.len()));
                text[to] = text[from];
            }
            let Ok(judged) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
            accepted += 1;
            let mut scan = AskScan::new(Operation::Chat, None);
            text.chunks(5).for_each(|piece| scan.feed(piece));
            let body = scan.finish();
            let found = (body.model.as_deref(), body.stream, body.unread);
            let expected = (judged["model"].as_str(), judged["stream"].as_bool(), None);
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(&text));
        }
        assert!(accepted > 1_000, "{accepted}");
    }

    #[test]
    fn prompts_are_counted() {
        for (prompt, expected) in [
            (r#""one""#, Some(1)),
            (r#"["a","b","c"]"#, Some(3)),
            ("[1,2,3]", Some(1)),
            ("[[1,2],[3]]", Some(2)),
            ("[]", Some(0)),
            ("null", None),
        ] {
            let completion = format!(r#"{{"prompt":{prompt},"input":"not this"}}"#);
            assert_eq!(read(Operation::TextCompletion, &completion).prompts, expected, "{prompt}");
            let embedding = format!(r#"{{"input":{prompt}}}"#);
            assert_eq!(read(Operation::Embeddings, &embedding).prompts, expected, "{prompt}");
        }
        assert_eq!(read(Operation::Responses, r#"{"input":["a","b"]}"#).prompts, None);
    }

    #[test]
    fn unreadable_bodies_say_why_and_nothing_else() {
        for (text, why) in [
            ("", "not_json"),
            (r#"{"model":"x","n":2"#, "not_json"),
            ("--boundary\r\nContent-Disposition: form-data\r\n", "not_json"),
            (&"[".repeat(600), "nesting"),
        ] {
            assert_eq!(read(Operation::Chat, text), AskBody { unread: Some(why), ..AskBody::default() });
        }
    }
}
