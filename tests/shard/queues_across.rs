//! Messages for a kept session on another shard than its publisher's: whose disk the publisher waits for.

use std::sync::Arc;
use std::time::Duration;

use forebay::config;
use forebay::metrics::board::Board;
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::{ConnId, ListenerId, Shard as _};
use forebay::shard::Core;
use forebay::shard::router::owner;

use super::ring::Table;
use super::subscribe::{PLAIN, bytes_of, message, subscribe_packet};
use super::world::{layout, surroundings};

const SHARDS: usize = 2;

/// All shards of a process, each with a disk; letters arrive at once.
struct Process {
    config: Arc<config::Config>,
    shards: Vec<(Core, Table)>,
}

fn start(config: &Arc<config::Config>, tables: Vec<Table>) -> Vec<(Core, Table)> {
    let (around, layout) = (surroundings(config), layout(config));
    let start = |(index, mut table): (usize, Table)| {
        let mut core = Core::new(index, around.clone(), Arc::new(Board::new(layout)));
        (table.posted, table.mailbox) = (Some(Vec::new()), 16);
        core.on_start(&mut table);
        (core, table)
    };
    tables.into_iter().enumerate().map(start).collect()
}

impl Process {
    fn new() -> Self {
        let text = super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\"");
        let text = text.replace("bytes_max = \"16MiB\"", "bytes_max = \"64MiB\"");
        let mut config = config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        config.service.shards = SHARDS;
        let config = Arc::new(config);
        let shards = start(&config, (0..SHARDS).map(|_| Table::new()).collect());
        let mut process = Self { config, shards };
        process.settle();
        process
    }

    /// Until nothing more happens. A slow disk does nothing.
    fn settle(&mut self) {
        for _ in 0..20 {
            for shard in 0..SHARDS {
                let (core, table) = &mut self.shards[shard];
                table.now = table.now.after(Duration::from_millis(10));
                let now = table.now;
                while let Some(token) = table.next_timer(now) {
                    core.on_timer(table, token);
                }
                core.on_turn_end(table);
                while let Some(event) = table.disk.event() {
                    core.on_segment(table, event);
                    core.on_turn_end(table);
                }
                for (to, letter) in table.posted.as_mut().expect("it has mail").split_off(0) {
                    let (core, table) = &mut self.shards[to];
                    core.on_mail(table, letter);
                }
            }
        }
    }

    fn power_cut(&mut self) {
        let tables = std::mem::take(&mut self.shards).into_iter().map(|(_, mut table)| {
            table.disk.power_cut();
            table.restart();
            table
        });
        self.shards = start(&self.config, tables.collect());
        self.settle();
    }

    /// A client with a kept session; what came with the CONNACK.
    fn connect(&mut self, client: &str) -> (usize, ConnId, Vec<u8>) {
        let shard = owner(client, SHARDS);
        let (core, table) = &mut self.shards[shard];
        let conn = table.open(None);
        core.on_accept(table, conn, ListenerId(0));
        let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10];
        connect.extend_from_slice(&u16::try_from(client.len()).expect("short").to_be_bytes());
        connect.extend_from_slice(client.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).expect("short");
        core.on_bytes(table, conn, &connect);
        self.settle();
        let mut connack = self.heard(shard, conn);
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
        let behind = connack.split_off(2 + usize::from(connack[1]));
        (shard, conn, behind)
    }

    fn say(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let (core, table) = &mut self.shards[shard];
        core.on_bytes(table, conn, bytes);
        self.settle();
    }

    fn heard(&mut self, shard: usize, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.shards[shard].1.wire(conn).out)
    }
}

/// A client id that lives on this shard.
fn client_on(shard: usize) -> String {
    (0..).map(|number| format!("client-{number}")).find(|name| owner(name, SHARDS) == shard).expect("one of them")
}

#[test]
fn a_publisher_waits_for_the_disk_of_the_shard_that_keeps_it() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut process = Process::new();
        let (subscriber, publisher) = (client_on(1), client_on(0));
        let (shard, conn, _) = process.connect(&subscriber);
        let options = SubscriptionOptions { qos, ..PLAIN };
        process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("t", options)]));
        assert_eq!(process.heard(shard, conn).last(), Some(&(qos as u8)));
        let (from, to, _) = process.connect(&publisher);
        let send = |id, payload| {
            bytes_of(Version::V5, &Packet::Publish(Publish { qos, packet_id: id, ..message("t", payload) }))
        };
        process.shards[1].1.disk.slow = true;
        process.say(from, to, &send(1, "first"));
        assert!(process.heard(from, to).is_empty(), "{qos:?}: it could be lost");
        process.power_cut();
        let (shard, conn, behind) = process.connect(&subscriber);
        assert!(behind.is_empty(), "and it was");

        let (from, to, _) = process.connect(&publisher);
        process.say(from, to, &send(2, "second"));
        let answer = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
        assert_eq!(process.heard(from, to), [answer, 2, 0, 2]);
        assert!(!process.heard(shard, conn).is_empty());
        process.power_cut();
        let (_, _, behind) = process.connect(&subscriber);
        assert!(behind.ends_with(b"second") && behind[0] & 8 != 0, "{behind:?}");
    }
}
