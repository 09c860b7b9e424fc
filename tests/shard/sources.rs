//! Sources of a shard, in front of the broker of these tests.

use std::time::Duration;

use forebay::metrics::spec::SourceMetric;
use forebay::shard::mail::{Mail, Notice, ToShard};

use super::broker::PARTITIONS;
use super::world::World;

const SOURCE: &str = r#"
[kafka.main]
bootstrap = "127.0.0.1:9092"
[[source]]
name = "commands"
topic = "commands"
mqtt_topic = "t/1"
payload = "${value}"
group = ""
offset_reset = "earliest"
"#;
const RECORDS: usize = 25;

/// Turns, and what the shard writes to itself, until nothing is left to be done at this instant.
pub(crate) fn come_to_rest(world: &mut World) {
    world.turn();
    while let Some(letters) = world.table.posted.replace(Vec::new()).filter(|letters| !letters.is_empty()) {
        letters.into_iter().for_each(|(_, letter)| world.mail(letter));
    }
}

/// Lets 10 ms pass, again and again, until this is so.
pub(crate) fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    for _ in 0..200 {
        if is_so(world) {
            return;
        }
        world.advance(Duration::from_millis(10));
        come_to_rest(world);
    }
    panic!("it is not so after two seconds");
}

/// Each answer has one record a partition: if the next question waited for anything else in the shard, no more than these would come.
#[test]
fn what_is_taken_up_is_followed_by_the_next_question_at_once() {
    let mut world = World::new(SOURCE);
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    for partition in 0..PARTITIONS {
        world.broker.readable.insert(("commands".to_owned(), partition), vec![b"value".to_vec(); RECORDS]);
    }
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(&mut world);
    let records = |world: &World| world.source_number(0, SourceMetric::Records);
    // Metadata may be asked for again a moment later.
    until(&mut world, |world| records(world) > 0);
    assert_eq!(records(&world), RECORDS as u64 * PARTITIONS as u64);
}

/// A stop waits for what is open, and for nothing else: where nothing is, the sources are over at once, not when something happens to the
/// shard.
#[test]
fn a_stop_says_at_once_that_nothing_is_read_any_more() {
    let mut world = World::new(SOURCE);
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    world.broker.readable.insert(("commands".to_owned(), 0), vec![b"value".to_vec(); RECORDS]);
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(&mut world);
    until(&mut world, |world| world.source_number(0, SourceMetric::Records) == RECORDS as u64);
    world.notices();
    world.mail(Mail::Shard(ToShard::EndSources));
    come_to_rest(&mut world);
    let notices = world.notices();
    assert!(matches!(notices[..], [Notice::SourcesOver(0)]), "{notices:?}");
}

/// A topic moves from one source to another in a reload. What the second one is to read may come to a shard before the first one is to stop, as
/// their letters come from two shards: then it is read once that has come.
#[test]
fn a_partition_that_another_source_still_reads_is_read_after_that() {
    let other = "[[source]]\nname = \"alarms\"\ntopic = \"TOPIC\"\nmqtt_topic = \"t/2\"\ngroup = \"\"\noffset_reset = \"earliest\"\n";
    let both = |first: &str, second: &str| {
        format!(
            "{}{}",
            SOURCE.replace("topic = \"commands\"", &format!("topic = {first:?}")),
            other.replace("TOPIC", second)
        )
    };
    let mut world = World::new(&both("commands", "alarms"));
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    world.broker.readable.insert(("commands".to_owned(), 0), vec![b"value".to_vec(); RECORDS]);
    world.mail(Mail::Shard(ToShard::Accept));
    come_to_rest(&mut world);
    let read = |world: &World| [0, 1].map(|source| world.source_number(source, SourceMetric::Records));
    until(&mut world, |world| read(world) == [RECORDS as u64, 0]);
    world.reload_as(&both("alarms", "commands"));
    // The letter to the readers of the first source is late.
    let is_late = |letter: &Mail| format!("{letter:?}").contains("Stop { source: 0");
    let mut late = Vec::new();
    for _ in 0..20 {
        let letters = world.table.posted.replace(Vec::new()).expect("letters");
        let (held, others): (Vec<_>, Vec<_>) = letters.into_iter().partition(|(_, letter)| is_late(letter));
        late.extend(held);
        others.into_iter().for_each(|(_, letter)| world.mail(letter));
        world.advance(Duration::from_millis(50));
    }
    assert_eq!((late.len(), read(&world)), (1, [RECORDS as u64, 0]));
    late.into_iter().for_each(|(_, letter)| world.mail(letter));
    until(&mut world, |world| read(world) == [RECORDS as u64; 2]);
}
