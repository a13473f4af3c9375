//! A table of JSON paths in, a tree to walk while scanning out.
//!
//! A path is keys joined by dots; `[]` stands for every element of an array: `choices[].delta.content`.

use std::collections::BTreeMap;

/// Kept of a string of which only matters whether something is in it.
pub const SOME: usize = 4;

/// What is wanted at one place of a document: the field's name and how many bytes of a string are kept.
#[derive(Debug, Clone, Copy)]
pub struct Want<F> {
    /// What the consumer calls it.
    pub field: F,
    /// Bytes of a string that are kept, at least [`SOME`] so that one character always fits.
    pub cap: usize,
}

/// One row of a table: path, field, bytes of a string that are kept.
pub type Row<F> = (&'static str, F, usize);

/// The places below one value that lead to something wanted.
#[derive(Debug)]
pub struct Node<F> {
    want: Option<Want<F>>,
    keys: BTreeMap<&'static [u8], Self>,
    each: Option<Box<Self>>,
}

impl<F> Default for Node<F> {
    fn default() -> Self {
        Self { want: None, keys: BTreeMap::new(), each: None }
    }
}

impl<F: Copy> Node<F> {
    /// Adds a table below `prefix` (`""` for the document itself).
    #[must_use]
    pub fn with(mut self, prefix: &'static str, rows: &[Row<F>]) -> Self {
        let base = self.reach(prefix);
        for &(path, field, cap) in rows {
            base.reach(path).want = Some(Want { field, cap });
        }
        self
    }

    /// What is wanted here.
    pub fn want(&self) -> Option<Want<F>> {
        self.want
    }

    /// Whether any key below is of interest.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether any key below begins so.
    pub fn has_key_with(&self, beginning: &[u8]) -> bool {
        self.keys.range(beginning..).next().is_some_and(|(key, _)| key.starts_with(beginning))
    }

    /// The place below a key.
    pub fn key(&self, key: &[u8]) -> Option<&Self> {
        self.keys.get(key)
    }

    /// The place of each element of an array.
    pub fn each(&self) -> Option<&Self> {
        self.each.as_deref()
    }

    fn reach(&mut self, path: &'static str) -> &mut Self {
        if path.is_empty() {
            return self;
        }
        if let Some(rest) = path.strip_prefix("[]") {
            return self.each.get_or_insert_default().reach(rest);
        }
        let path = path.strip_prefix('.').unwrap_or(path);
        let (key, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        self.keys.entry(key.as_bytes()).or_default().reach(rest)
    }
}
