//! Documents in, wanted values out, whole and cut at every byte.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

const ROWS: &[paths::Row<&str>] =
    &[("a", "a", 8), ("o.b", "o.b", 300), ("l", "l", 4), ("l[]", "l[]", 4), ("c[].d.e", "c[].d.e", 4), ("n", "n", 4)];
static TREE: LazyLock<Node<&str>> = LazyLock::new(|| Node::default().with("", ROWS));

fn scan<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> (Result<(), Fault>, Vec<String>) {
    let (mut scanner, mut seen) = (Scanner::new(&TREE), Vec::new());
    let mut take = |field: &str, value: Value<'_>| seen.push(format!("{field}={value:?}"));
    for piece in pieces {
        scanner.feed(piece.as_ref(), &mut take);
    }
    (scanner.finish(&mut take), seen)
}

#[test]
fn wanted_values_are_found_and_nothing_else() {
    for (text, expected) in [
        (r#"{"a":"x"}"#, vec![r#"a=Text("x")"#]),
        (r#" { "z" : [ {"a":"no"} , "\"a\":1" ] , "a" : -1.5e3 } "#, vec![r#"a=Number("-1.5e3")"#]),
        (r#"{"a":true,"a":null,"a":false}"#, vec!["a=Bool(true)", "a=Null", "a=Bool(false)"]),
        (r#"{"o":{"b":"\u0041\ud83d\ude00\n\"","a":1},"x":{"o":{"b":1}}}"#, vec![r#"o.b=Text("A😀\n\"")"#]),
        (r#"{"o":{"b":"\ud83dx\ude00\ud83d\ud83d\ude00"}}"#, vec![r#"o.b=Text("�x��😀")"#]),
        (r#"{"\u0061":"esc"}"#, vec![r#"a=Text("esc")"#]),
        (r#"{"a":"12345678 more"}"#, vec![r#"a=Cut("12345678", 5)"#]),
        (r#"{"a":"1234567é"}"#, vec![r#"a=Cut("1234567", 2)"#]),
        (
            r#"{"l":[1,"two",[3],{}]}"#,
            vec![
                "l=Open",
                r#"l[]=Number("1")"#,
                r#"l[]=Text("two")"#,
                "l[]=Open",
                "l[]=Close",
                "l[]=Open",
                "l[]=Close",
                "l=Close",
            ],
        ),
        (
            r#"{"c":[{"d":{"e":"1"}},[{"d":{"e":"no"}}],{"d":{"e":""}}]}"#,
            vec![r#"c[].d.e=Text("1")"#, r#"c[].d.e=Text("")"#],
        ),
        (r#"{"n":NaN,"x":[-Infinity,1e5,{}],"y":{}}"#, vec![r#"n=Number("")"#]),
        ("[]", vec![]),
        ("7", vec![]),
    ] {
        let whole = scan([text.as_bytes()]);
        assert_eq!((whole.0, whole.1.iter().map(String::as_str).collect::<Vec<_>>()), (Ok(()), expected), "{text}");
        assert_eq!(scan(text.as_bytes().chunks(1)), whole, "{text} byte by byte");
        for cut in 0..text.len() {
            let (left, right) = text.as_bytes().split_at(cut);
            assert_eq!(scan([left, right]), whole, "{text} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_json_is_said_to_be_none() {
    for text in [
        "",
        "{",
        "}",
        "[1,]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "[1 2]",
        "{]",
        "[}",
        r#"{"a":1]"#,
        "tru",
        "truex",
        "--bound",
        "-",
        "{} x",
        r#""\x""#,
        r#"{"a":"\u00g0"}"#,
        r#"{"a" 1}"#,
        "[,1]",
        "nul",
        "\u{1}",
        "a=b&c=d",
        r#"{"a":"open"#,
        "1e5x",
    ] {
        assert_eq!(scan([text.as_bytes()]).0, Err(Fault::NotJson), "{text:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(scan([nest(DEPTH).as_bytes()]).0, Ok(()));
    assert_eq!(scan([nest(DEPTH + 1).as_bytes()]).0, Err(Fault::Nesting));
    let inside = format!(r#"{{"z":{},"a":"after"}}"#, nest(DEPTH - 1));
    assert_eq!(scan([inside.as_bytes()]).1, [r#"a=Text("after")"#]);
}

#[test]
fn numbers_are_what_they_say() {
    assert_eq!(Value::Number("16").unsigned::<u32>(), Some(16));
    assert_eq!(Value::Number("16.0").int(), Some(16));
    assert_eq!(Value::Number("16.5").int(), None);
    assert_eq!(Value::Number("-1").unsigned::<u64>(), None);
    assert_eq!(Value::Number("1e400").float(), None);
    assert_eq!(Value::Text("16").int(), None);
}

proptest! {
    /// Any text, written by a real writer, comes back; whatever follows is still found.
    #[test]
    fn any_string_comes_back(text in any::<String>(), noise in any::<String>(), cut in 1_usize..40) {
        let document = serde_json::json!({"z": [noise, {"a": noise}], "o": {"b": text}, "a": 1}).to_string();
        let (result, seen) = scan(document.as_bytes().chunks(cut));
        let mut expected = vec![format!("o.b={:?}", Value::Text(&text)), r#"a=Number("1")"#.to_owned()];
        prop_assume!(text.len() <= 300);
        expected.sort();
        let mut seen = seen;
        seen.sort();
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn any_bytes_are_survived(bytes in any::<Vec<u8>>(), cut in 1_usize..9) {
        prop_assert_eq!(scan(bytes.chunks(cut)), scan([bytes.as_slice()]));
    }
}
