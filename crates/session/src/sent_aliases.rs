//! Topic aliases of one connection, server to client (section 3.3.2.3.4): a topic that the client has been sent under an alias is not
//! sent again.

use std::collections::VecDeque;

use super::state::Session;
use forebay_base::limits::{SENT_ALIAS_TOPIC_BYTES_MAX, SENT_ALIAS_TOPIC_BYTES_MIN};
use forebay_mqtt::packet::QoS;

/// The form of a message's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The name, with this alias, which means it from now on.
    Set(u16),
    /// This alias alone.
    Known(u16),
}

impl Alias {
    /// The alias.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Set(number) | Self::Known(number) => number,
        }
    }

    /// The topic name to send.
    #[must_use]
    pub const fn topic(self, topic: &str) -> &str {
        match self {
            Self::Set(_) => topic,
            Self::Known(_) => "",
        }
    }
}

/// The aliases of a connection; gone with it [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub(super) struct SentAliases {
    /// Alias `n` at `n - 1`: a hash of its topic, and the topic.
    topics: Vec<(u64, Box<str>)>,
    /// Hashes of the last topics that were sent without an alias since all are in use.
    once: VecDeque<u64>,
    /// The index of the alias that the next such topic gets when it is sent again.
    next: usize,
}

impl SentAliases {
    fn find(&self, topic: &str, hash: u64) -> Option<usize> {
        self.topics.iter().position(|(of, known)| *of == hash && **known == *topic)
    }
}

fn is_worth_it(topic: &str) -> bool {
    (SENT_ALIAS_TOPIC_BYTES_MIN..=SENT_ALIAS_TOPIC_BYTES_MAX).contains(&topic.len())
}

/// The number of the alias at this place.
fn number(place: usize) -> u16 {
    u16::try_from(place + 1).unwrap_or(u16::MAX)
}

impl Session {
    /// Whether the client takes aliases. It is sent those from 1 to its maximum [MQTT-3.3.2-11] [MQTT-3.3.2-8].
    #[must_use]
    pub fn takes_aliases(&self) -> bool {
        self.terms.sent_alias_maximum > 0
    }

    /// The alias for a message on this topic, if the client takes aliases. `hash`: of the topic, the same each time. While all are
    /// in use, a topic gets the alias of another one when it is sent for the second time. At QoS 2 the topic is sent each time:
    /// mqtt.js (5.16) keeps the packet as received until PUBREL, when the alias may be another topic's, and hands it on without a
    /// topic.
    #[must_use]
    pub fn alias_for(&self, topic: &str, hash: u64, qos: QoS) -> Option<Alias> {
        let maximum = usize::from(self.terms.sent_alias_maximum);
        if maximum == 0 || !is_worth_it(topic) {
            return None;
        }
        let Some(aliases) = self.aliases.as_ref().map(|aliases| &aliases.sent) else { return Some(Alias::Set(1)) };
        match aliases.find(topic, hash) {
            Some(place) if qos == QoS::ExactlyOnce => Some(Alias::Set(number(place))),
            Some(place) => Some(Alias::Known(number(place))),
            None if aliases.topics.len() < maximum => Some(Alias::Set(number(aliases.topics.len()))),
            None => aliases.once.contains(&hash).then(|| Alias::Set(number(aliases.next % maximum))),
        }
    }

    /// Notes that a message on this topic has been written with the result of [`Session::alias_for`].
    pub fn wrote_alias(&mut self, topic: &str, hash: u64, alias: Option<Alias>) {
        let maximum = usize::from(self.terms.sent_alias_maximum);
        match alias {
            Some(Alias::Known(_)) => {}
            Some(Alias::Set(alias)) => {
                let aliases = &mut self.aliases.get_or_insert_default().sent;
                let place = usize::from(alias) - 1;
                if let Some(entry) = aliases.topics.get_mut(place) {
                    if *entry.1 == *topic {
                        return;
                    }
                    *entry = (hash, topic.into());
                    aliases.next = (place + 1) % maximum;
                    aliases.once.retain(|once| *once != hash);
                } else {
                    aliases.topics.push((hash, topic.into()));
                }
            }
            None => {
                let Some(aliases) = self.aliases.as_mut().map(|aliases| &mut aliases.sent) else { return };
                if aliases.topics.len() == maximum && is_worth_it(topic) {
                    aliases.once.truncate(maximum - 1);
                    aliases.once.push_front(hash);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connect::terms;
    use super::super::peer::Peer;
    use super::super::settings::Settings;
    use super::*;
    use forebay_mqtt::packet::Version;

    fn session(maximum: u8) -> Session {
        let terms = terms(Peer::new(Version::V5), &Settings::default());
        Session::new("c", None, super::super::state::Terms { sent_alias_maximum: maximum, ..terms })
    }

    /// Sends a topic, with its length as its hash.
    fn send(session: &mut Session, topic: &str) -> Option<Alias> {
        send_at(session, topic, QoS::AtLeastOnce)
    }

    fn send_at(session: &mut Session, topic: &str, qos: QoS) -> Option<Alias> {
        let alias = session.alias_for(topic, topic.len() as u64, qos);
        session.wrote_alias(topic, topic.len() as u64, alias);
        alias
    }

    #[test]
    fn at_qos_2_the_topic_is_sent_each_time() {
        let mut session = session(2);
        for alias in [1, 2, 1, 2] {
            let topic = if alias == 1 { "topic/a" } else { "topic/bb" };
            assert_eq!(send_at(&mut session, topic, QoS::ExactlyOnce), Some(Alias::Set(alias)));
        }
        assert_eq!([send(&mut session, "another"), send(&mut session, "another")], [None, Some(Alias::Set(1))]);
        assert_eq!(send(&mut session, "topic/bb"), Some(Alias::Known(2)));
    }

    #[test]
    fn a_topic_is_named_once() {
        let mut session = session(2);
        assert_eq!(
            [send(&mut session, "topic/a"), send(&mut session, "topic/a")],
            [Some(Alias::Set(1)), Some(Alias::Known(1))]
        );
        assert_eq!(send(&mut session, "topic/b"), Some(Alias::Set(2)), "of the same hash");
        assert_eq!(send(&mut session, "topic/b"), Some(Alias::Known(2)));
        assert_eq!(send(&mut session, "a/b"), None, "it would not get shorter");
        assert_eq!(send(&mut session, &"a".repeat(SENT_ALIAS_TOPIC_BYTES_MAX + 1)), None);
        session.detach();
        assert_eq!(send(&mut session, "topic/b"), Some(Alias::Set(1)), "another connection");
    }

    #[test]
    fn when_all_are_in_use_a_topic_gets_one_when_it_is_sent_again() {
        let mut session = session(2);
        assert_eq!(
            [send(&mut session, "aaaa"), send(&mut session, "aaaaa")],
            [Some(Alias::Set(1)), Some(Alias::Set(2))]
        );
        assert_eq!([send(&mut session, "aaaaaa"), send(&mut session, "aaaaaaa")], [None, None]);
        assert_eq!(send(&mut session, "aaaaaa"), Some(Alias::Set(1)));
        assert_eq!(send(&mut session, "aaaaa"), Some(Alias::Known(2)), "it has kept its own");
        assert_eq!(send(&mut session, "aaaa"), None, "it has lost its own");
        assert_eq!(send(&mut session, "aaaa"), Some(Alias::Set(2)));
        assert_eq!(send(&mut session, "aaaaaa"), Some(Alias::Known(1)));
    }

    #[test]
    fn who_takes_none_is_sent_none() {
        let mut session = session(0);
        assert_eq!([send(&mut session, "topic/a"), send(&mut session, "topic/a")], [None, None]);
    }
}
