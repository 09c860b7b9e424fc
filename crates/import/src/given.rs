//! An object of the input. It remembers which members have been read, so that none is skipped in silence.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::notes::Notes;
use super::units;

/// An object, and its members that have been read.
pub(super) struct Given<'j> {
    /// The imported object that it belongs to, for notes.
    about: String,
    /// The path within that object, with a dot at the end; empty for the object itself.
    path: String,
    members: Option<&'j Map<String, Value>>,
    read: RefCell<BTreeSet<&'j str>>,
    notes: &'j Notes,
}

impl<'j> Given<'j> {
    pub(super) fn new(about: String, members: &'j Map<String, Value>, notes: &'j Notes) -> Self {
        Self { about, path: String::new(), members: Some(members), read: RefCell::default(), notes }
    }

    pub(super) fn about(&self) -> &str {
        &self.about
    }

    /// The names of the members.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'j str> {
        self.members.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// The member, unless it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&'j Value> {
        let (key, value) = self.members?.get_key_value(key)?;
        self.read.borrow_mut().insert(key);
        Some(value).filter(|value| !value.is_null())
    }

    fn mark(&self, key: &str) {
        let _read = self.get(key);
    }

    /// The object of this name; one without members if there is none.
    pub(super) fn part(&self, key: &str) -> Given<'j> {
        let value = self.get(key);
        let members = value.and_then(Value::as_object);
        if value.is_some() && members.is_none() {
            self.odd(key, "an object");
        }
        Given {
            about: self.about.clone(),
            path: format!("{}{key}.", self.path),
            members,
            read: RefCell::default(),
            notes: self.notes,
        }
    }

    /// The objects of a list, each with its index; items of other types are noted.
    pub(super) fn items(&self, key: &str) -> Vec<Given<'j>> {
        let mut items = Vec::new();
        for (at, value) in self.list(key).iter().enumerate() {
            let path = format!("{}{key}[{at}].", self.path);
            match value.as_object() {
                Some(members) => items.push(Given { path, ..Given::new(self.about.clone(), members, self.notes) }),
                None => self.odd(&format!("{key}[{at}]"), "an object"),
            }
        }
        items
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&'j str> {
        self.text_or_empty(key).filter(|text| !text.is_empty())
    }

    pub(super) fn text_or_empty(&self, key: &str) -> Option<&'j str> {
        self.read_as(key, "a text", Value::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.read_as(key, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.read_as(key, "a whole number", Value::as_u64)
    }

    pub(super) fn list(&self, key: &str) -> &'j [Value] {
        self.read_as(key, "a list", |value| value.as_array().map(Vec::as_slice)).unwrap_or_default()
    }

    /// A duration in our form; a number counts `unit`s. `infinity` is none.
    pub(super) fn duration(&self, key: &str, unit: &str) -> Option<String> {
        self.get(key).filter(|value| value.as_str() != Some("infinity"))?;
        self.read_as(key, "a duration", |value| units::duration(value, unit))
    }

    /// A size in our form.
    pub(super) fn size(&self, key: &str) -> Option<String> {
        self.read_as(key, "a size", units::size)
    }

    fn read_as<T>(&self, key: &str, what: &str, read: impl Fn(&'j Value) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let read = read(value);
        if read.is_none() {
            self.odd(key, what);
        }
        read
    }

    fn odd(&self, key: &str, what: &str) {
        self.left_out(key, format_args!("it is not {what}"));
    }

    /// Notes something about a member.
    pub(super) fn note(&self, key: &str, what: impl std::fmt::Display) {
        self.notes.add(&format!("{}: {}{key}", self.about, self.path), what);
    }

    /// Reads a member that has no counterpart, and notes why, if it is set.
    pub(super) fn leave_out(&self, key: &str, why: impl std::fmt::Display) {
        let is_empty = |value: &Value| match value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        };
        if self.get(key).is_some_and(|value| !is_empty(value)) {
            self.left_out(key, why);
        }
    }

    pub(super) fn left_out(&self, key: &str, why: impl std::fmt::Display) {
        self.notes.left_out(&self.about, &format!("{}{key}", self.path), why);
    }

    /// Skips members that are no settings: states, and values that follow from other members.
    pub(super) fn pass_over(&self, keys: &[&str]) {
        keys.iter().for_each(|key| self.mark(key));
    }

    /// Skips all members: none is in force.
    pub(super) fn pass_over_all(&self) {
        self.keys().for_each(|key| self.mark(key));
    }

    /// Notes the members that nothing has read.
    pub(super) fn finish(self) {
        let read = self.read.borrow();
        let unread = self.keys().filter(|key| !read.contains(key)).map(|key| format!("{}{key}", self.path));
        let unread: Vec<String> = unread.collect();
        if !unread.is_empty() {
            self.notes.left_out(&self.about, &unread.join(", "), "there is no such setting here");
        }
    }
}
