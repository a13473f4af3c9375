//! Pieces of HTTP payload in, the same pieces out without what people wrote: length and structure stay.

/// Members whose string values stay: what joins and sorts requests, and no text.
const CLEAR_KEYS: [&[u8]; 9] =
    [b"id", b"model", b"object", b"role", b"type", b"code", b"status", b"finish_reason", b"stop_reason"];

/// Bytes of a key that are kept to compare it with those; a longer one is none of them.
const KEY_BYTES: usize = 16;

/// `x` as the digits of a `\u` escape.
const ESCAPED_X: [u8; 4] = *b"0078";

/// Masks one direction of one connection: what a piece leaves open, the next goes on with.
///
/// Of JSON it keeps structure, keys, the string values of a few members (`id`, `model`, `role`,
/// `finish_reason` and their like) and the numbers in objects. In all other strings every letter, digit
/// and byte that is not ASCII becomes `x`, and in lists of numbers (token ids) every digit `1`.
/// Escapes stay escapes. HTTP heads and chunk sizes stay, secrets in headers too.
///
/// After bytes were lost it may take text for structure: do not record that connection on. A chunk
/// size that stands inside a string is masked with it.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    place: Place,
    string: Text,
    /// The containers that are open, the innermost in the lowest bits. More than 32 are forgotten.
    open: u64,
    /// Whether a key is next, or its value.
    next: Next,
    key: [u8; KEY_BYTES],
    key_bytes: usize,
}

const ARRAY: u64 = 1;
const OBJECT: u64 = 2;
const CONTAINER_BITS: u32 = 2;

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Outside,
    String,
    /// After a backslash.
    Escape,
    /// Before this digit of a `\u` escape.
    Digit(usize),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Text {
    Key,
    Clear,
    #[default]
    Masked,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    Key,
    #[default]
    Value,
}

impl Mask {
    /// Masks the next bytes of this direction in their place.
    pub fn apply(&mut self, payload: &mut [u8]) {
        for byte in payload {
            match self.place {
                Place::Outside => self.outside(byte),
                Place::String | Place::Escape | Place::Digit(_) => self.inside(byte),
            }
        }
    }

    fn outside(&mut self, byte: &mut u8) {
        match *byte {
            b'"' => {
                self.string = self.begins();
                self.place = Place::String;
            }
            b'{' => self.enter(OBJECT),
            b'[' => self.enter(ARRAY),
            b'}' | b']' => self.open >>= CONTAINER_BITS,
            b':' => self.next = Next::Value,
            b',' => self.next = if self.is_in(OBJECT) { Next::Key } else { Next::Value },
            b'0'..=b'9' if self.is_in(ARRAY) => *byte = b'1',
            _ => {}
        }
    }

    fn enter(&mut self, container: u64) {
        self.open = self.open << CONTAINER_BITS | container;
        self.next = if container == OBJECT { Next::Key } else { Next::Value };
    }

    fn is_in(&self, container: u64) -> bool {
        self.open & (OBJECT | ARRAY) == container
    }

    /// What the string is that begins here.
    fn begins(&mut self) -> Text {
        if !self.is_in(OBJECT) {
            return Text::Masked;
        }
        if self.next == Next::Key {
            self.key_bytes = 0;
            return Text::Key;
        }
        let key = self.key.get(..self.key_bytes);
        if key.is_some_and(|key| CLEAR_KEYS.contains(&key)) { Text::Clear } else { Text::Masked }
    }

    fn inside(&mut self, byte: &mut u8) {
        self.place = match (self.place, *byte) {
            (Place::String, b'"') => Place::Outside,
            (Place::String, b'\\') => Place::Escape,
            (Place::Escape, b'u') => Place::Digit(0),
            (Place::Digit(n), digit) if digit.is_ascii_hexdigit() => {
                if self.string == Text::Masked {
                    *byte = ESCAPED_X.get(n).copied().unwrap_or(b'x');
                }
                if n + 1 < ESCAPED_X.len() { Place::Digit(n + 1) } else { Place::String }
            }
            (Place::Escape, _) => Place::String,
            (Place::Outside | Place::String | Place::Digit(_), _) => {
                self.text(byte);
                Place::String
            }
        };
    }

    fn text(&mut self, byte: &mut u8) {
        match self.string {
            Text::Key => {
                if let Some(slot) = self.key.get_mut(self.key_bytes) {
                    *slot = *byte;
                }
                self.key_bytes = self.key_bytes.saturating_add(1);
            }
            Text::Masked if byte.is_ascii_alphanumeric() || !byte.is_ascii() => *byte = b'x',
            Text::Masked | Text::Clear => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(pieces: &[&[u8]]) -> String {
        let mut mask = Mask::default();
        let mut out = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            mask.apply(&mut piece);
            out.extend(piece);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_goes_and_length_and_structure_stay() {
        for (clear, expected) in [
            (r#"{"model":"tiny","temperature":0.25}"#, r#"{"model":"tiny","temperature":0.25}"#),
            (r#"{"id":"chatcmpl-b04707754be6bc68"}"#, r#"{"id":"chatcmpl-b04707754be6bc68"}"#),
            (r#"{"content":"Are you 007?","n":2}"#, r#"{"content":"xxx xxx xxx?","n":2}"#),
            (r#"{"delta": {"content" : "Hi"}, "id":"a"}"#, r#"{"delta": {"content" : "xx"}, "id":"a"}"#),
            (r#"{"content":""}"#, r#"{"content":""}"#),
            (r#"{"prompt":[101,70000],"n":[{"n":12}]}"#, r#"{"prompt":[111,11111],"n":[{"n":12}]}"#),
            (r#"{"model":["x1","y"],"stop":["id","b"]}"#, r#"{"model":["xx","x"],"stop":["xx","x"]}"#),
            (r#"{"t":"a \"quoted\" word\n \\"}"#, r#"{"t":"x \"xxxxxx\" xxxx\n \\"}"#),
            (r#"{"t":"\u4e2d\u6587"}"#, r#"{"t":"\u0078\u0078"}"#),
            (r#"{"t":"\u4e"}"#, r#"{"t":"\u00"}"#),
            (r#"{"a_key_of_many_more_bytes_than_kept":"v"}"#, r#"{"a_key_of_many_more_bytes_than_kept":"x"}"#),
            ("{\"t\":\"中文\"}", "{\"t\":\"xxxxxx\"}"),
            (
                "HTTP/1.1 200 OK\r\n\r\n1f\r\ndata: {\"text\":\"a b\"}",
                "HTTP/1.1 200 OK\r\n\r\n1f\r\ndata: {\"text\":\"x x\"}",
            ),
            ("}}]{\"text\":\"unbalanced", "}}]{\"text\":\"xxxxxxxxxx"),
        ] {
            assert_eq!(masked(&[clear.as_bytes()]), expected);
            assert_eq!(clear.len(), expected.len());
        }
    }

    #[test]
    fn a_split_anywhere_changes_nothing() {
        let clear = br#"{"role":"user","content":"Tell \"me\" a \u00e9 secret\\","ids":[1,25],"n":12}"#;
        let whole = masked(&[clear]);
        assert_eq!(whole, r#"{"role":"user","content":"xxxx \"xx\" x \u0078 xxxxxx\\","ids":[1,11],"n":12}"#);
        for at in 0..=clear.len() {
            assert_eq!(masked(&[&clear[..at], &clear[at..]]), whole, "split at {at}");
        }
    }

    #[test]
    fn depth_beyond_what_is_kept_masks_on() {
        let deep =
            [b"[".repeat(100), br#"{"id":"#.to_vec(), b"[".repeat(100), b"]".repeat(150), b"\"secret\"".to_vec()]
                .concat();
        assert!(masked(&[&deep]).ends_with("\"xxxxxx\""));
    }
}
