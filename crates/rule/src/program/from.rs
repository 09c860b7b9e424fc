//! FROM: topic filters of messages, sources and events.

use crate::event::{self, Event};
use crate::field::{Field, Table};
use crate::sql::ast::{Source, Statement};
use crate::sql::error::nearest;
use crate::sql::{Error, Place};
use crate::{message, record_fields};
use forebay_mqtt::topic;

/// The prefixes of sources in FROM: EMQX's two words for them.
const SOURCES: [&str; 2] = ["$bridges/kafka_consumer:", "$sources/kafka_consumer:"];

/// The subjects that a rule is for.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// Valid topic filters.
    pub(super) filters: Vec<Box<str>>,
    /// Sources, once each.
    pub(super) sources: Vec<SourceName>,
    /// Events, once each.
    pub(super) events: Vec<Event>,
    /// The fields of all of these, in descending order of their names.
    pub(super) fields: Vec<Field>,
}

/// A source that FROM names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceName {
    /// The name of the source.
    pub name: Box<str>,
    /// The place in the text.
    pub place: Place,
}

impl Origins {
    pub(super) fn of(tree: &Statement) -> Result<Self, Error> {
        let mut origins = Self::default();
        for source in &tree.from {
            origins.add(source)?;
        }
        let mut tables: Vec<Table> = Vec::new();
        tables.extend((!origins.filters.is_empty()).then_some(message::FIELDS));
        tables.extend((!origins.sources.is_empty()).then_some(record_fields::FIELDS));
        tables.extend(origins.events.iter().map(|event| event.fields()));
        origins.fields = tables.into_iter().flatten().map(|(field, _)| *field).collect();
        origins.fields.sort_unstable();
        origins.fields.dedup();
        Ok(origins)
    }

    fn add(&mut self, source: &Source) -> Result<(), Error> {
        let (name, place) = (source.name.as_str(), source.place);
        if let Some(name) = SOURCES.iter().find_map(|kind| name.strip_prefix(kind)) {
            if name.is_empty() {
                return Err(Error::new(place, "a source has a name").hint(format!("{}NAME", SOURCES[0])));
            }
            if !self.sources.iter().any(|known| *known.name == *name) {
                self.sources.push(SourceName { name: name.into(), place });
            }
            return Ok(());
        }
        if ["$bridges/", "$sources/"].iter().any(|kind| name.starts_with(kind)) {
            let what = format!("`{name}` is not supported yet");
            return Err(Error::new(place, what).hint(format!("there is {}NAME, a [[source]] of that name", SOURCES[0])));
        }
        if name.starts_with(event::PREFIX) {
            return self.add_event(name, place);
        }
        if topic::is_shared(name) {
            return Err(Error::new(place, "a rule has no part in a shared subscription")
                .hint("every message goes to every rule whose filter matches: name the filter alone"));
        }
        if !topic::valid_filter(name) {
            return Err(Error::new(place, format!("`{name}` is no topic filter"))
                .hint("`#` only as the last level, `+` only as a whole level"));
        }
        self.filters.push(name.into());
        Ok(())
    }

    fn add_event(&mut self, name: &str, place: Place) -> Result<(), Error> {
        let Some(event) = Event::named(name) else {
            let names = || Event::ALL.iter().flat_map(|event| event.names());
            let what = if Event::is_missing(name) { "is not supported yet" } else { "is no event" };
            let near = nearest(name.trim_start_matches(event::PREFIX), names()).filter(|_| !Event::is_missing(name));
            let hint = match near {
                Some(near) => format!("did you mean `{}{near}`?", event::PREFIX),
                None => {
                    let all: Vec<_> = Event::ALL.iter().map(|event| event.from()).collect();
                    format!("there are {}", all.join(", "))
                }
            };
            return Err(Error::new(place, format!("`{name}` {what}")).hint(hint));
        };
        if !self.events.contains(&event) {
            self.events.push(event);
        }
        Ok(())
    }

    /// A field of the rule's subjects, by its name.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        Field::named(name).filter(|field| self.fields.contains(field))
    }

    /// The kind of subject that the rule is for, in a word.
    pub(super) fn what(&self) -> &'static str {
        match (self.filters.is_empty(), self.sources.is_empty(), self.events.is_empty()) {
            (_, true, true) => "messages",
            (true, false, true) => "records",
            (true, true, false) => "its events",
            _ => "what FROM names",
        }
    }
}

/// The name of a source in FROM.
#[must_use]
pub fn from_text(source: &str) -> String {
    format!("{}{source}", SOURCES[0])
}
