//! `Feeds` are the destinations that a message may have.

/// The kinds of destinations that a message may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feeds {
    /// Sinks with filters that match.
    pub(crate) sinks: bool,
    /// Rules with topic filters that match.
    pub(crate) rules: bool,
    /// Subscribers, and the home of a retained message.
    pub(crate) subscribers: bool,
    /// The topic of `[broker]` that takes such messages, from which subscribers get them.
    pub(crate) route: bool,
    /// The topic of `[broker]` with retained messages.
    pub(crate) retained: bool,
}

impl Feeds {
    pub(crate) const ALL: Self = Self { sinks: true, rules: true, subscribers: true, route: true, retained: false };
    pub(crate) const NONE: Self =
        Self { sinks: false, rules: false, subscribers: false, route: false, retained: false };

    /// The same destinations with a `[broker]`: subscribers get the message from its topics.
    pub(crate) const fn by_route(self) -> Self {
        Self { subscribers: false, route: self.subscribers, ..self }
    }

    /// Whether every sink, rule and subscriber that matches a topic gets the message.
    pub(crate) const fn takes_all_matching(self) -> bool {
        self.sinks && self.rules && self.route
    }
}
