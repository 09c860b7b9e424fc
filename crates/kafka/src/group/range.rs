//! The assignor `range` of Java's clients, without racks: for each topic, the members that want it get consecutive partitions, as evenly
//! as possible, the first ones one more. Static members come first, by instance id; then the others, by member id.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::protocol::Assignment;

/// A member to which partitions are assigned.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    /// Member id.
    pub(super) id: Rc<str>,
    /// `group.instance.id` of a static member.
    pub(super) instance: Option<Rc<str>>,
    /// The member's topics, sorted, without duplicates.
    pub(super) topics: Vec<Rc<str>>,
}

/// The order of the members. Java compares strings by their UTF-16 units.
fn by_java(a: &Subscriber, b: &Subscriber) -> Ordering {
    let text = |a: &str, b: &str| a.encode_utf16().cmp(b.encode_utf16());
    match (&a.instance, &b.instance) {
        (Some(a), Some(b)) => text(a, b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => text(&a.id, &b.id),
    }
}

/// Assigns the partitions of all topics; `count` returns a topic's number of partitions, if it exists. Returns an assignment for each
/// member.
pub(super) fn assign(members: &[Subscriber], count: impl Fn(&str) -> Option<u32>) -> Vec<(Rc<str>, Assignment)> {
    let mut sorted: Vec<&Subscriber> = members.iter().collect();
    sorted.sort_by(|a, b| by_java(a, b));
    let mut wanted = BTreeMap::<&Rc<str>, Vec<usize>>::new();
    for (i, member) in sorted.iter().enumerate() {
        for topic in &member.topics {
            wanted.entry(topic).or_default().push(i);
        }
    }
    let mut assigned: Vec<(Rc<str>, Assignment)> =
        sorted.iter().map(|member| (Rc::clone(&member.id), Assignment::new())).collect();
    for (topic, who) in wanted {
        let count = i32::try_from(count(topic).unwrap_or(0)).unwrap_or(i32::MAX);
        let members = i32::try_from(who.len()).unwrap_or(i32::MAX).max(1);
        let (each, extra) = (count / members, count % members);
        let mut first = 0;
        for (n, i) in (0..).zip(who) {
            let end = first + each + i32::from(n < extra);
            if first < end
                && let Some((_, assignment)) = assigned.get_mut(i)
            {
                assignment.push((Rc::clone(topic), (first..end).collect()));
            }
            first = end;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        let topics = topics.iter().map(|topic| Rc::from(*topic)).collect();
        Subscriber { id: Rc::from(id), instance: instance.map(Rc::from), topics }
    }

    fn shown(members: &[Subscriber], counts: &[(&str, u32)]) -> Vec<String> {
        let count = |topic: &str| counts.iter().find(|(name, _)| *name == topic).map(|(_, count)| *count);
        let shown = |(id, assignment): (Rc<str>, Assignment)| {
            let topics: Vec<String> =
                assignment.iter().map(|(topic, partitions)| format!("{topic}{partitions:?}")).collect();
            format!("{id} {}", topics.join(" "))
        };
        assign(members, count).into_iter().map(shown).collect()
    }

    /// Cases of Kafka's own RangeAssignorTest.
    #[test]
    fn it_gives_what_java_gives() {
        let one = [member("c1", None, &["t1", "t2"])];
        assert_eq!(shown(&one, &[]), ["c1 "]);
        assert_eq!(shown(&one, &[("t1", 3)]), ["c1 t1[0, 1, 2]"]);
        assert_eq!(shown(&one, &[("t1", 1), ("t2", 2)]), ["c1 t1[0] t2[0, 1]"]);
        let two = [member("c2", None, &["t1"]), member("c1", None, &["t1"])];
        assert_eq!(shown(&two, &[("t1", 1)]), ["c1 t1[0]", "c2 "]);
        assert_eq!(shown(&two, &[("t1", 2)]), ["c1 t1[0]", "c2 t1[1]"]);
        let mixed = [member("c1", None, &["t1"]), member("c2", None, &["t1", "t2"]), member("c3", None, &["t1"])];
        assert_eq!(shown(&mixed, &[("t1", 3), ("t2", 2)]), ["c1 t1[0]", "c2 t1[1] t2[0, 1]", "c3 t1[2]"]);
        let both = [member("c1", None, &["t1", "t2"]), member("c2", None, &["t1", "t2"])];
        assert_eq!(shown(&both, &[("t1", 3), ("t2", 3)]), ["c1 t1[0, 1] t2[0, 1]", "c2 t1[2] t2[2]"]);
    }

    #[test]
    fn static_members_come_first_by_their_instance_and_names_are_compared_as_java_does() {
        let members = [
            member("a", None, &["t"]),
            member("z", Some("i1"), &["t"]),
            member("y", Some("i2"), &["t"]),
            member("\u{ffff}", None, &["t"]),
            member("\u{1f600}", None, &["t"]),
        ];
        assert_eq!(
            shown(&members, &[("t", 6)]),
            ["z t[0, 1]", "y t[2]", "a t[3]", "\u{1f600} t[4]", "\u{ffff} t[5]"],
            "a surrogate comes before U+FFFF"
        );
    }
}
