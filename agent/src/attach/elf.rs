//! An object file in, the functions it defines out: names, code and where the code lies in the file.

use object::Object as _;
use object::ObjectSegment as _;
use object::ObjectSymbol as _;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use thiserror::Error;

/// The longest function whose end is looked for; what is longer is cut.
const CODE_BYTES: u64 = 64 * 1024;

/// Why an object could not be read.
#[derive(Debug, Error)]
pub enum ElfError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no ELF object.
    #[error("{path} is no readable object: {source}")]
    Parse {
        /// The file.
        path: String,
        /// What the parser said.
        source: object::Error,
    },
}

/// One function of an object file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Where it starts in the file.
    pub file_offset: u64,
    /// Its instructions.
    pub code: Vec<u8>,
}

/// The functions among `names` that the object defines, in .dynsym or .symtab.
///
/// # Errors
///
/// The file cannot be read or is no ELF object.
pub fn functions(path: &Path, names: &[&str]) -> Result<BTreeMap<String, Function>, ElfError> {
    let mut found = BTreeMap::new();
    read(
        path,
        |name, _| names.contains(&name),
        |name, function| {
            found.entry(name.to_owned()).or_insert(function);
        },
    )?;
    Ok(found)
}

/// The functions that start at these places of the file, whatever their names.
///
/// # Errors
///
/// The file cannot be read or is no ELF object.
pub fn functions_at(path: &Path, offsets: &BTreeSet<u64>) -> Result<Vec<Function>, ElfError> {
    let mut found = BTreeMap::new();
    read(
        path,
        |_, offset| offsets.contains(&offset),
        |_, function| {
            found.insert(function.file_offset, function);
        },
    )?;
    Ok(found.into_values().collect())
}

fn read(path: &Path, wanted: impl Fn(&str, u64) -> bool, mut take: impl FnMut(&str, Function)) -> Result<(), ElfError> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|source| ElfError::Io { path: name(), source })?;
    // Read on demand: a front end's binary may have hundreds of megabytes.
    let cache = object::ReadCache::new(&file);
    let object = object::File::parse(&cache).map_err(|source| ElfError::Parse { path: name(), source })?;
    let segments: Vec<(u64, u64, u64)> = object
        .segments()
        .map(|segment| {
            let (offset, size) = segment.file_range();
            (segment.address(), offset, size)
        })
        .collect();
    for symbol in object.dynamic_symbols().chain(object.symbols()) {
        let Ok(symbol_name) = symbol.name() else { continue };
        if !symbol.is_definition() || symbol.address() == 0 {
            continue;
        }
        let inside = segments
            .iter()
            .find(|(address, _, size)| symbol.address().checked_sub(*address).is_some_and(|distance| distance < *size));
        let Some((address, offset, size)) = inside else { continue };
        let distance = symbol.address() - address;
        let file_offset = offset + distance;
        if !wanted(symbol_name, file_offset) {
            continue;
        }
        let length = symbol.size().min(size - distance).min(CODE_BYTES);
        let mut code = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut code, file_offset).map_err(|source| ElfError::Io { path: name(), source })?;
        take(symbol_name, Function { file_offset, code });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_defined_function_and_only_that() {
        let own = std::env::current_exe().unwrap();
        let found = functions(&own, &["main", "no_such_function"]).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["main"]);
        let main = &found["main"];
        assert!(!main.code.is_empty());
        let at = functions_at(&own, &BTreeSet::from([main.file_offset, 1])).unwrap();
        assert_eq!(at, std::slice::from_ref(main));
    }

    #[test]
    fn a_text_file_is_no_object() {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(matches!(functions(&text, &["main"]), Err(ElfError::Parse { .. })));
    }
}
