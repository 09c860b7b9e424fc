//! What rules publish of a source's records: it waits for subscribers as the source's own messages do, and holds back the group.

use std::time::Duration;

use forebay::metrics::spec::SourceMetric as M;
use forebay::mqtt::packet::Version;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::ConnId;
use forebay::shard::mail::{Mail, ToShard};

use super::queues::{self, Heard, QOS_1, answer, hear, lose};
use super::shares::{join, member};
use super::sources::{come_to_rest, until};
use super::subscribe::subscribe_and_hear;
use super::world::World;

/// A source whose records are for rules alone, with `more` of its keys, and a rule that publishes each to `made/1`.
fn of_records(more: &str) -> String {
    format!(
        "{}[[source]]\nname = \"commands\"\nkafka = \"main\"\ntopic = \"commands\"\ngroup = \"\"\noffset_reset = \"earliest\"\n{more}\n\
         [[rule]]\nname = \"r\"\nsql = '''SELECT value FROM \"$bridges/kafka_consumer:commands\"'''\n\
         [[rule.republish]]\ntopic = \"made/1\"\npayload = \"${{value}}\"\nqos = 1\n",
        queues::config()
    )
}

/// A source of messages to `own/1`, and rules that make `first/1` and `second/1` of each.
fn of_messages(more: &str) -> String {
    let rule = |to: &str| {
        format!(
            "[[rule]]\nname = \"{to}\"\nsql = '''SELECT payload FROM \"own/#\"'''\n\
             [[rule.republish]]\ntopic = \"{to}/1\"\npayload = \"${{payload}}\"\nqos = 1\n"
        )
    };
    format!(
        "{}[[source]]\nname = \"commands\"\nkafka = \"main\"\ntopic = \"commands\"\nmqtt_topic = \"own/1\"\npayload = \"${{value}}\"\nqos = 1\n\
         group = \"\"\noffset_reset = \"earliest\"\n{more}\n{}{}",
        queues::config(),
        rule("first"),
        rule("second")
    )
}

fn started(text: &str, records: &[&str]) -> World {
    started_under(&KEPT, text, records)
}

fn started_under(rules: &'static dyn Rules, text: &str, records: &[&str]) -> World {
    let mut world = World::under(rules, text);
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    let bytes = records.iter().map(|record| record.as_bytes().to_vec()).collect();
    world.broker.readable.insert(("commands".to_owned(), 0), bytes);
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(&mut world);
    until(&mut world, |world| world.source_number(0, M::Records) == records.len() as u64);
    world
}

/// A client.
struct Client {
    conn: ConnId,
    /// What came with the answer to its SUBSCRIBE, in words.
    behind: Vec<String>,
}

/// A client whose session ends with its connection.
fn clean(world: &mut World, name: &str, filter: &str) -> Client {
    let conn = member(world, name, 100, 0, false);
    let (codes, behind) = subscribe_and_hear(world, conn, Version::V5, 0, &[(filter, QOS_1)]);
    assert_eq!(codes, [1]);
    Client { conn, behind }
}

/// The payloads that a client gets, each of which it acknowledges if it `answers`.
fn take(world: &mut World, client: &mut Client, answers: bool) -> Vec<String> {
    let mut got = Vec::new();
    for words in std::mem::take(&mut client.behind) {
        // `made/1 a qos 1 id 1`
        let words: Vec<&str> = words.split(' ').collect();
        if answers {
            answer(world, client.conn, 4, words[5].parse().expect("an identifier"));
        }
        got.push(words[1].to_owned());
    }
    for _ in 0..100 {
        world.advance(Duration::from_millis(10));
        come_to_rest(world);
        for one in hear(world, client.conn) {
            let Heard::Message { id, payload, .. } = one else { continue };
            if answers {
                answer(world, client.conn, 4, id);
            }
            got.push(payload);
        }
    }
    got
}

/// Records that are open, and messages that wait for a subscriber.
fn open(world: &mut World) -> (u64, u64) {
    for _ in 0..30 {
        world.advance(Duration::from_millis(10));
        come_to_rest(world);
    }
    (world.source_number(0, M::Open), world.source_number(0, M::Parked))
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// What a rule makes of a record waits in the grace of the start, and with `wait` for as long as it takes.
#[test]
fn finding_q40_what_a_rule_makes_of_a_record_waits_for_a_subscriber() {
    for more in ["start_grace = \"30s\"", "no_subscriber = \"wait\"\nstart_grace = \"0s\""] {
        waits_for_a_subscriber(&KEPT, more);
    }
}

fn waits_for_a_subscriber(rules: &'static dyn Rules, more: &str) {
    let all = numbers(5);
    let records: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut world = started_under(rules, &of_records(more), &records);
    assert_eq!(open(&mut world), (5, 5), "{more}");
    world.advance(Duration::from_secs(8));
    let mut client = clean(&mut world, "client", "made/#");
    assert_eq!(take(&mut world, &mut client, true), all, "{more}");
    assert_eq!(open(&mut world), (0, 0), "{more}");
    let counted = [M::Published, M::NoSubscriber].map(|metric| world.source_number(0, metric));
    assert_eq!(counted, [5, 0], "{more}");
}

#[derive(Debug)]
struct MadeIsGone;

impl Rules for MadeIsGone {
    fn parks_made(&self, _: bool) -> bool {
        false
    }
}

#[test]
#[should_panic(expected = "assertion")]
fn what_a_rule_makes_that_does_not_wait_is_noticed() {
    waits_for_a_subscriber(&MadeIsGone, "no_subscriber = \"wait\"\nstart_grace = \"0s\"");
}

/// With `drop` it is dropped when the grace is over, counted by the source.
#[test]
fn finding_q40_what_a_rule_makes_of_a_record_is_dropped_after_the_grace() {
    let mut world = started(&of_records("start_grace = \"2s\""), &["a", "b"]);
    assert_eq!(open(&mut world), (2, 2));
    world.advance(Duration::from_secs(3));
    come_to_rest(&mut world);
    assert_eq!(open(&mut world), (0, 0));
    let counted = [M::Published, M::NoSubscriber].map(|metric| world.source_number(0, metric));
    assert_eq!(counted, [0, 2]);
}

/// A subscriber that leaves without a kept session leaves it to the next one.
#[test]
fn finding_q40_what_a_rule_makes_goes_to_the_next_subscriber() {
    let mut world = started(&of_records("no_subscriber = \"wait\"\nstart_grace = \"0s\""), &["a", "b"]);
    let mut first = clean(&mut world, "first", "made/#");
    assert_eq!(take(&mut world, &mut first, false), ["a", "b"]);
    assert_eq!(open(&mut world), (2, 0));
    lose(&mut world, first.conn);
    assert_eq!(open(&mut world), (2, 2));
    let mut second = clean(&mut world, "second", "made/#");
    assert_eq!(take(&mut world, &mut second, true), ["a", "b"]);
    assert_eq!(open(&mut world), (0, 0));
    assert_eq!(world.source_number(0, M::Lost), 0);
}

/// What rules make of a source's message waits by itself: others that have the message, or something else made of it, do not get theirs again.
#[test]
fn finding_q40_each_message_of_a_rule_waits_for_itself() {
    let mut world = started(&of_messages("no_subscriber = \"wait\"\nstart_grace = \"0s\""), &["a"]);
    assert_eq!(open(&mut world), (1, 3), "the message, and what two rules have made of it");
    let mut own = clean(&mut world, "own", "own/#");
    assert_eq!(take(&mut world, &mut own, true), ["a"]);
    assert_eq!(open(&mut world), (1, 2));
    let mut second = clean(&mut world, "second", "second/#");
    assert_eq!(take(&mut world, &mut second, true), ["a"]);
    assert_eq!(open(&mut world), (1, 1));
    let mut first = clean(&mut world, "first", "first/#");
    assert_eq!(take(&mut world, &mut first, true), ["a"]);
    assert_eq!(open(&mut world), (0, 0));
    for mut others in [own, second] {
        assert_eq!(take(&mut world, &mut others, true), Vec::<String>::new());
    }
}

/// The message of which a rule has made something is over when somebody has that.
#[test]
fn finding_q40_a_message_is_over_when_somebody_has_what_a_rule_made_of_it() {
    let mut world = started(&of_messages("no_subscriber = \"wait\"\nstart_grace = \"0s\""), &["a"]);
    let mut made = clean(&mut world, "made", "+/1");
    assert_eq!(take(&mut world, &mut made, true).len(), 3, "one client has all three");
    assert_eq!(open(&mut world), (0, 0));
    let mut world = started(&of_messages("no_subscriber = \"wait\"\nstart_grace = \"0s\""), &["a"]);
    let mut first = clean(&mut world, "first", "first/#");
    assert_eq!(take(&mut world, &mut first, true), ["a"]);
    assert_eq!(open(&mut world), (1, 1), "second/1 alone");
}

/// `release_after` gives up what a rule has made, too.
#[test]
fn finding_q40_release_after_ends_what_a_rule_has_made() {
    let more = "no_subscriber = \"wait\"\nstart_grace = \"0s\"\nrelease_after = \"5s\"";
    let mut world = started(&of_records(more), &["a", "b"]);
    assert_eq!(open(&mut world), (2, 2));
    world.advance(Duration::from_secs(6));
    come_to_rest(&mut world);
    assert_eq!(open(&mut world), (0, 0));
    assert_eq!(world.source_number(0, M::Released), 2);
}

/// A kept session with a full queue holds back the partition of what a rule has made while its client is there, and nothing is dropped.
#[test]
fn finding_q40_a_full_queue_holds_back_what_a_rule_has_made() {
    let text = of_records("start_grace = \"0s\"");
    let mut world = World::new(&(text + "[delivery]\nqueue_messages_max = 4\n"));
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    let conn = member(&mut world, "client", 1, 0, true);
    join(&mut world, conn, "made/#", QOS_1);
    let mut client = Client { conn, behind: Vec::new() };
    let all = numbers(25);
    let bytes = all.iter().map(|record| record.as_bytes().to_vec()).collect();
    world.broker.readable.insert(("commands".to_owned(), 0), bytes);
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(&mut world);
    until(&mut world, |world| world.source_number(0, M::Records) == 25);
    assert_eq!(open(&mut world), (20, 0), "one is on its way, and four wait in the log");
    assert_eq!(take(&mut world, &mut client, true), all);
    assert_eq!(open(&mut world), (0, 0));
}
