//! The protocol of Kafka's consumers (protocol type `consumer`) with the assignor `range`. Subscriptions and assignments are written in
//! version 0, which all consumers read, and read in all versions (0 to 3): later versions add fields at the end.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::protocol::{Assignment, Fingerprint, Lead, Protocol};
use super::range::{self, Subscriber};
use crate::client::wire::{Malformed, Read, Reader};
use crate::coordination::{Given, GroupMember, Names};
use forebay_base::limits::PARTITIONS_OF_CLUSTER_MAX;

/// The most topics in the subscriptions of all members together; a topic counts once for each member.
const TOPICS_MAX: usize = 1_000_000;

/// A consumer that offers only the assignor `range`, which every Kafka client has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

/// A consumer that may be in its group without partitions. Without them it still names its topics, because Kafka forgets a group's
/// committed offsets of topics that none of its members names (KIP-211).
#[derive(Debug)]
pub struct Partaking {
    /// Whether the member takes partitions.
    pub takes: bool,
    /// The value of `takes` in the member's last JoinGroup.
    said: Cell<bool>,
}

/// The byte after a fingerprint in the user data of a member that takes no partitions.
const TAKES_NONE: u8 = 0;

impl Partaking {
    /// A member that takes partitions, or none.
    #[must_use]
    pub fn new(takes: bool) -> Self {
        Self { takes, said: Cell::new(takes) }
    }

    /// Whether the group's value is outdated: the member has to join again.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.takes != self.said.get()
    }
}

impl Protocol for Partaking {
    const NAMES: Names = Names { protocol_type: "consumer", protocol: "forebay-range" };
    const KEEPS: bool = false;

    fn metadata(&self, topics: &[Rc<str>], fingerprint: Fingerprint) -> Rc<[u8]> {
        self.said.set(self.takes);
        let user_data = fingerprint.unwrap_or_default().to_be_bytes();
        let says = if self.takes { &[][..] } else { &[TAKES_NONE] };
        subscription(topics, Some(&[&user_data[..], says].concat()))
    }

    fn topics(&self, members: &[GroupMember]) -> BTreeSet<Rc<str>> {
        Range.topics(members)
    }

    fn assign(&mut self, lead: &Lead<'_>, count: &dyn Fn(&str) -> Option<u32>) -> Vec<Given> {
        let mut subscribers = subscribers(lead.members);
        for (subscriber, member) in subscribers.iter_mut().zip(lead.members) {
            if takes_none(&member.metadata) {
                subscriber.topics.clear();
            }
        }
        given(&subscribers, count)
    }

    fn assigned(&mut self, assignment: &[u8]) -> Option<Assignment> {
        Range.assigned(assignment)
    }
}

/// Whether a member's metadata says that it takes no partitions: the user data are at the end of a subscription of version 0.
fn takes_none(metadata: &[u8]) -> bool {
    let length = u32::try_from(size_of::<u64>() + 1).unwrap_or(0).to_be_bytes();
    let user_data = metadata.len().checked_sub(length.len() + size_of::<u64>() + 1).map(|at| &metadata[at..]);
    user_data.is_some_and(|data| data.starts_with(&length) && data.ends_with(&[TAKES_NONE]))
}

impl Protocol for Range {
    const NAMES: Names = Names { protocol_type: "consumer", protocol: "range" };
    const KEEPS: bool = false;

    fn metadata(&self, topics: &[Rc<str>], fingerprint: Fingerprint) -> Rc<[u8]> {
        subscription(topics, fingerprint.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn topics(&self, members: &[GroupMember]) -> BTreeSet<Rc<str>> {
        subscribers(members).into_iter().flat_map(|member| member.topics).collect()
    }

    fn assign(&mut self, lead: &Lead<'_>, count: &dyn Fn(&str) -> Option<u32>) -> Vec<Given> {
        given(&subscribers(lead.members), count)
    }

    fn assigned(&mut self, assignment: &[u8]) -> Option<Assignment> {
        read_assignment(assignment).ok()
    }
}

/// Writes a subscription to these topics.
fn subscription(topics: &[Rc<str>], user_data: Option<&[u8]>) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0i16.to_be_bytes()); // version
    put_count(&mut bytes, topics.len());
    topics.iter().for_each(|topic| put_string(&mut bytes, topic));
    match user_data {
        Some(data) => {
            put_count(&mut bytes, data.len());
            bytes.extend_from_slice(data);
        }
        None => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
    }
    Rc::from(bytes)
}

fn given(members: &[Subscriber], count: &dyn Fn(&str) -> Option<u32>) -> Vec<Given> {
    let assigned = range::assign(members, count);
    assigned.into_iter().map(|(id, assignment)| (id, encode(&assignment))).collect()
}

/// The members with their topics. A member with an unreadable subscription gets nothing; the others are assigned.
fn subscribers(members: &[GroupMember]) -> Vec<Subscriber> {
    let (mut names, mut left) = (BTreeSet::new(), TOPICS_MAX);
    let subscriber = |member: &GroupMember| {
        let topics = read_subscription(&member.metadata, &mut names, &mut left).unwrap_or_default();
        Subscriber { id: Rc::clone(&member.id), instance: member.instance.clone(), topics }
    };
    members.iter().map(subscriber).collect()
}

/// Reads the topics of a subscription. `names`: the names of all members' topics, which share their memory; `left`: how many more topics
/// are allowed.
fn read_subscription(bytes: &[u8], names: &mut BTreeSet<Rc<str>>, left: &mut usize) -> Read<Vec<Rc<str>>> {
    let reader = &mut Reader::new(bytes, false);
    reader.i16()?; // version
    let count = reader.array(2)?;
    *left = left.checked_sub(count).ok_or(Malformed("more topics than a group has"))?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let name = text(reader)?;
        let known = names.get(name).cloned();
        topics.push(known.unwrap_or_else(|| {
            let name: Rc<str> = Rc::from(name);
            names.insert(Rc::clone(&name));
            name
        }));
    }
    topics.sort_unstable();
    topics.dedup();
    Ok(topics)
}

/// Reads an assignment. No bytes at all: the leader assigned nothing.
fn read_assignment(bytes: &[u8]) -> Read<Assignment> {
    if bytes.is_empty() {
        return Ok(Assignment::default());
    }
    let reader = &mut Reader::new(bytes, false);
    reader.i16()?; // version
    let count = reader.array(6)?; // the user data after it are nothing to us
    let (mut topics, mut left) = (Vec::with_capacity(count.min(1_000)), PARTITIONS_OF_CLUSTER_MAX);
    for _ in 0..count {
        let name = Rc::from(text(reader)?);
        let partitions: Vec<i32> = reader.i32s()?.take(left).collect();
        left -= partitions.len();
        topics.push((name, partitions));
    }
    Ok(topics)
}

/// Writes an assignment without user data: a group with user data cannot change over to the newer protocol (KIP-848).
pub(super) fn encode(assignment: &[(Rc<str>, Vec<i32>)]) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0i16.to_be_bytes()); // version
    put_count(&mut bytes, assignment.len());
    for (topic, partitions) in assignment {
        put_string(&mut bytes, topic);
        put_count(&mut bytes, partitions.len());
        partitions.iter().for_each(|partition| bytes.extend_from_slice(&partition.to_be_bytes()));
    }
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    Rc::from(bytes)
}

fn text<'a>(reader: &mut Reader<'a>) -> Read<&'a str> {
    std::str::from_utf8(reader.string()?).map_err(|_| Malformed("a topic's name is not UTF-8"))
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

/// Writes a topic's name, which has at most 249 bytes.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&text.as_bytes()[..text.len().min(length.unsigned_abs().into())]);
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes, BytesMut};
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    use super::*;

    fn name(text: &str) -> Rc<str> {
        Rc::from(text)
    }

    #[test]
    fn a_subscription_is_what_every_consumer_reads() {
        let mut bytes = Bytes::copy_from_slice(&Range.metadata(&[name("t"), name("u")], Some(5)));
        assert_eq!(bytes.get_i16(), 0);
        let subscription = ConsumerProtocolSubscription::decode(&mut bytes, 0).expect("a subscription");
        assert_eq!(subscription.topics, ["t", "u"].map(|topic| StrBytes::from(topic.to_owned())));
        assert_eq!(subscription.user_data.as_deref(), Some(&5u64.to_be_bytes()[..]));
        assert!(bytes.is_empty());
        let mut bytes = Bytes::copy_from_slice(&Range.metadata(&[], None));
        assert_eq!(bytes.get_i16(), 0);
        let subscription = ConsumerProtocolSubscription::decode(&mut bytes, 0).expect("a subscription");
        assert_eq!((subscription.topics.len(), subscription.user_data), (0, None));
    }

    /// A member without partitions names its topics, so that Kafka keeps the group's committed offsets of them, and gets none of their
    /// partitions.
    #[test]
    fn a_member_without_a_part_names_its_topics_and_gets_nothing() {
        let topics = [name("t")];
        let member = |id: &str, protocol: &Partaking, fingerprint| GroupMember {
            id: name(id),
            instance: None,
            metadata: protocol.metadata(&topics, fingerprint),
        };
        let (mut here, away) = (Partaking::new(true), Partaking::new(false));
        let mut bytes = Bytes::copy_from_slice(&away.metadata(&topics, Some(0)));
        assert_eq!(bytes.get_i16(), 0);
        let subscription = ConsumerProtocolSubscription::decode(&mut bytes, 0).expect("a subscription");
        assert_eq!((subscription.topics.len(), bytes.len()), (1, 0), "Kafka reads its topic");
        for fingerprint in [None, Some(0), Some(u64::MAX)] {
            let members = [member("a", &away, fingerprint), member("b", &here, fingerprint)];
            assert_eq!(here.topics(&members).len(), 1);
            let lead =
                Lead { members: &members, generation: 1, waited: std::time::Duration::ZERO, now: Default::default() };
            let given = here.assign(&lead, &|_| Some(3));
            let read = |assignment: &[u8]| Range.assigned(assignment).expect("an assignment");
            assert_eq!(read(&given[0].1), vec![]);
            assert_eq!(read(&given[1].1), [(name("t"), vec![0, 1, 2])]);
        }
    }

    #[test]
    fn a_member_joins_again_when_it_has_something_else_to_say() {
        let mut member = Partaking::new(false);
        assert!(!member.is_news());
        member.takes = true;
        assert!(member.is_news(), "the group has heard that it takes none");
        member.metadata(&[], None);
        assert!(!member.is_news());
    }

    #[test]
    fn subscriptions_of_every_version_are_read_and_unreadable_ones_are_none() {
        let of = |version: i16| {
            let topics = ["u", "t", "u"].map(|topic| StrBytes::from(topic.to_owned())).to_vec();
            let body = ConsumerProtocolSubscription::default().with_topics(topics);
            let body = body.with_user_data(Some(Bytes::from_static(b"anything")));
            let body = if version >= 2 { body.with_generation_id(5) } else { body };
            let body = if version >= 3 { body.with_rack_id(Some(StrBytes::from_static_str("rack"))) } else { body };
            let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
            body.encode(&mut bytes, version).expect("a subscription");
            bytes.to_vec()
        };
        let member = |metadata: Vec<u8>| GroupMember { id: name("m"), instance: None, metadata: Rc::from(metadata) };
        let mut members: Vec<_> = (0..=3).map(|version| member(of(version))).collect();
        members.push(member(b"\0\0\xff\xff".to_vec()));
        let read: Vec<_> = subscribers(&members).into_iter().map(|member| member.topics).collect();
        let both = vec![name("t"), name("u")];
        assert_eq!(read, [both.clone(), both.clone(), both.clone(), both, vec![]]);
    }

    #[test]
    fn assignments_of_every_version() {
        for version in 0..=3i16 {
            let topic = |topic: &str, partitions: &[i32]| {
                let topic = TopicName(StrBytes::from(topic.to_owned()));
                TopicPartition::default().with_topic(topic).with_partitions(partitions.to_vec())
            };
            let body = ConsumerProtocolAssignment::default()
                .with_assigned_partitions(vec![topic("t", &[0, 2]), topic("u", &[])])
                .with_user_data(Some(Bytes::from_static(b"anything")));
            let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
            body.encode(&mut bytes, version).expect("an assignment");
            assert_eq!(Range.assigned(&bytes), Some(vec![(name("t"), vec![0, 2]), (name("u"), vec![])]));
        }
        assert_eq!(Range.assigned(b""), Some(vec![]), "the leader gave nothing");
        assert_eq!(Range.assigned(b"\0\0\0\0\0\x09"), None);
        let mut bytes = Bytes::copy_from_slice(&encode(&[(name("t"), vec![0, 2]), (name("u"), vec![])]));
        assert_eq!(bytes.get_i16(), 0);
        let assignment = ConsumerProtocolAssignment::decode(&mut bytes, 0).expect("an assignment");
        assert_eq!(assignment.user_data, None, "or a group cannot change over to the newer protocol");
        let topics = assignment.assigned_partitions.into_iter();
        let topics: Vec<_> = topics.map(|topic| (topic.topic.to_string(), topic.partitions)).collect();
        assert_eq!(topics, [("t".to_owned(), vec![0, 2]), ("u".to_owned(), vec![])]);
    }
}
