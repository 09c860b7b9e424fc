//! `Search` finds a text in others.

/// A text to search others for, in any case.
pub struct Search<'a> {
    text: &'a str,
    lower: String,
}

impl<'a> Search<'a> {
    /// A search for a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, lower: text.to_lowercase() }
    }

    /// Whether the text is in another.
    pub fn is_in(&self, other: &str) -> bool {
        // The usual case takes no memory.
        other.contains(self.text) || other.to_lowercase().contains(&self.lower)
    }
}
