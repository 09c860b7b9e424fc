//! The vocabulary of a template: its variables, the parser of their names, and their values.

use std::fmt;

use super::template::Fixed;

/// The variables of a kind of template: the parser of their names, and their values.
pub trait Vocabulary: Clone + fmt::Debug + PartialEq + Eq + fmt::Display {
    /// `Context` is the input that a template is rendered for.
    type Context<'a>;
    /// `Absent` is the reason why a template cannot be rendered.
    type Absent;

    /// Reads the name between `${` and `}`.
    ///
    /// # Errors
    /// No variable has this name.
    fn named(name: &str, fixed: &Fixed<'_>) -> Result<Named<Self>, Wrong>;

    /// Whether a text begins with a variable that a path follows, in which names may be quoted.
    fn has_path(text: &str) -> bool;

    /// Appends the variable's bytes.
    ///
    /// # Errors
    /// The context lacks the variable; `out` is unchanged then.
    fn write(&self, context: &Self::Context<'_>, out: &mut Vec<u8>) -> Result<(), Self::Absent>;
}

/// The meaning of a name between `${` and `}`.
#[derive(Debug)]
pub enum Named<V> {
    /// A variable.
    Variable(V),
    /// A text that is known already.
    Text(String),
}

/// The error of a name, and the remedy.
pub type Wrong = (String, String);
