//! Sources of a shard, in front of the broker of these tests.

use std::time::Duration;

use forebay::metrics::spec::SourceMetric;
use forebay::shard::mail::Mail;

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
fn come_to_rest(world: &mut World) {
    world.turn();
    while let Some(letters) = world.table.posted.replace(Vec::new()).filter(|letters| !letters.is_empty()) {
        letters.into_iter().for_each(|(_, letter)| world.mail(letter));
    }
}

/// Each answer has one record a partition: if the next question waited for anything else in the shard, no more than these would come.
#[test]
fn what_is_taken_up_is_followed_by_the_next_question_at_once() {
    let mut world = World::new(SOURCE);
    (world.table.posted, world.table.mailbox) = (Some(Vec::new()), 16);
    for partition in 0..PARTITIONS {
        world.broker.readable.insert(("commands".to_owned(), partition), vec![b"value".to_vec(); RECORDS]);
    }
    world.mail(Mail::Accept);
    come_to_rest(&mut world);
    let records = |world: &World| world.source_number(0, SourceMetric::Records);
    // Metadata may be asked for again a moment later.
    for _ in 0..100 {
        if records(&world) > 0 {
            break;
        }
        world.advance(Duration::from_millis(10));
        come_to_rest(&mut world);
    }
    assert_eq!(records(&world), RECORDS as u64 * PARTITIONS as u64);
}
