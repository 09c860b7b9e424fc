//! What the owner of a slot answers a front first: which process it is, and that it has taken the client.

use std::time::Duration;

use forebay::link::ANSWER_LEN;
use forebay::metrics::spec::ShardMetric as M;
use forebay::rules::{KEPT, Rules};

use super::world::World;
use super::{connect, text};

#[derive(Debug)]
struct ClosesWhoAnswered;

impl Rules for ClosesWhoAnswered {
    fn stays_with(&self, _: bool) -> bool {
        false
    }
}

/// A process that came back in the place of an earlier one has its slots before the table names it.
#[test]
fn a_client_stays_with_the_process_that_has_answered_it() {
    let rules: [(&'static dyn Rules, _); 2] = [(&KEPT, [false, true]), (&ClosesWhoAnswered, [true, true])];
    for (rules, is_over) in rules {
        let mut world = World::by(rules, (2, 1), &text(), "", None);
        world.give("a", Some(1));
        world.instances[1].peers.set_incarnation(2);
        let client = world.connected(0, "a");
        // The next table names that process, and the one after it another one.
        let found = [(); 2].map(|()| {
            world.restart_of(1);
            world.advance(Duration::from_secs(1));
            world.clients[client].is_over
        });
        assert_eq!(found, is_over, "{rules:?}");
    }
}

/// The owner may have made the session: the next one would have it present, which the client does not expect.
#[test]
fn a_connect_that_an_owner_has_taken_goes_to_no_other() {
    // The first bytes are the head of a frame, which say nothing of the client.
    const HEAD: usize = 8;
    let all = [0, HEAD, HEAD + 1, HEAD + ANSWER_LEN].map(|says| [(says, false), (says, true)]);
    for (says, is_dead) in all.into_iter().flatten() {
        let mut world = World::new(3, 1, &text());
        world.give("a", Some(1));
        world.instances[1].says = says;
        let client = world.open(0);
        world.say(client, &connect("a"));
        assert!(world.heard(client).is_empty());
        if is_dead {
            world.kill(1);
        }
        world.instances[1].is_still = true;
        world.give("a", Some(2));
        world.advance(Duration::from_secs(11));
        let is_taken = says > HEAD;
        assert_eq!(world.clients[client].is_over, is_taken, "{says} {is_dead}");
        assert_eq!(world.number(2, M::Sessions), u64::from(!is_taken), "{says} {is_dead}");
    }
}
