//! What was captured of a request in; what may leave the agent of it out: redacted, and cut to its bound.

use crate::correlate::redact::Rules;
use crate::stream::content::Both;
use crate::stream::content::Kind;
use crate::stream::content::Said;
use crate::stream::content::Text;
use crate::stream::content::cut;
use std::fmt;

/// What was asked and answered in words. Only [`Content::of`] makes one, so whoever has it has no secret that a
/// rule knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What was asked; `None` where the request was not read.
    pub prompt: Option<Side>,
    /// What was answered; `None` where nothing was.
    pub completion: Option<Side>,
    /// How many secrets were taken out.
    pub redacted: u64,
}

/// One side. Its `Debug` shows no text.
#[derive(Clone, PartialEq, Eq)]
pub struct Side {
    /// Messages, or choices.
    pub turns: Vec<Turn>,
    /// Bytes of its texts as they came.
    pub bytes: u64,
    /// Whether something of them is missing here.
    pub truncated: bool,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A message of a request, or a choice of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which choice.
    pub number: u32,
    /// Who speaks, where that was said.
    pub role: Option<String>,
    /// Whether it is an instruction that stands apart from the conversation.
    pub apart: bool,
    /// What is said.
    pub parts: Vec<Part>,
}

/// One text of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What is said.
    Text(String),
    /// What is thought.
    Reasoning(String),
    /// Why nothing is said.
    Refusal(String),
    /// A call.
    Call {
        /// What is called, where that was said.
        name: Option<String>,
        /// With which arguments.
        arguments: String,
    },
    /// What was not captured: images, audio, files, token ids.
    Left(String),
}

impl Content {
    /// What may leave the agent.
    pub fn of(both: &Both, rules: &Rules) -> Self {
        let mut redacted = 0;
        let mut side = |said: &Said| Side::of(said, rules, &mut redacted);
        let prompt = both.asked.as_deref().map(&mut side);
        let completion = both.answered.as_deref().map(&mut side);
        Self { prompt, completion, redacted }
    }

    /// Its bytes in memory, about.
    pub fn weight(&self) -> usize {
        let turns = [&self.prompt, &self.completion].into_iter().flatten().flat_map(|side| &side.turns);
        let of = |turn: &Turn| {
            let parts = turn.parts.iter().map(|part| size_of::<Part>() + part.name().len() + part.text().len());
            size_of::<Turn>() + turn.role.as_ref().map_or(0, String::len) + parts.sum::<usize>()
        };
        size_of::<Self>() + turns.map(of).sum::<usize>()
    }

    /// The same with no more than so many bytes on each side.
    #[must_use]
    pub fn shortened(mut self, bytes: usize) -> Self {
        for side in [&mut self.prompt, &mut self.completion].into_iter().flatten() {
            side.shorten(bytes);
        }
        self
    }
}

impl Side {
    fn of(said: &Said, rules: &Rules, redacted: &mut u64) -> Self {
        let mut clean = |text: &str| {
            let (text, count) = rules.apply(&Text::whole(text));
            *redacted += count;
            text
        };
        let (mut turns, mut shown, mut secrets) = (Vec::new(), 0_u64, 0);
        for turn in said.turns() {
            let mut parts = Vec::new();
            for part in &turn.parts {
                let (text, count) = rules.apply(&part.text);
                secrets += count;
                if part.kind != Kind::Left {
                    shown += part.text.shown as u64;
                }
                // Nothing of it may be shown.
                if part.text.shown == 0 && part.text.bytes > 0 && part.name.is_none() {
                    continue;
                }
                parts.push(match part.kind {
                    Kind::Text => Part::Text(text),
                    Kind::Reasoning => Part::Reasoning(text),
                    Kind::Refusal => Part::Refusal(text),
                    Kind::Call => Part::Call { name: part.name.as_deref().map(&mut clean), arguments: text },
                    Kind::Left => Part::Left(text),
                });
            }
            let role = turn.role.as_deref().map(&mut clean);
            turns.push(Turn { number: turn.number, role, apart: turn.apart, parts });
        }
        *redacted += secrets;
        let bytes = said.bytes();
        let mut side = Self { turns, bytes, truncated: bytes > shown };
        side.shorten(said.max_bytes());
        side
    }

    /// What is taken out may be shorter than what stands for it.
    fn shorten(&mut self, bytes: usize) {
        let mut left = bytes;
        for part in self.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            let Some(text) = part.captured() else { continue };
            let fits = cut(text, left).len();
            self.truncated |= fits < text.len();
            // What comes behind a cut would not follow on.
            left = if fits < text.len() { 0 } else { left - fits };
            text.truncate(fits);
        }
    }
}

impl Part {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::Refusal(text) | Self::Left(text) => text,
            Self::Call { arguments, .. } => arguments,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Call { name, .. } => name.as_deref().unwrap_or_default(),
            Self::Text(_) | Self::Reasoning(_) | Self::Refusal(_) | Self::Left(_) => "",
        }
    }

    fn captured(&mut self) -> Option<&mut String> {
        match self {
            Self::Text(text) | Self::Reasoning(text) | Self::Refusal(text) | Self::Call { arguments: text, .. } => {
                Some(text)
            }
            Self::Left(_) => None,
        }
    }
}
