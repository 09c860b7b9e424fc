//! mosquitto's password file. A line is `user:hash`; empty lines and lines that begin with `#` are skipped.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::decoys::{Decoys, Key};
use super::password::{Hashing, Stored};
use super::problems::Problems;
use crate::secure::is_identity;

/// The users of a file.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    decoys: Decoys,
}

/// A user of the file.
#[derive(Clone, Debug)]
pub struct User {
    /// The hash of the password.
    pub stored: Arc<Stored>,
    /// A hash of the line, which changes with the password: the same in every version and on every machine, as instances compare them.
    pub print: u64,
}

impl Users {
    /// Reads a file by itself, with decoys of a new key each time.
    ///
    /// # Errors
    /// As [`Users::parse`].
    pub fn parse_alone(text: &str) -> Result<Self, Vec<String>> {
        Self::parse(text, Key::of(None))
    }

    /// Reads a file. `key`: the key of its decoys.
    ///
    /// # Errors
    /// The lines that are wrong, and why.
    pub(super) fn parse(text: &str, key: Key) -> Result<Self, Vec<String>> {
        let mut problems = Problems::default();
        let mut by_name = HashMap::new();
        let mut stored_all = Vec::new();
        for (number, line, user) in lines(text) {
            let (name, stored) = match user {
                Ok(user) => user,
                Err(why) => {
                    problems.add(number, why);
                    continue;
                }
            };
            let print = xxh3_64(line.as_bytes());
            let stored = Arc::new(stored);
            stored_all.push(Arc::clone(&stored));
            if by_name.insert(name.into(), User { stored, print }).is_some() {
                problems.add(number, format!("has the user {name:?} for the second time"));
            }
        }
        let decoys = Decoys::new(key, stored_all.iter().map(|stored| &**stored));
        problems.or(Self { by_name, decoys })
    }

    /// A user.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// The decoys of unknown users.
    pub(super) fn decoys(&self) -> &Decoys {
        &self.decoys
    }

    /// The number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Whether a password file can have a user of this name.
///
/// # Errors
/// Why it cannot, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    if is_identity(name) && !name.starts_with('#') && !name.contains(':') {
        return Ok(());
    }
    Err(format!(
        "{name:?}: a user name has 1 to 256 bytes, no colon and no control characters, and does not begin with #"
    ))
}

fn is_of(line: &str, user: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name == user)
}

/// Whether a file has a user.
#[must_use]
pub fn has(text: &str, user: &str) -> bool {
    text.lines().any(|line| is_of(line, user))
}

/// The file's text with the user's line replaced, or appended if there is none; `None`: with the user's line removed.
#[must_use]
pub fn with_line(text: &str, user: &str, mut line: Option<&str>) -> String {
    let mut changed = String::with_capacity(text.len() + line.map_or(0, str::len) + 1);
    for known in text.lines() {
        if let Some(kept) = if is_of(known, user) { line.take() } else { Some(known) } {
            changed.push_str(kept);
            changed.push('\n');
        }
    }
    if let Some(line) = line {
        changed.push_str(line);
        changed.push('\n');
    }
    changed
}

/// The contents of a file, for people.
#[derive(Debug, Default)]
pub struct Listed {
    /// Users in their order, with how the password of each is stored.
    pub users: Vec<(String, Hashing)>,
    /// Lines that are wrong, and why.
    pub problems: Vec<String>,
}

/// The users of a file. Wrong lines do not hide the others.
#[must_use]
pub fn listed(text: &str) -> Listed {
    let mut problems = Problems::default();
    let mut users = Vec::new();
    for (number, _, user) in lines(text) {
        match user {
            Ok((name, stored)) => users.push((name.to_owned(), stored.hashing())),
            Err(why) => problems.add(number, why),
        }
    }
    Listed { users, problems: problems.or(()).err().unwrap_or_default() }
}

/// The kind of hash of a user's password, or of most users' if there is no such user; `None`: the file has none.
#[must_use]
pub fn hashing_for(text: &str, user: &str) -> Option<Hashing> {
    let users = listed(text).users;
    if let Some((_, own)) = users.iter().find(|(name, _)| name == user) {
        return Some(*own);
    }
    let count = |how: Hashing| users.iter().filter(|(_, of)| of.word() == how.word()).count();
    // The newest user of the most frequent kind has the wanted cost.
    let newest = ["argon2id", "scram", "pbkdf2", "sha512"].into_iter();
    let newest = newest.filter_map(|word| users.iter().rev().map(|(_, how)| *how).find(|how| how.word() == word));
    newest.rev().max_by_key(|how| count(*how))
}

/// A line of a file that is about a user: its number from 1, the line, and the user or why it is none.
type Line<'a> = (u32, &'a str, Result<(&'a str, Stored), String>);

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let lines = (1_u32..).zip(text.lines().map(str::trim_end));
    lines.filter(|(_, line)| !(line.is_empty() || line.starts_with('#'))).map(|(number, line)| {
        let user = line.split_once(':').ok_or_else(|| "is not `user:hash`".to_owned());
        (number, line, user.and_then(|(name, hash)| Ok((checked(name)?, Stored::parse(hash)?))))
    })
}

fn checked(name: &str) -> Result<&str, String> {
    let wrong = || "has no user name of 1 to 256 bytes without control characters".to_owned();
    Some(name).filter(|name| is_identity(name)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::password;
    use super::*;

    /// X28: mosquitto's password file as it is.
    #[test]
    fn a_file_as_mosquitto_passwd_leaves_it() {
        let hash = password::sha512_of(b"one").unwrap();
        let users = Users::parse_alone(&format!("# devices\n\nalice:{hash}\nbob smith:{hash}\n")).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.get("bob smith").is_some_and(|user| user.stored.matches(b"one")));
        assert!(
            users.get("carol").is_none()
                && users.decoys().password("carol").is_some_and(|decoy| !decoy.matches(b"one"))
        );
        assert!(Users::parse_alone("").unwrap().is_empty());
    }

    #[test]
    fn a_line_takes_the_place_of_the_user_s_own() {
        let text = "# devices\nada:1\nbob:2";
        assert_eq!(with_line(text, "ada", Some("ada:3")), "# devices\nada:3\nbob:2\n");
        assert_eq!(with_line(text, "eve", Some("eve:3")), "# devices\nada:1\nbob:2\neve:3\n");
        assert_eq!(with_line(text, "ada", None), "# devices\nbob:2\n");
        assert!(has(text, "bob") && !has(text, "bo") && !has(text, "# devices"));
        for name in ["", "a:b", "#a", "a\nb"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_new_password_is_stored_as_the_others_are() {
        let (slow, quick) = (password::argon2id_of(b"one").unwrap(), password::sha512_of(b"one").unwrap());
        let known: &[&str] = include!("password_vectors.rs");
        let old = known.iter().find(|text| text.starts_with("$7$")).unwrap();
        let text = format!("a:{slow}\nb:{quick}\nc:{old}\nbroken\nd:{old}\n");
        assert_eq!(hashing_for(&text, "b"), Some(Hashing::Sha512));
        let Some(Hashing::Pbkdf2 { iterations }) = hashing_for(&text, "new") else { panic!("the most frequent") };
        assert!(old.contains(&format!("$7${iterations}$")));
        assert_eq!(hashing_for(&format!("a:{slow}\nb:{quick}\n"), "new"), Some(Hashing::Argon2id), "the slower one");
        assert_eq!(hashing_for("", "new"), None);
        let Listed { users, problems } = listed(&text);
        assert_eq!((users.len(), problems.as_slice()), (4, &["line 4 is not `user:hash`".to_owned()][..]));
    }

    /// X34: a changed line is another one.
    #[test]
    fn a_changed_password_has_another_print() {
        let (one, two) = (password::sha512_of(b"one").unwrap(), password::sha512_of(b"one").unwrap());
        let print = |hash: &str| Users::parse_alone(&format!("alice:{hash}")).unwrap().get("alice").unwrap().print;
        assert_ne!(print(&one), print(&two));
        assert_eq!(print(&one), print(&one));
        let pinned = "alice:$6$c2FsdHNhbHQ=$4XAxRRXiYS0=";
        assert_eq!(xxh3_64(pinned.as_bytes()), 11_842_344_926_546_559_834);
    }

    /// X28: a wrong line or a user that is there twice refuses the file.
    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let hash = password::sha512_of(b"one").unwrap();
        for (text, why) in [
            (format!("a:{hash}\nb"), "line 2 is not `user:hash`"),
            (format!("a:{hash}\n:{hash}"), "line 2 has no user name"),
            (format!("a:{hash}\nb:plain"), "line 2 is no hash"),
            (format!("a:{hash}\n\na:{hash}"), "line 3 has the user \"a\" for the second time"),
        ] {
            let refused = Users::parse_alone(&text).expect_err(&text).join("\n");
            assert!(refused.starts_with(why), "{refused}");
            assert!(!refused.contains(&hash), "{refused}");
        }
    }

    #[test]
    fn finding_f14_all_wrong_lines_are_named() {
        let hash = password::sha512_of(b"one").unwrap();
        let refused = Users::parse_alone(&format!("a\nb:{hash}\nc:plain\nb:{hash}")).expect_err("three are wrong");
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[1].starts_with("line 3 ") && refused[2].starts_with("line 4 "), "{refused:?}");
        let refused = Users::parse_alone(&"x\n".repeat(1_000)).expect_err("all are wrong");
        assert_eq!((refused.len(), refused.last().map(String::as_str)), (21, Some("980 more lines are wrong")));
    }
}
