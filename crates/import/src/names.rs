//! Names that are allowed here, each given once.

use std::collections::BTreeSet;

use super::notes::Notes;
use forebay_config::EMBEDDED;

/// The longest name; a number may follow.
const NAME_LEN_MAX: usize = 90;

/// Names of one kind of object.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The name, or the closest one that is allowed and free.
    pub(super) fn give(&mut self, wanted: &str, about: &str, notes: &Notes) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
        let mut name: String = wanted.chars().map(legal).take(NAME_LEN_MAX).collect();
        if name.is_empty() {
            name = "unnamed".to_owned();
        } else if name == EMBEDDED {
            name = format!("emqx-{name}");
        }
        let first = name.clone();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{first}-{number}");
            number += 1;
        }
        if name != wanted {
            let why =
                if name == first { "letters, digits, `.`, `_` and `-` are allowed" } else { "that name is taken" };
            notes.add(about, format_args!("is named \"{name}\" here: {why}"));
        }
        name
    }
}
