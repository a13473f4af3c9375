//! Paths in; what their files mean out, read anew when they have changed. Files that cannot be used change nothing.

use crate::vitals::Vitals;
use ring::digest;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// Makes something of the contents of files, in their order, or says what is wrong with which.
type Read<T> = dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync;

/// Files, and what they last meant.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Box<Read<T>>,
    every: Duration,
    vitals: Arc<Vitals>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Instant,
    /// Of what was read last, whether it could be used or not: each pair is tried once.
    tried: digest::Digest,
    current: Arc<T>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    /// Reads the files; they are looked at again when somebody asks, and no sooner than after `every`.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        read: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
        every: Duration,
        vitals: &Arc<Vitals>,
    ) -> Result<Self, String> {
        let contents = contents(&paths)?;
        let state = State { looked: Instant::now(), tried: of(&contents), current: Arc::new(read(&contents)?) };
        Ok(Self { paths, read: Box::new(read), every, vitals: Arc::clone(vitals), state: Mutex::new(state) })
    }

    /// What the files mean now, or meant when they last could be used.
    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= self.every {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        Arc::clone(&state.current)
    }

    fn look(&self, state: &mut State<T>) {
        // A file that is not there this moment is being replaced, or is a failure like any other.
        let contents = contents(&self.paths);
        let now =
            contents.as_ref().map_or_else(|error| digest::digest(&digest::SHA256, error.as_bytes()), |all| of(all));
        if now.as_ref() == state.tried.as_ref() {
            return;
        }
        state.tried = now;
        match contents.and_then(|contents| (self.read)(&contents)) {
            Ok(new) => {
                tracing::info!(files = ?self.paths, "changed files are in use");
                state.current = Arc::new(new);
            }
            Err(error) => {
                tracing::warn!(error, files = ?self.paths, "changed files cannot be used; what they held before stays");
                self.vitals.listener_reload_failures.one();
            }
        }
    }
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    paths.iter().map(read).collect()
}

/// Keys are not kept a second time to be compared.
fn of(contents: &[Vec<u8>]) -> digest::Digest {
    let mut sum = digest::Context::new(&digest::SHA256);
    for content in contents {
        sum.update(&content.len().to_le_bytes());
        sum.update(content);
    }
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_anew_when_they_change_and_bad_ones_change_nothing() {
        let folder = std::env::temp_dir().join(format!("tachograph-watched-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.join(name));
        let write = |path: &PathBuf, text: &str| std::fs::write(path, text).unwrap();
        write(&a, "1");
        write(&b, "1");
        let vitals = Arc::new(Vitals::default());
        let pair = |files: &[Vec<u8>]| match files {
            [a, b] if a == b => Ok(a.clone()),
            _ => Err("no pair".to_owned()),
        };
        let watched = Watched::open(vec![a.clone(), b.clone()], pair, Duration::ZERO, &vitals).unwrap();
        let state = || (watched.get().as_slice().to_vec(), vitals.listener_reload_failures.get());
        assert_eq!(state(), (b"1".to_vec(), 0));
        write(&a, "2");
        assert_eq!(state(), (b"1".to_vec(), 1), "half of a pair");
        assert_eq!(state(), (b"1".to_vec(), 1), "counted once");
        write(&b, "2");
        assert_eq!(state(), (b"2".to_vec(), 1));
        std::fs::remove_file(&b).unwrap();
        assert_eq!(state(), (b"2".to_vec(), 2));
        write(&b, "2");
        assert_eq!(state(), (b"2".to_vec(), 2), "as it was");
        let slow =
            Watched::open(vec![a.clone()], |files| Ok(files.to_vec()), Duration::from_hours(1), &vitals).unwrap();
        write(&a, "3");
        assert_eq!(slow.get().as_slice(), [b"2"], "not looked at yet");
        assert!(
            Watched::open(vec![folder.join("c")], |_| Ok(()), Duration::ZERO, &vitals).unwrap_err().contains("/c: ")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
