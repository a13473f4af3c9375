//! Files of passwords and tokens in; whether one is among them, out. What is secret is kept and compared as a keyed
//! hash, so that neither a reader of memory nor a clock learns it.

use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What a hash may cost: 2 to this power of rounds. More would take a processor for seconds.
const COST_MOST: u32 = 14;

/// Makes keyed hashes, with a key of this process.
#[derive(Debug)]
struct Seal(hmac::Key);

impl Seal {
    fn new() -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_unspecified| "the system gives no random numbers".to_owned())
    }

    fn of(&self, secret: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, secret)
    }

    /// In constant time.
    fn fits(&self, secret: &[u8], tag: &hmac::Tag) -> bool {
        hmac::verify(&self.0, secret, tag.as_ref()).is_ok()
    }
}

/// The tokens of a file, one a line.
#[derive(Debug)]
pub(super) struct Tokens {
    seal: Seal,
    tags: Vec<hmac::Tag>,
}

impl Tokens {
    /// Reads the file's text.
    pub(super) fn read(files: &[Vec<u8>]) -> Result<Self, String> {
        let seal = Seal::new()?;
        let lines = lines(files)?;
        let tags: Vec<_> = lines.iter().map(|(_, token)| seal.of(token.as_bytes())).collect();
        if tags.is_empty() { Err("no token in it".to_owned()) } else { Ok(Self { seal, tags }) }
    }

    /// Whether this is one of them.
    pub(super) fn hold(&self, token: &[u8]) -> bool {
        self.tags.iter().fold(false, |found, tag| found | self.seal.fits(token, tag))
    }
}

/// The users of a file of `name:hash`, as `htpasswd -B` writes it.
pub(super) struct Users {
    seal: Seal,
    users: BTreeMap<String, User>,
}

struct User {
    hash: String,
    /// The password that was last found right.
    right: Mutex<Option<hmac::Tag>>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.keys()).finish()
    }
}

impl Users {
    /// Reads the file's text.
    pub(super) fn read(files: &[Vec<u8>]) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for (line, text) in lines(files)?.into_iter().filter(|(_, text)| !text.starts_with('#')) {
            let (name, hash) = text.split_once(':').ok_or_else(|| format!("line {line} is not name:hash"))?;
            let parts: bcrypt::HashParts = hash
                .parse()
                .map_err(|_bad| format!("line {line}: the hash is none of bcrypt, as `htpasswd -B` makes it"))?;
            if !(4..=COST_MOST).contains(&parts.get_cost()) {
                return Err(format!("line {line}: a cost of {} is not from 4 to {COST_MOST}", parts.get_cost()));
            }
            let user = User { hash: hash.to_owned(), right: Mutex::default() };
            if name.is_empty() || users.insert(name.to_owned(), user).is_some() {
                return Err(format!("line {line}: no name, or one that stands above"));
            }
        }
        if users.is_empty() { Err("no user in it".to_owned()) } else { Ok(Self { seal: Seal::new()?, users }) }
    }

    /// Whether this password was found right before; cheap.
    pub(super) fn recall(&self, name: &str, password: &[u8]) -> bool {
        self.users.get(name).is_some_and(|user| {
            let right = user.right.lock().unwrap_or_else(PoisonError::into_inner);
            right.as_ref().is_some_and(|tag| self.seal.fits(password, tag))
        })
    }

    /// Whether it is right; takes a processor for some tenth of a second, for a name that is not there too.
    pub(super) fn check(&self, name: &str, password: &[u8]) -> bool {
        let known = self.users.get(name);
        let Some(user) = known.or_else(|| self.users.values().next()) else { return false };
        let right = bcrypt::verify(password, &user.hash).unwrap_or(false) && known.is_some();
        if right {
            *user.right.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.seal.of(password));
        }
        right
    }
}

/// Lines that are not empty, with their numbers.
fn lines(files: &[Vec<u8>]) -> Result<Vec<(usize, &str)>, String> {
    let text = files.first().map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_bad| "no UTF-8".to_owned())?;
    let lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    Ok(lines.filter(|(_, line)| !line.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, cost 4.
    fn hash() -> String {
        bcrypt::hash("secret", 4).unwrap()
    }

    fn users(text: &str) -> Result<Users, String> {
        Users::read(&[text.as_bytes().to_vec()])
    }

    #[test]
    fn a_right_password_is_remembered_and_a_wrong_one_is_not() {
        let users = users(&format!("# those who scrape\n\nprom:{}\nother:{}\n", hash(), hash())).unwrap();
        assert!(!users.recall("prom", b"secret"));
        assert!(!users.check("prom", b"wrong") && !users.recall("prom", b"wrong"));
        assert!(!users.check("nobody", b"secret"), "whose hash stood in for it");
        assert!(users.check("prom", b"secret") && users.recall("prom", b"secret"));
        assert!(!users.recall("other", b"secret") && !users.recall("prom", b"secreT"));
        assert_eq!(format!("{users:?}"), "[\"other\", \"prom\"]");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_without_the_line() {
        let dear = hash().replace("$04$", "$15$");
        for (text, says) in [
            (String::new(), "no user"),
            ("prom".to_owned(), "line 1 is not name:hash"),
            ("\nprom:secret".to_owned(), "line 2: the hash"),
            (format!("prom:{dear}"), "line 1: a cost of 15"),
            (format!("a:{0}\na:{0}", hash()), "line 2: no name"),
            (format!(":{}", hash()), "line 1: no name"),
        ] {
            let error = users(&text).unwrap_err();
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
        assert!(Users::read(&[vec![0xff]]).is_err());
    }

    #[test]
    fn each_token_of_the_file_is_one() {
        let tokens = Tokens::read(&[b"old\n\n new \n".to_vec()]).unwrap();
        let held = ["old", "new", "ne", "neww", "", "old\n"].map(|token| tokens.hold(token.as_bytes()));
        assert_eq!(held, [true, true, false, false, false, false]);
        assert!(Tokens::read(&[b" \n".to_vec()]).is_err());
        assert!(!format!("{tokens:?}").contains("old"));
    }
}
