//! The settings file in; its settings out, or the line that is wrong.

use crate::config::Error;
use crate::config::FILE;
use crate::config::partial::Partial;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use toml::de::DeTable;

/// A settings file as it was read; empty where there is none and none was named.
pub(super) struct File {
    path: PathBuf,
    text: String,
    /// What it sets.
    pub(super) settings: Partial,
}

impl File {
    /// Reads the file that is named, else the default one if it is there.
    pub(super) fn read(named: Option<&PathBuf>, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Self, Error> {
        let path = named.map_or(Path::new(FILE), PathBuf::as_path).to_owned();
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::Unreadable { path, error }),
        };
        let mut file = Self { path, text, settings: Partial::default() };
        match toml::from_str(&file.text) {
            Ok(settings) => {
                file.settings = settings;
                Ok(file)
            }
            Err(error) => {
                let (line, key) = at(&file.text, error.span().map_or(0, |span| span.start));
                Err(file.error(line, key, &error.message().lines().collect::<Vec<_>>().join(", ")))
            }
        }
    }

    /// What is wrong in a line.
    pub(super) fn error(&self, line: usize, key: Option<&str>, what: &str) -> Error {
        let what = key.map_or_else(|| what.to_owned(), |key| format!("`{key}`: {what}"));
        Error::File { path: self.path.clone(), line, what }
    }

    /// The key that the error is about and the line where it stands, if that is in this file.
    pub(super) fn place(&self, error: &Error) -> Option<(String, usize)> {
        let key = match error {
            Error::Setting { key, .. } => *key,
            Error::Otlp(bad) => bad.setting.as_str(),
            _ => return None,
        };
        let parsed = DeTable::parse(&self.text).ok()?;
        let mut table = parsed.get_ref();
        let mut words = key.split('.').peekable();
        while let Some(word) = words.next() {
            let (name, value) = table.iter().find(|(name, _)| name.get_ref() == word)?;
            if words.peek().is_none() {
                return Some((key.to_owned(), at(&self.text, name.span().start).0));
            }
            table = value.get_ref().as_table()?;
        }
        None
    }

    /// What it sets beside `table.key` or `key`.
    pub(super) fn without(&self, key: &str) -> Partial {
        let mut all: toml::Table = self.text.parse().unwrap_or_default();
        match key.split_once('.') {
            Some((table, key)) => all.get_mut(table).and_then(|table| table.as_table_mut()?.remove(key)),
            None => all.remove(key),
        };
        all.try_into().unwrap_or_default()
    }
}

/// The line of a place, from 1, and the key or table that stands there. Its value may be a secret.
fn at(text: &str, place: usize) -> (usize, Option<&str>) {
    let line = text.get(..place).unwrap_or(text).matches('\n').count();
    let content = text.lines().nth(line).unwrap_or_default().trim();
    let (key, _value) = content.split_once('=').unwrap_or((if content.starts_with('[') { content } else { "" }, ""));
    (line + 1, Some(key.trim()).filter(|key| !key.is_empty()))
}
