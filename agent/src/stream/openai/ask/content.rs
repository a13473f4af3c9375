//! The values of a request's body that carry words in, in the order of the document; what is asked out.

use crate::stream::content::Capture;
use crate::stream::content::KEPT;
use crate::stream::content::Kind;
use crate::stream::content::Said;
use crate::stream::json::Value;
use crate::stream::json::paths::Row;
use crate::stream::json::paths::SOME;

/// What a value is to what is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// A message, or an item of a conversation.
    Turn,
    Role,
    TurnKind,
    /// An element of a message's content.
    Part,
    PartKind,
    Text,
    Reasoning,
    Refusal,
    Call,
    CallName,
    CallText,
    /// Instructions that stand apart.
    Apart,
    /// A prompt, or the list of them.
    Prompts,
    /// One of a list of prompts, or a token of the only one.
    Prompt,
    Token,
}

/// Kept of roles, kinds and names.
const NAME: usize = 256;

/// Below the document.
pub(super) const ROWS: &[Row<Place>] = &[
    ("system", Place::Apart, KEPT),
    ("system[]", Place::Part, KEPT),
    ("system[].type", Place::PartKind, NAME),
    ("system[].text", Place::Text, KEPT),
    ("instructions", Place::Apart, KEPT),
    ("prompt[][]", Place::Token, SOME),
    ("input[][]", Place::Token, SOME),
    ("messages[]", Place::Turn, SOME),
    ("input[].type", Place::TurnKind, NAME),
    ("input[].name", Place::CallName, NAME),
    ("input[].arguments", Place::CallText, KEPT),
    ("input[].output", Place::Text, KEPT),
    ("input[].output[]", Place::Part, KEPT),
    ("input[].output[].type", Place::PartKind, NAME),
    ("input[].output[].text", Place::Text, KEPT),
    ("input[].summary[].text", Place::Reasoning, KEPT),
];

/// Below each message and each item.
pub(super) const TURN: &[Row<Place>] = &[
    ("role", Place::Role, NAME),
    ("content", Place::Text, KEPT),
    ("content[]", Place::Part, KEPT),
    ("content[].type", Place::PartKind, NAME),
    ("content[].text", Place::Text, KEPT),
    ("content[].refusal", Place::Refusal, KEPT),
    ("content[].thinking", Place::Reasoning, KEPT),
    ("content[].name", Place::CallName, NAME),
    ("content[].content", Place::Text, KEPT),
    ("content[].content[]", Place::Part, KEPT),
    ("content[].content[].type", Place::PartKind, NAME),
    ("content[].content[].text", Place::Text, KEPT),
    ("reasoning", Place::Reasoning, KEPT),
    ("reasoning_content", Place::Reasoning, KEPT),
    ("refusal", Place::Refusal, KEPT),
    ("tool_calls[]", Place::Call, SOME),
    ("tool_calls[].function.name", Place::CallName, NAME),
    ("tool_calls[].function.arguments", Place::CallText, KEPT),
];

/// What is asked, as far as the document is read.
#[derive(Debug)]
pub(super) struct Asked {
    said: Said,
    /// The turns that have begun, the last of which goes on.
    turns: u32,
    turn: Step,
    part: Step,
    /// The parts of the turn that have begun.
    parts: u32,
    tokens: u64,
}

/// A turn or part under way.
#[derive(Debug, Default)]
struct Step {
    kind: Option<String>,
    /// Something of it is captured.
    filled: bool,
}

impl Asked {
    /// Before the document.
    pub(super) fn new(capture: &Capture) -> Self {
        let (turn, part) = (Step::default(), Step::default());
        Self { said: capture.side(), turns: 0, turn, part, parts: 0, tokens: 0 }
    }

    /// What is asked; `None` where nothing is.
    pub(super) fn finish(self) -> Option<Box<Said>> {
        (!self.said.is_empty()).then(|| Box::new(self.said))
    }

    /// Takes in a value.
    pub(super) fn take(&mut self, place: Place, value: Value<'_>) {
        match place {
            Place::Turn | Place::Prompt if value == Value::Open => self.begin(),
            Place::Turn | Place::Prompt if value == Value::Close => self.end(),
            Place::Prompt if matches!(value, Value::Number(_)) => self.tokens += 1,
            Place::Prompt | Place::Prompts | Place::Apart if value.piece().is_some() => {
                self.begin();
                self.text(Kind::Text, value);
            }
            // A list: of tokens, which are one prompt, or of prompts, of which each begins one.
            Place::Prompts if value == Value::Close => {
                if self.tokens > 0 {
                    self.begin();
                    self.end();
                }
            }
            Place::Apart if value == Value::Open => self.begin(),
            Place::Turn | Place::Prompt | Place::Prompts | Place::Apart => {}
            Place::Token => self.tokens += u64::from(matches!(value, Value::Number(_))),
            Place::Role => {
                if let Some(role) = value.text() {
                    self.said.role(self.turns, &role);
                }
            }
            Place::TurnKind => self.turn.kind = value.text(),
            Place::PartKind => self.part.kind = value.text(),
            Place::Part if value == Value::Close => self.end_part(),
            Place::Part => {
                self.parts += 1;
                self.part = Step::default();
                self.text(Kind::Text, value);
            }
            Place::Text => self.text(Kind::Text, value),
            Place::Reasoning => self.text(Kind::Reasoning, value),
            Place::Refusal => self.text(Kind::Refusal, value),
            Place::Call => self.parts += u32::from(value == Value::Open),
            Place::CallName => {
                if let Some(name) = value.text() {
                    self.said.name(self.turns, self.parts, &name);
                    self.filled();
                }
            }
            Place::CallText => self.text(Kind::Call, value),
        }
        if matches!(place, Place::Apart) && matches!(value, Value::Open | Value::Text(_) | Value::Cut(..)) {
            self.said.role(self.turns, "system");
            self.said.set_apart(self.turns);
        }
    }

    fn begin(&mut self) {
        self.turns += 1;
        (self.turn, self.part, self.parts) = (Step::default(), Step::default(), 0);
    }

    fn end(&mut self) {
        if self.tokens > 0 {
            self.said.leave_out(self.turns, 0, &format!("{} token ids", self.tokens));
            (self.tokens, self.turn.filled) = (0, true);
        }
        if let Some(kind) = self.turn.kind.take().filter(|_| !self.turn.filled) {
            self.said.leave_out(self.turns, 0, &kind);
        }
    }

    fn end_part(&mut self) {
        if let Some(kind) = self.part.kind.take().filter(|_| !self.part.filled) {
            self.said.leave_out(self.turns, self.parts, &kind);
        }
        self.filled();
    }

    fn text(&mut self, kind: Kind, value: Value<'_>) {
        if let Some((text, missing)) = value.piece() {
            self.said.add(self.turns, kind, self.parts, text, missing);
            self.filled();
        }
    }

    fn filled(&mut self) {
        (self.turn.filled, self.part.filled) = (true, true);
    }
}
