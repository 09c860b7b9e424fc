//! Connections that belong to another shard, whose mailbox is full. X6: a move is put off, and no connection is lost for it.

use std::sync::Arc;
use std::time::Duration;

use forebay::broker::mail::ToBroker;
use forebay::broker::router::owner;
use forebay::config;
use forebay::limits::MOVES_WAITING_BYTES_MAX;
use forebay::metrics::board::Board;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Sender, Version, Will};
use forebay::mqtt::property::Properties;
use forebay::mqtt::{decode, encode, frame};
use forebay::runtime::seam::{Came, ListenerId, Shard as _};
use forebay::shard::Core;
use forebay::shard::mail::{Mail, ToDoor};

use super::ring::Table;
use super::subscribe::{PLAIN, bytes_of, message, subscribe_packet};
use super::world::{ONE_SINK, layout, surroundings};

/// The first of two shards, with letters for the second.
struct First {
    core: Core,
    table: Table,
    board: Arc<Board>,
}

impl First {
    fn new() -> Self {
        let mut config = config::parse(ONE_SINK, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        config.service.shards = 2;
        let config = Arc::new(config);
        let board = Arc::new(Board::new(layout(&config)));
        let (mut core, mut table) = (Core::new(0, surroundings(&config), Arc::clone(&board)), Table::new());
        (table.posted, table.mailbox) = (Some(Vec::new()), 0);
        core.on_start(&mut table);
        Self { core, table, board }
    }

    fn number(&self, metric: M) -> u64 {
        self.board.read()[metric as usize]
    }

    /// A client of the second shard connects here.
    fn connect(&mut self, client_id: &str, will: &[u8]) {
        assert_eq!(owner(client_id, 2), 1, "{client_id}");
        let will =
            Will { qos: QoS::AtMostOnce, retain: false, topic: "w", payload: will, properties: Properties::EMPTY };
        let connect = Connect { will: Some(will), ..crate::hello::hello(Version::V5, client_id) };
        let mut bytes = Vec::new();
        encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
        let conn = self.table.open(None);
        self.core.on_accept(&mut self.table, conn, ListenerId(0));
        self.core.on_bytes(&mut self.table, conn, &bytes);
        self.core.on_turn_end(&mut self.table);
    }

    fn advance(&mut self, by: Duration) {
        let until = self.table.now.after(by);
        while let Some(token) = self.table.next_timer(until) {
            self.core.on_timer(&mut self.table, token);
            self.core.on_turn_end(&mut self.table);
        }
        self.table.now = until;
    }

    /// The clients whose connections were sent.
    fn moved(&mut self) -> Vec<String> {
        let posted = std::mem::take(self.table.posted.as_mut().expect("letters"));
        let client = |(to, letter)| {
            let Mail::Door(ToDoor::HandOver(detached, ..)) = letter else { panic!("another letter") };
            assert_eq!(to, 1);
            let frame = frame::next(&detached.unread, u32::MAX).expect("well formed").expect("whole");
            match decode::decode(Version::V5, Sender::Client, frame).expect("well formed") {
                Packet::Connect(connect) => connect.client_id.to_owned(),
                other => panic!("{other:?}"),
            }
        };
        posted.into_iter().map(client).collect()
    }
}

/// Names of clients that belong to the second shard.
fn names() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("c{number}")).filter(|name| owner(name, 2) == 1)
}

/// The client of the first shard with this name is connected, and has sent this behind its CONNECT.
fn said(shard: &mut First, client_id: &str, behind: &[u8]) {
    let connect = crate::hello::hello(Version::V5, client_id);
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    bytes.extend_from_slice(behind);
    let conn = shard.table.open(None);
    shard.core.on_accept(&mut shard.table, conn, ListenerId(0));
    shard.core.on_bytes(&mut shard.table, conn, &bytes);
    shard.core.on_turn_end(&mut shard.table);
}

#[test]
fn letters_and_parcels_for_a_full_mailbox_wait_for_nothing_else() {
    let client = (0..).map(|number| format!("c{number}")).find(|name| owner(name, 2) == 0).expect("one");
    // A retained message for its home; a subscription, for which every shard is asked.
    let topic = (0..).map(|number| format!("t{number}")).find(|topic| owner(topic, 2) == 1).expect("one");
    let publish = Publish { retain: true, ..message(&topic, "x") };
    let publish = bytes_of(Version::V5, &Packet::Publish(publish));
    let subscribe = subscribe_packet(Version::V5, 0, &[("a/#", PLAIN)]);
    for behind in [publish, subscribe] {
        let mut shard = First::new();
        shard.advance(Duration::from_secs(1));
        said(&mut shard, &client, &behind);
        shard.table.mailbox = 16;
        shard.advance(Duration::from_millis(2));
        let posted = std::mem::take(shard.table.posted.as_mut().expect("letters"));
        let is_one = |(to, letter): &(usize, Mail)| {
            *to == 1 && matches!(letter, Mail::Broker(ToBroker::Parcel { .. }) | Mail::Broker(ToBroker::Pass { .. }))
        };
        assert!(posted.iter().any(is_one), "{posted:?}");
    }
}

#[test]
fn a_full_mailbox_puts_a_move_off() {
    let mut shard = First::new();
    let names: Vec<String> = names().take(5).collect();
    names[..3].iter().for_each(|name| shard.connect(name, b""));
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoved)), (3, 0));
    assert!(shard.moved().is_empty());
    // Room for one: the oldest goes, also before one that comes now.
    shard.table.mailbox = 1;
    shard.connect(&names[3], b"");
    assert_eq!(shard.moved(), names[..1]);
    // Nobody has to come for the others to go.
    shard.table.mailbox = 16;
    shard.advance(Duration::from_millis(2));
    assert_eq!(shard.moved(), names[1..4]);
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoved)), (0, 4));
    assert_eq!(shard.number(M::ConnectionsMoveRefused), 0);
    shard.connect(&names[4], b"");
    assert_eq!(shard.moved(), names[4..], "at once");
}

/// The client may have connected again before its owner has the CONNECT.
#[test]
fn the_owner_learns_when_a_connect_came_that_has_waited_for_its_mailbox() {
    let mut shard = First::new();
    shard.advance(Duration::from_secs(1));
    let came = shard.table.now;
    shard.connect(&names().next().expect("one"), b"");
    shard.advance(Duration::from_secs(2));
    shard.table.mailbox = 16;
    shard.advance(Duration::from_millis(2));
    let posted = std::mem::take(shard.table.posted.as_mut().expect("letters"));
    let [(1, Mail::Door(ToDoor::HandOver(moved, ..)))] = posted.as_slice() else { panic!("{posted:?}") };
    assert_eq!(moved.came, Some(Came::at(came)));
}

#[test]
fn a_mailbox_that_stays_full_ends_the_connection_when_its_time_is_over() {
    let mut shard = First::new();
    shard.connect(&names().next().expect("one"), b"");
    shard.advance(Duration::from_secs(9));
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoveRefused)), (1, 0));
    shard.advance(Duration::from_secs(2));
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoveRefused)), (0, 1));
    shard.table.mailbox = 16;
    shard.advance(Duration::from_secs(1));
    assert!(shard.moved().is_empty());
}

#[test]
fn what_waits_has_a_bound() {
    let mut shard = First::new();
    let will = vec![b'w'; 60_000];
    let fit = MOVES_WAITING_BYTES_MAX / (will.len() + 40);
    names().take(fit + 3).for_each(|name| shard.connect(&name, &will));
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoveRefused)), (fit as u64, 3));
    // What has gone makes room.
    shard.table.mailbox = 2;
    shard.advance(Duration::from_millis(1));
    assert_eq!(shard.moved().len(), 2);
    shard.table.mailbox = 0;
    names().skip(fit + 3).take(3).for_each(|name| shard.connect(&name, &will));
    assert_eq!((shard.number(M::MovesWaiting), shard.number(M::ConnectionsMoveRefused)), (fit as u64, 4));
}
