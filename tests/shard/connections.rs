//! Events of clients that come and go.

use std::sync::Arc;
use std::time::Duration;

use forebay::metrics::event::{Class, Event, Field, Kind};
use forebay::metrics::journal::{Filter, Journal, Teller};
use forebay::runtime::seam::{Closed, Shard};

use super::allocation::counted;
use super::ring::reset;
use super::world::{ONE_SINK, World};

fn told(world: &World) -> Vec<Event> {
    world.journal.collect();
    let filter = Filter { class: Some(Class::Connection), ..Filter::default() };
    world.journal.page(&filter).events.into_iter().map(|(_, event)| event).collect()
}

fn of(events: &[Event], field: Field) -> Vec<Option<&str>> {
    events.iter().map(|event| event.text(field)).collect()
}

#[test]
fn finding_r5_a_client_that_comes_and_goes_is_told_of_with_the_reason_and_how_long() {
    let mut world = World::new(ONE_SINK);
    let device = world.device("left", 0);
    world.advance(Duration::from_secs(7));
    world.bytes(device, &[0xE0, 0]);
    let device = world.device("lost", 0);
    world.core.on_close(&mut world.table, device, Closed::Error(reset()));
    let _silent = world.device("silent", 10);
    world.advance(Duration::from_secs(20));
    let events = told(&world);
    let gone: Vec<_> = events.iter().filter(|event| event.kind == Kind::ClientDisconnected).cloned().collect();
    assert_eq!(events.len(), 6, "{events:?}");
    assert_eq!(of(&gone, Field::Client), [Some("left"), Some("lost"), Some("silent")]);
    let reasons = of(&gone, Field::Reason);
    assert_eq!(reasons[..2], [Some("the client disconnected"), Some("the connection was lost")]);
    assert!(reasons[2].is_some_and(|reason| reason.contains("keep-alive")), "{reasons:?}");
    assert!(gone[1].text(Field::Detail).is_some_and(|detail| detail.contains("reset")), "{:?}", gone[1]);
    let connected: Vec<_> = gone.iter().filter_map(|event| event.number(Field::ConnectedMs)).collect();
    assert_eq!(connected[..2], [7_000, 0]);
    assert!((15_000..17_000).contains(&connected[2]), "{connected:?}");
    assert_eq!(
        world.journal.page(&Filter::default()).events.len(),
        1,
        "beside the cluster that was reached nothing is shown"
    );
}

#[test]
fn finding_r5_a_takeover_is_an_end_and_a_beginning() {
    let mut world = World::new(ONE_SINK);
    let (_, _) = world.kept_v5("c");
    let (_, _) = world.kept_v5("c");
    let events = told(&world);
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::ClientConnected, Kind::ClientDisconnected, Kind::ClientConnected]);
    assert_eq!(events[1].text(Field::Reason), Some("the same client id connected again"));
    assert_eq!([&events[0], &events[2]].map(|event| event.flag(Field::SessionPresent)), [Some(false), Some(true)]);
    assert_eq!(events[0].text(Field::Protocol), Some("5.0"));
}

/// Once as many are kept as may be, another one takes the memory of one that has made room.
#[test]
fn finding_r5_a_client_that_comes_or_goes_allocates_nothing() {
    let journal = Arc::new(Journal::default());
    let teller = Teller::new(Arc::clone(&journal), 0);
    let come = |client: u32| {
        teller.tell_connection(Kind::ClientConnected, |event| {
            let event = event.with(Field::Client, "a-client-with-a-name-of-usual-length").with(Field::Auth, "devices");
            event.shown(Field::Peer, Some(client)).with(Field::SessionPresent, true)
        });
    };
    for client in 0..10_000 {
        come(client);
        if client % 100 == 0 {
            journal.collect();
        }
    }
    journal.collect();
    assert_eq!(counted(|| (0..1_000).for_each(come)), 0);
}
