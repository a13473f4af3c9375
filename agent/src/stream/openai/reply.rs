//! The JSON of one SSE event, or of a response that is no stream, in; a [`Chunk`] out.
//!
//! One table serves chat and text completions, the Responses API and Anthropic's messages: their keys
//! do not contradict each other, and where meaning hangs on `type`, it is settled at the object's end.

mod content;

use crate::stream::Chunk;
use crate::stream::Usage;
use crate::stream::content::Capture;
use crate::stream::json::Scanner;
use crate::stream::json::Value;
use crate::stream::json::paths::Node;
use crate::stream::json::paths::Row;
use crate::stream::json::paths::SOME;
use crate::stream::openai::reply::content::Answered;
use crate::stream::openai::reply::content::Of;
use crate::stream::openai::reply::content::Place;
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy)]
enum Field {
    Id,
    Model,
    Type,
    Object,
    Choice,
    ChoiceIndex,
    ChoiceText,
    ChoiceFinish,
    /// `delta` of Responses and Messages events.
    Delta,
    /// Text, thoughts or calls of a body or event without choices.
    Text,
    Finish,
    Status,
    Reason,
    Usage,
    Input,
    Output,
    Cached,
    Reasoning,
    Error,
    ErrorType,
    ErrorCode,
    Code,
    Detail,
    Said(Place),
}

/// Kept of kinds and reasons.
const KIND: usize = 64;
/// Choices that are told apart; of what lies beyond nothing is reported.
const CHOICES: usize = 128;
/// The stream's end mark, which is no JSON.
const DONE: &[u8] = b"[DONE]";

const ROWS: &[Row<Field>] = &[
    ("id", Field::Id, 512),
    ("model", Field::Model, 256),
    ("type", Field::Type, KIND),
    ("object", Field::Object, KIND),
    ("choices[]", Field::Choice, SOME),
    ("choices[].index", Field::ChoiceIndex, SOME),
    ("choices[].text", Field::ChoiceText, SOME),
    ("choices[].finish_reason", Field::ChoiceFinish, KIND),
    ("delta", Field::Delta, SOME),
    ("delta.text", Field::Delta, SOME),
    ("delta.thinking", Field::Delta, SOME),
    ("delta.partial_json", Field::Delta, SOME),
    ("delta.stop_reason", Field::Finish, KIND),
    ("content_block.text", Field::Text, SOME),
    ("content_block.name", Field::Text, SOME),
    ("content[].text", Field::Text, SOME),
    ("content[].thinking", Field::Text, SOME),
    ("content[].name", Field::Text, SOME),
    ("stop_reason", Field::Finish, KIND),
    ("output[].content[].text", Field::Text, SOME),
    ("output[].name", Field::Text, SOME),
    ("status", Field::Status, KIND),
    ("incomplete_details.reason", Field::Reason, KIND),
    ("response.id", Field::Id, 512),
    ("response.model", Field::Model, 256),
    ("response.status", Field::Status, KIND),
    ("response.incomplete_details.reason", Field::Reason, KIND),
    ("message.id", Field::Id, 512),
    ("message.model", Field::Model, 256),
    ("code", Field::Code, KIND),
    ("detail", Field::Detail, SOME),
    ("error_type", Field::ErrorType, KIND),
];

/// Below `choices[].delta` of a stream and `choices[].message` of a body.
const SAID: &[Row<Field>] = &[
    ("content", Field::ChoiceText, SOME),
    ("content[].text", Field::ChoiceText, SOME),
    ("reasoning", Field::ChoiceText, SOME),
    ("reasoning_content", Field::ChoiceText, SOME),
    ("refusal", Field::ChoiceText, SOME),
    ("tool_calls[].function.name", Field::ChoiceText, SOME),
    ("tool_calls[].function.arguments", Field::ChoiceText, SOME),
    ("function_call.name", Field::ChoiceText, SOME),
    ("function_call.arguments", Field::ChoiceText, SOME),
];

/// Below `usage`, wherever it stands.
const USAGE: &[Row<Field>] = &[
    ("", Field::Usage, SOME),
    ("prompt_tokens", Field::Input, SOME),
    ("input_tokens", Field::Input, SOME),
    ("completion_tokens", Field::Output, SOME),
    ("output_tokens", Field::Output, SOME),
    ("prompt_tokens_details.cached_tokens", Field::Cached, SOME),
    ("input_tokens_details.cached_tokens", Field::Cached, SOME),
    ("cache_read_input_tokens", Field::Cached, SOME),
    ("completion_tokens_details.reasoning_tokens", Field::Reasoning, SOME),
    ("output_tokens_details.reasoning_tokens", Field::Reasoning, SOME),
];

/// Below `error`, wherever it stands.
const ERROR: &[Row<Field>] =
    &[("", Field::Error, SOME), ("type", Field::ErrorType, KIND), ("code", Field::ErrorCode, KIND)];

static TREE: LazyLock<Node<Field>> = LazyLock::new(tree);

/// The same with words, for where content is captured.
static WITH_WORDS: LazyLock<Node<Field>> = LazyLock::new(|| {
    let said = |rows: &[Row<Place>]| -> Vec<Row<Field>> {
        rows.iter().map(|(path, place, cap)| (*path, Field::Said(*place), *cap)).collect()
    };
    let choice = said(content::CHOICE);
    let tree = tree().with("", &said(content::ROWS));
    tree.with("choices[].delta", &choice).with("choices[].message", &choice)
});

fn tree() -> Node<Field> {
    Node::default()
        .with("", ROWS)
        .with("choices[].delta", SAID)
        .with("choices[].message", SAID)
        .with("usage", USAGE)
        .with("response.usage", USAGE)
        .with("message.usage", USAGE)
        .with("error", ERROR)
        .with("response.error", ERROR)
}

#[derive(Debug, Default)]
struct Choice {
    index: Option<u32>,
    filled: bool,
    finish: Option<String>,
}

#[derive(Debug, Default)]
struct Draft {
    chunk: Chunk,
    choice: Choice,
    choices: u32,
    kind: String,
    object: String,
    delta: bool,
    text: bool,
    status: Option<String>,
    reason: Option<String>,
    error: bool,
    error_type: Option<String>,
    error_code: Option<String>,
    code: Option<String>,
    detail: bool,
}

/// The state between two pieces of one document.
#[derive(Debug)]
pub struct ReplyScan {
    scanner: Scanner<Field>,
    draft: Draft,
    /// As much of the document as is still a beginning of the end mark.
    mark: usize,
    bytes: usize,
    answered: Option<Box<Answered>>,
}

impl ReplyScan {
    /// Before the first byte.
    pub fn new(content: Option<&Capture>) -> Self {
        let tree = if content.is_some() { &WITH_WORDS } else { &TREE };
        let answered = content.map(|capture| Box::new(Answered::new(capture.clone())));
        Self { scanner: Scanner::new(tree), draft: Draft::default(), mark: 0, bytes: 0, answered }
    }

    /// Another one, before the first byte, that captures as much.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.answered.as_ref().map(|answered| answered.capture()))
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.count(bytes);
        let Self { scanner, draft, answered, .. } = self;
        scanner.feed(bytes, &mut |field, value| draft.take(field, value, answered.as_deref_mut()));
    }

    /// Reads on, and masks in the bytes' place what is not read.
    pub fn mask(&mut self, bytes: &mut [u8]) {
        let (marked, begins) = (self.mark, self.bytes == self.mark);
        self.count(bytes);
        let Self { scanner, draft, answered, .. } = self;
        scanner.mask(bytes, &mut |field, value| draft.take(field, value, answered.as_deref_mut()));
        // The end mark is no JSON.
        if begins && let Some(mark) = DONE.get(marked..self.mark) {
            bytes.iter_mut().zip(mark).for_each(|(byte, mark)| *byte = *mark);
        }
    }

    /// Counts as many bytes as tell the end mark from anything else.
    fn count(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.bytes == self.mark && DONE.get(self.mark) == Some(byte) {
                self.mark += 1;
            }
            self.bytes += 1;
            if self.bytes > DONE.len() {
                break;
            }
        }
    }

    /// The document's end, and the beginning of the next. `None` where it was no JSON.
    pub fn finish(&mut self) -> Option<Chunk> {
        let done = self.mark == DONE.len() && self.bytes == DONE.len();
        let mut draft = std::mem::take(&mut self.draft);
        let Self { scanner, answered, .. } = self;
        let whole = scanner.finish(&mut |field, value| draft.take(field, value, answered.as_deref_mut())).is_ok();
        let said = answered.as_mut().and_then(|answered| answered.finish(&draft.kind));
        self.scanner.reset();
        (self.mark, self.bytes) = (0, 0);
        if done {
            return Some(Chunk { last: true, ..Chunk::default() });
        }
        whole.then(|| Chunk { said, ..draft.finish() })
    }
}

impl Draft {
    fn take(&mut self, field: Field, value: Value<'_>, answered: Option<&mut Answered>) {
        match field {
            Field::Said(place) => {
                if let Some(answered) = answered {
                    answered.take(place, value);
                }
                // The plain table has these values too.
                match place.of() {
                    Of::Choice => self.choice.filled |= value.filled(),
                    Of::Delta => self.delta |= value.filled(),
                    Of::Body => self.text |= value.filled(),
                    Of::Shape => {}
                }
            }
            Field::Id => self.chunk.id = value.text(),
            Field::Model => self.chunk.model = value.text(),
            Field::Type => self.kind = value.text().unwrap_or_default(),
            Field::Object => self.object = value.text().unwrap_or_default(),
            Field::Choice => {
                if let Some((answered, index)) = answered.zip(self.choice(value)) {
                    answered.choice(index);
                }
            }
            Field::ChoiceIndex => self.choice.index = value.unsigned(),
            Field::ChoiceText => self.choice.filled |= value.filled(),
            Field::ChoiceFinish => self.choice.finish = value.text().filter(|reason| !reason.is_empty()),
            Field::Delta => self.delta |= value.filled(),
            Field::Text => self.text |= value.filled(),
            Field::Finish => self.reason = value.text().or(self.reason.take()),
            Field::Status => self.status = value.text(),
            Field::Reason => self.reason = value.text(),
            Field::Usage if value == Value::Close => {}
            Field::Usage => self.chunk.usage = (value == Value::Open).then(Usage::default),
            Field::Input => self.count(|usage| &mut usage.input, value),
            Field::Output => self.count(|usage| &mut usage.output, value),
            Field::Cached => self.count(|usage| &mut usage.cached, value),
            Field::Reasoning => self.count(|usage| &mut usage.reasoning, value),
            Field::Error => self.error |= value == Value::Open || value.filled(),
            Field::ErrorType => self.error_type = kind_of(value),
            Field::ErrorCode => self.error_code = kind_of(value),
            Field::Code => self.code = kind_of(value),
            Field::Detail => self.detail = value != Value::Null,
        }
    }

    /// A twin that is null or absent does not undo the other.
    fn count(&mut self, field: fn(&mut Usage) -> &mut Option<u64>, value: Value<'_>) {
        if let (Some(usage), Some(count)) = (&mut self.chunk.usage, value.unsigned()) {
            *field(usage) = Some(count);
        }
    }

    /// The number of a choice that ends here.
    fn choice(&mut self, value: Value<'_>) -> Option<u32> {
        let choice = std::mem::take(&mut self.choice);
        if value != Value::Close {
            return None;
        }
        let index = choice.index.unwrap_or(self.choices);
        self.choices = self.choices.saturating_add(1);
        if choice.filled {
            self.filled(index);
        }
        if let Some(finish) = choice.finish.filter(|_| self.chunk.finish.len() < CHOICES) {
            self.chunk.finish.push((index, finish));
        }
        Some(index)
    }

    fn filled(&mut self, index: u32) {
        if self.chunk.content.len() < CHOICES && !self.chunk.content.contains(&index) {
            self.chunk.content.push(index);
        }
    }

    fn finish(mut self) -> Chunk {
        let response = self.kind.strip_prefix("response.");
        let ended = matches!(response, Some("completed" | "incomplete" | "failed" | "cancelled"));
        let delta = match response {
            Some(event) => event.rsplit_once('.').is_some_and(|(_, last)| last == "delta"),
            None => self.kind == "content_block_delta",
        };
        if self.delta && delta || self.text {
            self.filled(0);
        }
        self.chunk.last = ended || self.kind == "message_stop";
        // Responses say how they ended by status, with a reason when they stopped short.
        let status = self.status.filter(|_| ended || self.object == "response");
        if let Some(finish) = self.reason.or(status) {
            self.chunk.finish.push((0, finish));
        }
        let flat = self.object == "error" || self.kind == "error";
        let bare = self.detail && self.chunk.id.is_none() && self.choices == 0;
        if self.error || flat || bare {
            let own = Some(self.kind).filter(|kind| self.object == "error" && !kind.is_empty());
            let kind = self.error_type.or(own).or(self.error_code).or(self.code);
            self.chunk.error = Some(kind.unwrap_or_else(|| "error".to_owned()));
        }
        self.chunk
    }
}

/// The kind of an error: a word, or a code in digits.
fn kind_of(value: Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) | Value::Cut(text, _) | Value::Number(text) if !text.is_empty() => Some(text.to_owned()),
        Value::Text(_)
        | Value::Cut(..)
        | Value::Number(_)
        | Value::Bool(_)
        | Value::Null
        | Value::Open
        | Value::Close => None,
    }
}

#[cfg(test)]
mod tests;
