//! A value and what to say above it in, a YAML document as every reader of 1.1 and 1.2 understands it out.

use crate::kit::Error;
use crate::kit::File;
use serde::Serialize;
use std::fmt::Write as _;

/// A file with one document; each line of `about` becomes a comment at its top.
///
/// # Errors
///
/// What the serializer says, which it does of values that are no YAML.
pub fn file(path: &str, about: &str, value: &impl Serialize) -> Result<File, Error> {
    let mut text = String::new();
    for line in about.lines() {
        // Writing to a String cannot fail.
        let _always_ok = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    let document = serde_saphyr::to_string(value);
    text.push_str(&document.map_err(|what| Error::Yaml { path: path.to_owned(), what: what.to_string() })?);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(File::new(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_that_a_reader_might_take_for_something_else_are_quoted() {
        let value = json!({"a": "yes", "b": "15", "c": "1:30", "d": "x: y", "e": "*", "f": 1.5, "g": "5m", "h": ["2"]});
        let text = file("a.yml", "one\n\ntwo", &value).unwrap().text;
        assert!(text.starts_with("# one\n#\n# two\n"), "{text}");
        let plain: Vec<&str> = text.lines().filter(|line| !line.contains(['"', '\'', '#'])).collect();
        assert_eq!(plain, ["f: 1.5", "g: 5m", "h:"], "{text}");
    }
}
