//! The values of one document of an answer that carry words in; what it answers, a turn for each choice, out.
//!
//! Numbers and kinds may come behind the words that they are about, so what is said is held until its object ends.

use crate::stream::content::Capture;
use crate::stream::content::KEPT;
use crate::stream::content::Kind;
use crate::stream::content::Part;
use crate::stream::content::Said;
use crate::stream::json::Value;
use crate::stream::json::paths::Row;
use crate::stream::json::paths::SOME;

/// What a value is to what is answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    ChoiceText,
    ChoiceReasoning,
    ChoiceRefusal,
    ChoiceCallName,
    ChoiceCallText,
    ChoiceAudio,
    /// An element of a choice's calls.
    ChoiceCall,
    ChoiceCallNumber,
    /// `index` or `output_index` of an event.
    Number,
    DeltaText,
    DeltaReasoning,
    DeltaCallText,
    BlockText,
    BlockName,
    /// The name in an item that an event adds.
    ItemName,
    /// An element of a body that has no choices.
    Item,
    ItemKind,
    ItemText,
    ItemReasoning,
    ItemThought,
    ItemRefusal,
    ItemCallName,
    ItemCallText,
}

/// What a value counts for where content is not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Choice,
    Delta,
    Body,
    /// Nothing.
    Shape,
}

impl Place {
    pub(super) fn of(self) -> Of {
        match self {
            Self::ChoiceText
            | Self::ChoiceReasoning
            | Self::ChoiceRefusal
            | Self::ChoiceCallName
            | Self::ChoiceCallText => Of::Choice,
            Self::DeltaText | Self::DeltaReasoning | Self::DeltaCallText => Of::Delta,
            Self::BlockText | Self::BlockName | Self::ItemText | Self::ItemThought | Self::ItemCallName => Of::Body,
            Self::ItemReasoning
            | Self::ItemRefusal
            | Self::ItemCallText
            | Self::ChoiceAudio
            | Self::ChoiceCall
            | Self::ChoiceCallNumber
            | Self::Number
            | Self::ItemName
            | Self::Item
            | Self::ItemKind => Of::Shape,
        }
    }
}

/// Kept of names and kinds.
const NAME: usize = 256;

/// Below the document.
pub(super) const ROWS: &[Row<Place>] = &[
    ("choices[].text", Place::ChoiceText, KEPT),
    ("index", Place::Number, SOME),
    ("output_index", Place::Number, SOME),
    ("delta", Place::DeltaText, KEPT),
    ("delta.text", Place::DeltaText, KEPT),
    ("delta.thinking", Place::DeltaReasoning, KEPT),
    ("delta.partial_json", Place::DeltaCallText, KEPT),
    ("content_block.text", Place::BlockText, KEPT),
    ("content_block.name", Place::BlockName, NAME),
    ("item.name", Place::ItemName, NAME),
    ("content[]", Place::Item, SOME),
    ("content[].text", Place::ItemText, KEPT),
    ("content[].thinking", Place::ItemThought, KEPT),
    ("content[].name", Place::ItemCallName, NAME),
    ("output[]", Place::Item, SOME),
    ("output[].type", Place::ItemKind, NAME),
    ("output[].content[].text", Place::ItemText, KEPT),
    ("output[].content[].refusal", Place::ItemRefusal, KEPT),
    ("output[].summary[].text", Place::ItemReasoning, KEPT),
    ("output[].name", Place::ItemCallName, NAME),
    ("output[].arguments", Place::ItemCallText, KEPT),
];

/// Below `choices[].delta` of a stream and `choices[].message` of a body.
pub(super) const CHOICE: &[Row<Place>] = &[
    ("content", Place::ChoiceText, KEPT),
    ("content[].text", Place::ChoiceText, KEPT),
    ("reasoning", Place::ChoiceReasoning, KEPT),
    ("reasoning_content", Place::ChoiceReasoning, KEPT),
    ("refusal", Place::ChoiceRefusal, KEPT),
    ("audio", Place::ChoiceAudio, SOME),
    ("tool_calls[]", Place::ChoiceCall, SOME),
    ("tool_calls[].index", Place::ChoiceCallNumber, SOME),
    ("tool_calls[].function.name", Place::ChoiceCallName, NAME),
    ("tool_calls[].function.arguments", Place::ChoiceCallText, KEPT),
    ("function_call.name", Place::ChoiceCallName, NAME),
    ("function_call.arguments", Place::ChoiceCallText, KEPT),
];

/// What is answered, as far as the document is read.
#[derive(Debug)]
pub(super) struct Answered {
    capture: Capture,
    said: Option<Box<Said>>,
    /// What is said in the object under way, all of it by turn 0.
    open: Option<Box<Said>>,
    /// The calls of the object under way, by place: the numbers that they have.
    calls: Vec<u32>,
    call: Option<u32>,
    /// Thoughts come under two names, which mean the same.
    thought: bool,
    number: Option<u32>,
    items: u32,
    reasons: bool,
}

impl Answered {
    /// Before the document.
    pub(super) fn new(capture: Capture) -> Self {
        let (said, open) = (None, None);
        Self {
            capture,
            said,
            open,
            calls: Vec::new(),
            call: None,
            thought: false,
            number: None,
            items: 0,
            reasons: false,
        }
    }

    /// How much is captured.
    pub(super) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Takes in a value.
    pub(super) fn take(&mut self, place: Place, value: Value<'_>) {
        let call = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        match place {
            Place::ChoiceText | Place::DeltaText | Place::BlockText | Place::ItemText => {
                self.text(Kind::Text, 0, value);
            }
            Place::ChoiceReasoning if self.thought => {}
            Place::ChoiceReasoning => {
                self.thought = value.filled();
                self.text(Kind::Reasoning, 0, value);
            }
            Place::DeltaReasoning | Place::ItemReasoning | Place::ItemThought => self.text(Kind::Reasoning, 0, value),
            Place::ChoiceRefusal | Place::ItemRefusal => self.text(Kind::Refusal, 0, value),
            Place::ChoiceAudio if value == Value::Open => self.open().leave_out(0, 0, "audio"),
            Place::ChoiceCall if value == Value::Open => self.call = None,
            Place::ChoiceCall if value == Value::Close => {
                let number = self.call.take().unwrap_or(call);
                if self.calls.len() < CALLS {
                    self.calls.push(number);
                }
            }
            Place::ChoiceCallNumber => self.call = value.unsigned(),
            Place::ChoiceCallName | Place::BlockName | Place::ItemName | Place::ItemCallName => {
                if let Some(name) = value.text() {
                    self.open().name(0, call, &name);
                }
            }
            Place::ChoiceCallText | Place::DeltaCallText | Place::ItemCallText => self.text(Kind::Call, call, value),
            Place::Number => self.number = value.unsigned(),
            Place::ItemKind => self.reasons = value.text().is_some_and(|kind| kind == "reasoning"),
            Place::Item if value == Value::Close => {
                let number = self.items;
                self.items = number.saturating_add(1);
                let reasons = std::mem::take(&mut self.reasons);
                self.settle(0, |kind| if reasons && kind == Kind::Text { Kind::Reasoning } else { kind }, |_| number);
            }
            Place::ChoiceAudio | Place::ChoiceCall | Place::Item => {}
        }
    }

    /// The choice under way ends, and has this number.
    pub(super) fn choice(&mut self, index: u32) {
        let calls = std::mem::take(&mut self.calls);
        self.thought = false;
        let of = |place: u32| usize::try_from(place).ok().and_then(|at| calls.get(at)).copied().unwrap_or(place);
        self.settle(index, |kind| kind, |part| if part.kind == Kind::Call { of(part.number) } else { part.number });
    }

    /// What the document says, by the kind of event that it is; ready for the next one.
    pub(super) fn finish(&mut self, kind: &str) -> Option<Box<Said>> {
        let number = self.number.take().unwrap_or(0);
        match said_by(kind) {
            Some(told) => {
                let kind = |kind| if kind == Kind::Text { told } else { kind };
                self.settle(0, kind, |_| number);
            }
            None => self.open = None,
        }
        (self.items, self.reasons, self.thought, self.call) = (0, false, false, None);
        self.calls.clear();
        self.said.take()
    }

    fn text(&mut self, kind: Kind, number: u32, value: Value<'_>) {
        if let Some((text, missing)) = value.piece()
            && !text.is_empty()
        {
            self.open().add(0, kind, number, text, missing);
        }
    }

    fn open(&mut self) -> &mut Said {
        self.open.get_or_insert_with(|| Box::new(self.capture.side()))
    }

    fn settle(&mut self, turn: u32, kind: impl Fn(Kind) -> Kind, number: impl Fn(&Part) -> u32) {
        let Some(open) = self.open.take() else { return };
        let said = self.said.get_or_insert_with(|| Box::new(self.capture.side()));
        said.merge(&open, |_, part| (turn, kind(part.kind), number(part)));
    }
}

/// Calls of one choice that are told apart.
const CALLS: usize = 1_024;

/// What the words of an event are, where it says something new.
fn said_by(event: &str) -> Option<Kind> {
    match event.strip_prefix("response.").unwrap_or(event) {
        "content_block_start" | "content_block_delta" | "output_item.added" | "output_text.delta" => Some(Kind::Text),
        "reasoning_text.delta" | "reasoning.delta" | "reasoning_summary_text.delta" => Some(Kind::Reasoning),
        "refusal.delta" => Some(Kind::Refusal),
        "function_call_arguments.delta" | "mcp_call_arguments.delta" | "custom_tool_call_input.delta" => {
            Some(Kind::Call)
        }
        _ => None,
    }
}
