//! A [`Scanner`]'s bytes in, the same out where they are structure or a wanted value.
//!
//! Of strings nothing else stays, of names of members as much as is the beginning of a wanted one, and
//! of numbers that there are digits. It goes as far as the scanner does: after a fault nothing stays.

use super::Fault;
use super::Scanner;
use super::State;
use super::Value;
use super::in_number;
use crate::stream::json::paths::Node;
use crate::stream::json::paths::SOME;
use crate::stream::mask::HIDDEN;
use crate::stream::mask::HIDDEN_NAME;
use memchr::memchr2;

/// What Python and JSON write without quotes, beside numbers.
const WORDS: [&[u8]; 6] = [b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity"];

/// Stands for a digit that is not read.
const DIGIT: u8 = b'1';

impl<F: Copy> Scanner<F> {
    /// Reads on as [`Self::feed`] does, and masks the bytes in their place.
    pub fn mask(&mut self, mut bytes: &mut [u8], take: &mut impl FnMut(F, Value<'_>)) {
        while !bytes.is_empty() {
            let text = if self.state == State::Text { memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len()) } else { 0 };
            let Some((run, rest)) = bytes.split_at_mut_checked(text.max(1)) else { return };
            let (before, cut, kept) = (self.state, self.beyond > 0, self.kept.len());
            self.feed(run, take);
            if text > 0 {
                self.mask_text(run, cut, kept);
            } else {
                for byte in run {
                    *byte = self.masked(*byte, before, cut);
                }
            }
            bytes = rest;
        }
    }

    /// Text without escapes that was just read into `kept`, of which there were so many bytes before.
    fn mask_text(&self, run: &mut [u8], cut: bool, kept: usize) {
        let stays = match (self.is_key, cut) {
            (true, false) => (kept + 1..=self.kept.len()).take_while(|to| self.leads_to_a_name(*to)).count(),
            // The byte that does not fit goes along, as what shows that there are more.
            (false, false) if self.cap > SOME => self.kept.len() - kept + 1,
            _ => 0,
        };
        let hidden = if self.is_key { HIDDEN_NAME } else { HIDDEN };
        run.iter_mut().skip(stays).for_each(|byte| *byte = hidden);
    }

    /// Whether the key under way, up to there, is the beginning of one that is wanted.
    fn leads_to_a_name(&self, to: usize) -> bool {
        let beginning = self.kept.get(..to);
        self.container().zip(beginning).is_some_and(|(container, beginning)| container.has_key_with(beginning))
    }

    /// A byte that was just read in the state `before`, the value under way being `cut` already.
    fn masked(&self, byte: u8, before: State, cut: bool) -> u8 {
        let stays = match (before, self.state) {
            // What nests too deep must do so once more.
            (before, State::Bad(Fault::Nesting)) => !matches!(before, State::Bad(_)),
            (_, State::Bad(Fault::NotJson)) => false,
            (State::Escape | State::Unicode { .. }, _) | (State::Text, State::Escape) if self.is_key => {
                return HIDDEN_NAME;
            }
            (State::Escape | State::Unicode { .. }, _) | (State::Text, State::Escape) => self.cap > SOME && !cut,
            (_, State::Token) => return self.masked_in_token(byte),
            _ => true,
        };
        if stays { byte } else { HIDDEN }
    }

    fn masked_in_token(&self, byte: u8) -> u8 {
        let is_number = matches!(self.kept.first(), Some(b'-' | b'0'..=b'9')) && in_number(byte);
        let wanted = self.place.and_then(Node::want).is_some();
        match byte {
            _ if is_number && wanted || WORDS.iter().any(|word| word.starts_with(&self.kept)) => byte,
            b'0'..=b'9' => DIGIT,
            _ if is_number => byte,
            _ => HIDDEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::json::paths::Row;
    use std::sync::LazyLock;

    const ROWS: &[Row<()>] = &[("id", (), 8), ("index", (), SOME), ("o.said", (), SOME), ("l[].n", (), SOME)];
    static TREE: LazyLock<Node<()>> = LazyLock::new(|| Node::default().with("", ROWS));

    fn masked(text: &str, cut: usize) -> String {
        let mut scanner = Scanner::new(&TREE);
        let mut bytes = text.as_bytes().to_vec();
        let (left, right) = bytes.split_at_mut(cut);
        scanner.mask(left, &mut |(), _| {});
        scanner.mask(right, &mut |(), _| {});
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn wanted_values_stay_and_the_rest_keeps_its_length() {
        for (clear, expected) in [
            (r#"{"id":"a\n\u00e9"}"#, r#"{"id":"a\n\u00e9"}"#),
            (r#"{"id":"8 bytes. and more"}"#, r#"{"id":"8 bytes. xxxxxxxx"}"#),
            (r#"{"id":"1234567\u00e9\n"}"#, r#"{"id":"1234567\u00e9xx"}"#),
            (r#"{"o":{"said":"a \"b\" \u4e2d","id":"a"}}"#, r#"{"o":{"said":"xxxxxxxxxxxxxx","XX":"x"}}"#),
            (r#"{"o":{"said":""},"i":["id"]}"#, r#"{"o":{"said":""},"i":["xx"]}"#),
            (r#"{"o":"id" , "said":"a"}"#, r#"{"o":"xx" , "XXXX":"x"}"#),
            (r#"{"l":[{"n":70},{"m":70},70,-0.25e7]}"#, r#"{"l":[{"n":70},{"X":11},11,-1.11e1]}"#),
            (r#"{"id":true,"a":[false,null,NaN,-Infinity]}"#, r#"{"id":true,"X":[false,null,NaN,-Infinity]}"#),
            (r#"{"ideas":1,"inde!":1,"i\u0064":1}"#, r#"{"idXXX":1,"indeX":1,"iXXXXXX":1}"#),
            (r#"{"id":nope,"id":"a"}"#, r#"{"id":nxxxxxxxxxxxxx"#),
            ("a secret, \"id\"", "xxxxxxxxxxxxxx"),
            (r#"{"id":"\q","id":"a"}"#, r#"{"id":"\xxxxxxxxxxxx"#),
            (r#"{"id":"a"} and more"#, r#"{"id":"a"} xxxxxxxx"#),
        ] {
            for cut in 0..=clear.len() {
                assert_eq!(masked(clear, cut), expected, "{clear} cut at {cut}");
            }
            assert_eq!(masked(expected, 0), expected);
        }
    }

    #[test]
    fn nesting_that_is_too_deep_is_so_afterwards() {
        let masked = masked(&format!("{}\"a\"", "[".repeat(600)), 0);
        let mut scanner = Scanner::new(&TREE);
        scanner.feed(masked.as_bytes(), &mut |(), _| {});
        assert_eq!((scanner.finish(&mut |(), _| {}), masked.ends_with("[xxx")), (Err(Fault::Nesting), false));
    }
}
