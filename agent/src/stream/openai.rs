//! What the APIs of this field mean: a path in, an [`Operation`] out; bodies are read in [ask] and [reply].

pub mod ask;
pub mod reply;

use crate::stream::Operation;
use std::borrow::Cow;

/// What a `POST` to `path` (without its query) asks for; `None` where it is no inference.
///
/// The end of the path decides, so that any prefix a proxy puts before it does no harm.
pub fn operation(path: &str) -> Option<Operation> {
    let path = unescaped(path);
    let mut segments = path.rsplit('/');
    let last = segments.next()?;
    let before = segments.next()?;
    match last {
        "completions" if before == "chat" => Some(Operation::Chat),
        "completions" => Some(Operation::TextCompletion),
        "responses" => Some(Operation::Responses),
        "messages" => Some(Operation::Messages),
        "embeddings" => Some(Operation::Embeddings),
        "rerank" | "score" | "pooling" | "classify" => Some(Operation::Pooling),
        _ => None,
    }
}

/// A path as servers route it: `%69` is `i`. No operation has anything in its name but ASCII.
fn unescaped(path: &str) -> Cow<'_, str> {
    let Some((before, escaped)) = path.split_once('%') else { return Cow::Borrowed(path) };
    let mut plain = before.to_owned();
    for part in escaped.split('%') {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii() => plain.push(byte.into()),
            Ok(_) | Err(_) => plain.extend(['%'].into_iter().chain(digits.chars())),
        }
        plain.push_str(rest);
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_tells_the_operation() {
        for (path, expected) in [
            ("/v1/chat/completions", Some(Operation::Chat)),
            ("/openai/deployments/x/chat/completions", Some(Operation::Chat)),
            ("/v1/completions", Some(Operation::TextCompletion)),
            ("/completions", Some(Operation::TextCompletion)),
            ("/v1/responses", Some(Operation::Responses)),
            ("/v1/messages", Some(Operation::Messages)),
            ("/base/v1/embeddings", Some(Operation::Embeddings)),
            ("/v2/rerank", Some(Operation::Pooling)),
            ("/score", Some(Operation::Pooling)),
            ("/v1/pooling", Some(Operation::Pooling)),
            ("/classify", Some(Operation::Pooling)),
            ("/v1/%63hat%2Fcomplet%69ons", Some(Operation::Chat)),
            ("/%e4%zz%/v1/completions", Some(Operation::TextCompletion)),
            ("/v1/completions%", None),
            ("/v1/messages/count_tokens", None),
            ("/v1/responses/resp_1/cancel", None),
            ("/v1/chat/completions/render", None),
            ("/tokenize", None),
            ("completions", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(operation(path), expected, "{path}");
        }
    }
}
