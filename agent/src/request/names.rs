//! Engine ids and external ids in, the response ids they may belong to out.
//!
//! A front end names an engine request after its response: `chatcmpl-X`, `cmpl-X-<prompt>`, `resp_X_<turn>`.
//! vLLM adds eight hex digits, `-1a2b3c4d`, and for `n > 1` puts the child's number in front, `0_`.

use crate::stream::Operation;

/// Which family of ids a prefix belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Chat, and the APIs that vLLM translates to it.
    Chat,
    /// Text completions: a prompt's number follows.
    Text,
    /// Responses: a turn's number follows.
    Responses,
    /// Embeddings: an input's number follows.
    Embeddings,
    /// Scores, ranks, classes, pools: an input's number follows.
    Pooling,
}

const PREFIXES: [(&str, Scheme); 9] = [
    ("chatcmpl-", Scheme::Chat),
    ("cmpl-", Scheme::Text),
    ("resp_", Scheme::Responses),
    ("embd-", Scheme::Embeddings),
    ("pool-", Scheme::Pooling),
    ("pooling-", Scheme::Pooling),
    ("score-", Scheme::Pooling),
    ("rerank-", Scheme::Pooling),
    ("classify-", Scheme::Pooling),
];

impl Scheme {
    /// The scheme of an id, by its prefix.
    pub(super) fn of(id: &str) -> Option<Self> {
        PREFIXES.iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, scheme)| *scheme)
    }

    /// Whether a request for `operation` may carry ids of this scheme.
    pub(super) fn fits(self, operation: Operation) -> bool {
        match operation {
            Operation::Chat | Operation::Messages => self == Self::Chat,
            Operation::TextCompletion => self == Self::Text,
            Operation::Responses => self == Self::Responses,
            Operation::Embeddings => self == Self::Embeddings,
            Operation::Pooling => self == Self::Pooling,
        }
    }
}

/// How sure a reading of an id is; a surer reading that finds its response wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// As the front end writes it.
    Sure,
    /// With what looks like vLLM's suffix taken off.
    Stripped,
    /// Without taking off what looks like a prompt's number.
    Bare,
}

/// One way to read an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// The response id it belongs to.
    pub(super) base: String,
    /// Which prompt, input or turn.
    pub(super) prompt: Option<u32>,
    /// How sure.
    pub(super) grade: Grade,
}

/// An engine request's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Which child of an `n > 1`.
    pub(super) child: Option<u32>,
    /// The engine id without the child's number: the same for all children of one prompt.
    pub(super) family: String,
    /// The scheme, where the prefix is known.
    pub(super) scheme: Option<Scheme>,
    /// Every reading, surest first; at least one.
    pub(super) readings: Vec<Reading>,
}

impl Names {
    /// Reads the engine's id and, where the version sends one, the front end's.
    pub(super) fn read(id: &str, external: Option<&str>) -> Self {
        let known = |rest: &str| Scheme::of(rest).is_some();
        let split = split_child(id).filter(|(_, rest)| match external {
            Some(external) => rest.starts_with(external) || split_child(external).is_some_and(|(_, rest)| known(rest)),
            None => known(rest),
        });
        let (child, family) = split.map_or((None, id), |(child, rest)| (Some(child), rest));
        let named = match external {
            Some(external) if child.is_some() => {
                split_child(external).filter(|(_, rest)| family.starts_with(rest)).map_or(external, |(_, rest)| rest)
            }
            Some(external) => external,
            None => family,
        };
        let mut readings = readings(named, Grade::Sure);
        if external.is_none()
            && let Some(stripped) = without_suffix(family)
        {
            readings.extend(self::readings(stripped, Grade::Stripped));
        }
        readings.sort_by_key(|reading| reading.grade);
        Self { child, family: family.to_owned(), scheme: Scheme::of(named), readings }
    }

    /// The surest response id.
    pub(super) fn base(&self) -> &str {
        self.readings.first().map_or("", |reading| reading.base.as_str())
    }

    /// The surest reading that leads to this response id.
    pub(super) fn reading(&self, base: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.base == base)
    }
}

/// The response ids that a front end which honours X-Request-Id makes of it.
pub(super) fn expected(operation: Operation, x_request_id: &str) -> Vec<String> {
    let made = PREFIXES.iter().filter(|(_, scheme)| scheme.fits(operation));
    made.map(|(prefix, _)| format!("{prefix}{x_request_id}")).collect()
}

fn readings(external: &str, grade: Grade) -> Vec<Reading> {
    let whole = |grade| Reading { base: external.to_owned(), prompt: None, grade };
    let numbered = match Scheme::of(external) {
        Some(Scheme::Text | Scheme::Embeddings | Scheme::Pooling) => external.rsplit_once('-'),
        Some(Scheme::Responses) => external.rsplit_once('_').filter(|(base, _)| *base != "resp"),
        Some(Scheme::Chat) | None => None,
    };
    match numbered.and_then(|(base, digits)| Some((base, number(digits)?))) {
        Some((base, prompt)) => {
            let role = base.strip_suffix("-query").or_else(|| base.strip_suffix("-doc"));
            let (base, prompt) = role.map_or((base, Some(prompt)), |base| (base, None));
            vec![Reading { base: base.to_owned(), prompt, grade }, whole(Grade::Bare)]
        }
        None => vec![whole(grade)],
    }
}

/// `3_rest` as 3 and `rest`.
fn split_child(id: &str) -> Option<(u32, &str)> {
    let (digits, rest) = id.split_once('_')?;
    Some((number(digits)?, rest))
}

/// A decimal as a front end writes one; eight digits and more are part of an id.
fn number(digits: &str) -> Option<u32> {
    let plain = (1..8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (digits == "0" || !digits.starts_with('0'))).then(|| digits.parse().ok()).flatten()
}

/// The id without `-` and exactly eight lower-case hex digits.
fn without_suffix(id: &str) -> Option<&str> {
    let (rest, suffix) = id.rsplit_once('-')?;
    let hex = suffix.len() == 8 && suffix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(id: &str, external: Option<&str>) -> String {
        let names = Names::read(id, external);
        let readings: Vec<String> = names
            .readings
            .iter()
            .map(|reading| format!("{}{}", reading.base, reading.prompt.map_or(String::new(), |k| format!("#{k}"))))
            .collect();
        format!("{} {}", names.child.map_or("-".to_owned(), |child| child.to_string()), readings.join(" "))
    }

    #[test]
    fn ids_are_read_as_front_ends_write_them() {
        for (id, external, read) in [
            ("chatcmpl-a-9022f83e", Some("chatcmpl-a"), "- chatcmpl-a"),
            ("chatcmpl-a", None, "- chatcmpl-a"),
            ("chatcmpl-a-9022f83e", None, "- chatcmpl-a-9022f83e chatcmpl-a"),
            ("chatcmpl-a-9022f83", None, "- chatcmpl-a-9022f83"),
            ("1_chatcmpl-a-9022f83e", Some("chatcmpl-a"), "1 chatcmpl-a"),
            ("1_chatcmpl-a-9022f83e", Some("1_chatcmpl-a"), "1 chatcmpl-a"),
            ("0_chatcmpl-a", None, "0 chatcmpl-a"),
            ("cmpl-a-1-9022f83e", Some("cmpl-a-1"), "- cmpl-a#1 cmpl-a-1"),
            ("cmpl-a-1-12345678", None, "- cmpl-a-1-12345678 cmpl-a#1 cmpl-a-1"),
            ("cmpl-0042", None, "- cmpl-0042"),
            ("resp_a_0", Some("resp_a_0"), "- resp_a#0 resp_a_0"),
            ("resp_7", None, "- resp_7"),
            ("score-a-doc-3", None, "- score-a score-a-doc-3"),
            ("7_grpc", None, "- 7_grpc"),
            ("7_grpc", Some("7_grpc"), "- 7_grpc"),
            ("", None, "- "),
        ] {
            assert_eq!(bases(id, external), read, "{id} {external:?}");
        }
    }
}
