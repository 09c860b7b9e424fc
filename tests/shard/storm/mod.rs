//! Everything that can go wrong, at random: devices of all kinds that come and go, two Kafka clusters that lose answers,
//! refuse, move leaders, forget topics for a while, let them grow, forbid them, mind the time of records, throttle, freeze and go away; every
//! option of a sink; and so little memory that devices are left unread much of the time. One seed is one run, on a simulated clock. See [`Storm::judge`] and the checks on the way for what must hold.

mod draw;
mod judge;
mod network;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use forebay::config;
use forebay::metrics::board::Board;
use forebay::metrics::spec::{Layout, SinkMetric};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Monotonic, Shard};
use forebay::service::dead_letters::{Letter, Ways};
use forebay::shard::mail::{Mail, ToDeadLetters, ToShard};
use forebay::shard::{Core, Surroundings};

use self::draw::{Dead, Draw};
use crate::device::{Device, News, State};
use crate::kafka::Cluster;
use crate::layers::Layered;
use crate::ring::{Client, Table, reset};
use crate::world::{layout, surroundings};

const SEEDS: u64 = 100;
const DEVICES: usize = 6;
const MESSAGES: usize = 40;
/// Messages that a device has unanswered at most.
const WINDOW: usize = 20;
const STORMY_STEPS: usize = 400;

/// What reaches the shard later.
enum Delivery {
    Connected,
    Refused,
    Bytes(Vec<u8>),
    Cut,
}

/// A connection to a broker, as the broker has it.
struct Link {
    cluster: usize,
    node: i32,
    inbox: Vec<u8>,
    /// The broker's end of its layer, if it has one.
    layered: Option<Layered>,
    /// Answers arrive in order: none before this.
    clear_at: Monotonic,
    is_open: bool,
}

struct Storm {
    core: Core,
    table: Table,
    board: Arc<Board>,
    layout: Layout,
    clusters: [Cluster; 2],
    links: BTreeMap<ConnId, Link>,
    deliveries: BTreeMap<(Monotonic, u64), (ConnId, Delivery)>,
    delivered: u64,
    devices: Vec<Device>,
    rng: fastrand::Rng,
    /// Which connections have a layer, and where it is cut.
    layers: fastrand::Rng,
    draw: Draw,
    /// What the shard has sent to the files of dead letters, by sink.
    letters: Vec<Receiver<Letter>>,
    /// What is in those files: how often each value, by sink.
    filed: Vec<HashMap<Vec<u8>, u32>>,
    /// The service ends: nobody can connect any more.
    draining: bool,
    /// Most seen: stalls, retries, dead letters.
    seen: [u64; 6],
    /// Receipts with an offset, and without.
    receipts: [u64; 2],
}

impl Storm {
    fn new(seed: u64) -> Self {
        // What the shard draws from chance hangs on the seed as well.
        fastrand::seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let draw = Draw { receipts: Draw::receipts(seed), ..Draw::new(&mut rng) };
        let dead_letters = draw.dead != Dead::Nowhere;
        let mut config = config::parse(&draw.text(), "storm.toml").unwrap_or_else(|problems| panic!("{problems}"));
        config.service.shards = 1;
        for cluster in &mut config.clusters {
            // The producer raises it to the least with which it can keep its promises.
            cluster.buffer_bytes = rng.u64(1..3) * 16 * 1024;
        }
        let (posts, letters): (Vec<_>, Vec<_>) = config.sinks.iter().map(|_| channel()).unzip();
        let layout = layout(&config);
        let board = Arc::new(Board::new(layout));
        let dead_letters_to = posts.into_iter().map(|post| (draw.dead == Dead::File).then_some(post)).collect();
        let around = Surroundings {
            dead_letters: Ways { sinks: dead_letters_to, bridges: Vec::new() },
            ..surroundings(&Arc::new(config))
        };
        let core = Core::new(0, around, Arc::clone(&board));
        let mut clusters = [Cluster::new("127.0.0.1", seed), Cluster::new("127.0.0.2", !seed)];
        clusters.iter_mut().for_each(|cluster| cluster.unreadable = draw.unreadable);
        let mut devices: Vec<_> = (0..DEVICES).map(|index| Device::new(index, &mut rng, MESSAGES)).collect();
        devices.iter_mut().for_each(|device| device.dead_letters = dead_letters);
        let mut storm = Self {
            core,
            table: Table::new(),
            board,
            layout,
            clusters,
            links: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            delivered: 0,
            devices,
            rng,
            layers: fastrand::Rng::with_seed(!seed),
            draw,
            filed: letters.iter().map(|_| HashMap::new()).collect(),
            letters,
            draining: false,
            seen: [0; 6],
            receipts: [0; 2],
        };
        storm.core.on_start(&mut storm.table);
        storm.turn();
        storm
    }

    fn run(&mut self) {
        for _ in 0..STORMY_STEPS {
            self.trouble();
            self.step(true);
        }
        for cluster in &mut self.clusters {
            (cluster.up, cluster.troubled, cluster.frozen) = (true, false, None);
            (cluster.timeless, cluster.forbidden) = (false, None);
        }
        let calm = self.table.now;
        // Some storms end with the service's end: then what is unanswered may be anywhere, and nothing is left behind.
        self.draining = self.rng.u8(..4) == 0;
        if self.draining {
            self.core.on_mail(&mut self.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(600) }));
        }
        while !self.is_over() {
            self.step(false);
            let waited = self.table.now.since(calm);
            assert!(waited < Duration::from_secs(60), "not all is answered long after the storm:\n{}", self.state());
        }
        self.judge();
    }

    fn is_over(&self) -> bool {
        let done = if self.draining { self.table.stopped } else { self.devices.iter().all(Device::is_done) };
        assert!(!self.table.stopped || self.sum(SinkMetric::BufferedRows) == 0, "stopped with rows in memory");
        done && self.sum(SinkMetric::BufferedRows) == 0
    }

    fn sum(&self, metric: SinkMetric) -> u64 {
        let values = self.board.read();
        (0..self.layout.sinks).map(|sink| values[self.layout.sink(sink, metric)]).sum()
    }

    fn state(&self) -> String {
        let device = |d: &Device| {
            let open = d.messages.iter().filter(|m| matches!(m.state, State::Sent | State::Received)).count();
            let paused = d.conn.is_some_and(|c| self.table.wires[c.slot as usize].paused);
            format!(
                "{} conn {:?} paused {paused} sent {} open {open} in socket {}",
                d.name,
                d.conn,
                d.messages.len(),
                d.socket.len()
            )
        };
        let devices: Vec<String> = self.devices.iter().map(device).collect();
        format!("{}\nbuffered rows {}", devices.join("\n"), self.sum(SinkMetric::BufferedRows))
    }

    /// Something goes wrong, or comes right again.
    fn trouble(&mut self) {
        match self.rng.u8(..72) {
            0 => {
                let cluster = self.rng.usize(..2);
                self.clusters[cluster].up ^= true;
                if !self.clusters[cluster].up {
                    self.cut_links(|link| link.cluster == cluster);
                }
            }
            1 => {
                let node = self.rng.i32(1..=2);
                self.cut_links(|link| link.node == node);
            }
            2 | 3 => self.clusters[self.rng.usize(..2)].move_a_leader(),
            4 => self.leave(true),
            5 => self.leave(false),
            // For a hundred steps or so: the others of that cluster go on.
            6 | 7 => self.clusters[1].hide_or_show_a_topic(),
            8 => {
                let cluster = self.rng.usize(..2);
                self.clusters[cluster].frozen = Some(self.rng.i32(0..=2));
            }
            9 => self.clusters[self.rng.usize(..2)].grow_a_topic(),
            10 => self.clusters[self.rng.usize(..2)].timeless ^= true,
            11 | 12 if self.draw.forbids => {
                let cluster = &mut self.clusters[self.rng.usize(..2)];
                cluster.forbidden =
                    if cluster.forbidden.is_some() { None } else { Some(["all", "odd"][self.rng.usize(..2)]) };
            }
            _ => {}
        }
    }

    /// The disk: some of the letters, or all, are in their files, and the shard hears of it.
    fn file_letters(&mut self, stormy: bool) {
        for sink in 0..self.letters.len() {
            let most = if stormy { self.rng.usize(..3) } else { usize::MAX };
            let mut count = 0;
            for letter in self.letters[sink].try_iter().take(most) {
                let line: serde_json::Value = serde_json::from_slice(&letter.line).expect("a line of JSON");
                let value = line["value"].as_str().expect("text").as_bytes().to_vec();
                *self.filed[sink].entry(value).or_default() += 1;
                count += 1;
            }
            if count > 0 {
                self.core.on_mail(&mut self.table, Mail::DeadLetters(ToDeadLetters::Filed { sink, count }));
            }
        }
    }

    /// A device's connection ends: noticed, or in silence (its client id will come back on another).
    fn leave(&mut self, noticed: bool) {
        let device = self.rng.usize(..DEVICES);
        let Some(conn) = self.devices[device].conn.take() else { return };
        self.devices[device].socket.clear();
        // What is left unread does not hear of its peer's end.
        if noticed && self.table.named(conn).is_some_and(|wire| !wire.closed && !wire.paused) {
            self.core.on_close(&mut self.table, conn, Closed::Error(reset()));
            self.table.release(conn);
            self.turn();
        }
    }

    fn step(&mut self, stormy: bool) {
        for index in 0..DEVICES {
            self.device_acts(index, stormy);
        }
        if self.draw.dead == Dead::File && (!stormy || self.rng.u8(..10) == 0) {
            self.file_letters(stormy);
        }
        if self.rng.bool() {
            self.turn();
        }
        let wait_ms = match (stormy, self.rng.u8(..20)) {
            (true, 0) => self.rng.u64(..1_500),
            (true, 1..10) => 0,
            _ => self.rng.u64(1..8),
        };
        self.advance(Duration::from_millis(wait_ms));
    }

    fn device_acts(&mut self, index: usize, stormy: bool) {
        let device = &mut self.devices[index];
        let Some(conn) = device.conn else {
            if !self.draining && (!stormy || self.rng.u8(..4) == 0) {
                let conn = self.table.open(None);
                device.receipts = self.draw.receipts == Some(conn.slot % 2);
                if self.layers.bool() {
                    Client::over(self.table.wire(conn));
                }
                self.core.on_accept(&mut self.table, conn, ListenerId((conn.slot % 2) as u16));
                device.connect(conn);
            }
            return;
        };
        for _ in 0..self.rng.usize(..4) {
            device.publish(&mut self.rng, WINDOW);
        }
        // Up to three reads in a turn: those behind one that is not taken were with the kernel already.
        let reads = if self.table.named(conn).is_none_or(|wire| wire.paused) { 0 } else { self.rng.usize(..4) };
        for _ in 0..reads {
            let device = &mut self.devices[index];
            let length = device.socket.len().min(self.rng.usize(1..2_000));
            let mut bytes: Vec<u8> = device.socket.drain(..length).collect();
            if let Some(client) = self.table.named(conn).and_then(|wire| wire.client.as_mut()) {
                let most = [16, 500, 3_000][self.layers.usize(..3)];
                let wire = client.write(&mut bytes, self.layers.usize(1..most));
                // What has to wait for the end of the handshake.
                bytes.into_iter().rev().for_each(|byte| device.socket.push_front(byte));
                bytes = wire;
            }
            if !bytes.is_empty() && self.table.named(conn).is_some_and(|wire| !wire.closed) {
                self.table.feed(&mut self.core, conn, &bytes);
            }
        }
    }

    /// Devices read what they were sent; each answer is held against Kafka's logs there and then.
    fn devices_read(&mut self) {
        for index in 0..DEVICES {
            let device = &mut self.devices[index];
            let Some(conn) = device.conn else { continue };
            let Some(wire) = self.table.named(conn) else { continue };
            let (mut bytes, closed) = (wire.take_out(), wire.closed);
            if let Some(client) = &mut wire.client {
                bytes = client.read(&bytes, self.layers.usize(..=bytes.len()));
            }
            let news = device.read(&bytes);
            if closed {
                device.conn = None;
                device.socket.clear();
            }
            for News::Answered(message, success, receipts) in news {
                self.answered(index, message, success);
                self.check_receipts(index, message, success, &receipts);
            }
        }
        self.bury();
    }

    /// Connections that the shard has closed are told closed, and their slots used again.
    fn bury(&mut self) {
        for slot in 0..self.table.wires.len() {
            let conn = self.table.id(slot);
            if self.table.wires[slot].closed && self.table.named(conn).is_some() && !self.table.is_free(conn) {
                if self.devices.iter().any(|device| device.conn == Some(conn)) {
                    continue;
                }
                self.links.remove(&conn);
                self.core.on_close(&mut self.table, conn, Closed::Local);
                self.table.release(conn);
            }
        }
    }

    /// The end of a turn: the shard's own, then everybody looks at what it has written.
    fn turn(&mut self) {
        self.core.on_turn_end(&mut self.table);
        self.check_board();
        self.brokers_read();
        self.devices_read();
    }

    /// Turns the clock: timers and deliveries in their order, each the beginning of a turn.
    fn advance(&mut self, by: Duration) {
        let until = self.table.now.after(by);
        loop {
            let delivery = self.deliveries.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until);
            if let Some(token) = self.table.next_timer(delivery.unwrap_or(until)) {
                self.core.on_timer(&mut self.table, token);
            } else if let Some(at) = delivery {
                self.table.now = self.table.now.max(at);
                let (conn, what) = self.deliveries.pop_first().expect("seen").1;
                self.arrive(conn, what);
            } else {
                break;
            }
            if self.rng.u8(..3) > 0 {
                self.turn();
            }
        }
        self.table.now = until;
        self.turn();
    }
}

#[test]
fn a_storm() {
    let only: Option<u64> = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = std::env::var("STORM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let (mut seen, mut receipts) = ([0; 6], [0; 2]);
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| {
            let mut storm = Storm::new(seed);
            storm.run();
            (storm.seen, storm.receipts)
        });
        match run {
            Ok((more, told)) => {
                seen.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                receipts.iter_mut().zip(told).for_each(|(sum, more)| *sum += more);
            }
            Err(panic) => {
                let draw = Draw::new(&mut fastrand::Rng::with_seed(seed));
                eprintln!("the storm of seed {seed}: run it alone with STORM_SEED={seed}; {draw:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    if only.is_none() {
        assert!(seen[..2].iter().all(|count| *count > 15 * seeds), "too quiet a storm: stalls, retries {seen:?}");
        assert!(seen[2] > seeds, "too few dead letters: {seen:?}");
        let enough = receipts[0] > 10 * seeds && (receipts[1] > 0 || seeds < SEEDS);
        assert!(enough, "too few receipts with and without offset: {receipts:?}");
        assert!(seen[3..].iter().all(|count| *count > seeds / 4), "expired, without time, asked: {seen:?}");
    }
}
