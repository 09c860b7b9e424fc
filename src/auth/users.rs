//! A password file: mosquitto's, as it is. A line is `user:hash`; empty lines and lines that begin with `#` are passed over.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::decoys::{Decoys, Key};
use super::password::Stored;
use super::problems::Problems;
use crate::secure::is_identity;

/// The users of a file.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    decoys: Decoys,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct User {
    /// The hash of the password.
    pub stored: Arc<Stored>,
    /// Of the line: it changes with the password.
    pub print: u64,
}

impl Users {
    /// Reads a file by itself, with decoys of another key each time.
    ///
    /// # Errors
    /// As [`Users::parse`].
    pub fn parse_alone(text: &str) -> Result<Self, Vec<String>> {
        Self::parse(text, Key::of(None))
    }

    /// Reads a file. `key`: of its decoys.
    ///
    /// # Errors
    /// Which lines are wrong and why.
    pub(super) fn parse(text: &str, key: Key) -> Result<Self, Vec<String>> {
        let mut problems = Problems::default();
        let mut by_name = HashMap::new();
        let mut lines = Vec::new();
        for (number, line) in (1_u32..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = line.split_once(':').ok_or_else(|| "is not `user:hash`".to_owned());
            let user = user.and_then(|(name, hash)| Ok((checked(name)?, Stored::parse(hash)?)));
            let (name, stored) = match user {
                Ok(user) => user,
                Err(why) => {
                    problems.add(number, why);
                    continue;
                }
            };
            let print = BuildHasherDefault::<DefaultHasher>::default().hash_one(line);
            let stored = Arc::new(stored);
            lines.push(Arc::clone(&stored));
            if by_name.insert(name.into(), User { stored, print }).is_some() {
                problems.add(number, format!("has the user {name:?} for the second time"));
            }
        }
        let decoys = Decoys::new(key, lines.iter().map(|stored| &**stored));
        problems.or(Self { by_name, decoys })
    }

    /// A user.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// What unknown users are compared with and told.
    pub(super) fn decoys(&self) -> &Decoys {
        &self.decoys
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
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

    /// X34: a changed line is another one.
    #[test]
    fn a_changed_password_has_another_print() {
        let (one, two) = (password::sha512_of(b"one").unwrap(), password::sha512_of(b"one").unwrap());
        let print = |hash: &str| Users::parse_alone(&format!("alice:{hash}")).unwrap().get("alice").unwrap().print;
        assert_ne!(print(&one), print(&two));
        assert_eq!(print(&one), print(&one));
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
