//! What a template is over: its variables, how their names are read, and what each puts in.

use std::fmt;

use super::template::Fixed;

/// The variables of a kind of template: how their names are read, and what each puts in.
pub trait Vocabulary: Clone + fmt::Debug + PartialEq + Eq + fmt::Display {
    /// `Context` is what a template is rendered for.
    type Context<'a>;
    /// `Absent` says why a template cannot be rendered.
    type Absent;

    /// Reads a name as it stands between `${` and `}`.
    ///
    /// # Errors
    /// It is the name of no variable.
    fn named(name: &str, fixed: &Fixed<'_>) -> Result<Named<Self>, Wrong>;

    /// Whether a text begins with a variable that a path follows, in which names may be quoted.
    fn has_path(text: &str) -> bool;

    /// Appends the variable's bytes.
    ///
    /// # Errors
    /// The context does not have it; then `out` is as it was.
    fn write(&self, context: &Self::Context<'_>, out: &mut Vec<u8>) -> Result<(), Self::Absent>;
}

/// What a name between `${` and `}` stands for.
#[derive(Debug)]
pub enum Named<V> {
    /// One of the variables.
    Variable(V),
    /// A text that is known already.
    Text(String),
}

/// What is wrong with a name, and what to do.
pub type Wrong = (String, String);
