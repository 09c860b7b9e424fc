//! `Feeds` are the destinations that a message may have.

/// The kinds of destinations that a message may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feeds {
    /// Sinks with filters that match.
    pub sinks: bool,
    /// Rules with topic filters that match.
    pub rules: bool,
    /// Subscribers, and the home of a retained message.
    pub subscribers: bool,
    /// The topic of `[broker]` that takes such messages, from which subscribers get them.
    pub route: bool,
    /// The topic of `[broker]` with retained messages.
    pub retained: bool,
}

impl Feeds {
    /// All but the topic of retained messages.
    pub const ALL: Self = Self { sinks: true, rules: true, subscribers: true, route: true, retained: false };
    /// No destination.
    pub const NONE: Self = Self { sinks: false, rules: false, subscribers: false, route: false, retained: false };

    /// The same destinations with a `[broker]`: subscribers get the message from its topics.
    pub const fn by_route(self) -> Self {
        Self { subscribers: false, route: self.subscribers, ..self }
    }

    /// Whether every sink, rule and subscriber that matches a topic gets the message.
    pub const fn takes_all_matching(self) -> bool {
        self.sinks && self.rules && self.route
    }
}
