//! A shard, its devices and its Kafka, in one thread and one clock.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use forebay::auth::Policy;
use forebay::broker::router::Slots;
use forebay::config::{self, Config};
use forebay::dapr::{App, Call};
use forebay::edge::Edge;
use forebay::link::Peers;
use forebay::metrics::board::Board;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::journal::{Filter, Journal};
use forebay::metrics::spec::{Layout, ShardMetric, SinkMetric, SourceMetric};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Monotonic, Shard};
use forebay::service::dead_letters::{Letter, Ways};
use forebay::service::verifier::{Bounds, Verifiers};
use forebay::shard::mail::{Mail, Notice, Reconfiguration, ToShard};
use forebay::shard::{Core, Surroundings};

use super::allocation::counted;
use super::broker::Broker;
use super::coordinator::Groups;
use super::ring::{Client, Table, reset};

/// One sink that takes everything, at `replicated`.
pub(crate) const ONE_SINK: &str = r##"
[kafka.main]
bootstrap = "127.0.0.1:9092"
[[sink]]
name = "all"
kafka = "main"
filters = ["#"]
topic = "all"
"##;

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) table: Table,
    pub(crate) broker: Broker,
    board: Arc<Board>,
    /// After so many bytes to Kafka, all links together, the link that carries the next is cut there. Taken when done.
    pub(crate) cut_at: Option<usize>,
    /// What the shard has told.
    pub(crate) journal: Arc<Journal>,
    /// Who has which slot.
    pub(crate) slots: Arc<Slots>,
    /// The other instances, and until when this one may speak.
    pub(crate) peers: Arc<Peers>,
    config: Arc<Config>,
    rules: &'static dyn Rules,
    notices: Receiver<Notice>,
    /// Whether Kafka can be reached.
    pub(crate) kafka_up: bool,
    /// Outgoing connections that the broker has accepted.
    linked: Vec<ConnId>,
    /// Bytes of each link that the broker has not taken as whole requests.
    requests: Vec<(ConnId, Vec<u8>)>,
    /// Which connections have a layer; `None`: none.
    layers: Option<fastrand::Rng>,
    /// What the shard has allocated in [`World::turn`] and [`World::advance`].
    pub(crate) allocations: u64,
}

/// Flags, keep-alive and properties of a CONNECT.
const KEPT_FOR_AN_HOUR: &[u8] = &[0, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10];

impl World {
    /// One shard with this configuration.
    pub(crate) fn new(text: &str) -> Self {
        let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        Self::of(config)
    }

    /// The same under other rules than the program's.
    pub(crate) fn under(rules: &'static dyn Rules, text: &str) -> Self {
        let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        Self::start(config, rules, None, Ways::default(), None)
    }

    /// The same, with a cut from its first byte to Kafka on.
    pub(crate) fn with_cut(text: &str, cut_at: usize) -> Self {
        let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        Self::start(config, &KEPT, Some(cut_at), Ways::default(), None)
    }

    /// One shard with a configuration that no file would get past its checks.
    pub(crate) fn of(config: Config) -> Self {
        Self::start(config, &KEPT, None, Ways::default(), None)
    }

    /// The same under other rules than the program's.
    pub(crate) fn of_under(rules: &'static dyn Rules, config: Config) -> Self {
        Self::start(config, rules, None, Ways::default(), None)
    }

    /// The same with somebody who takes the letters for files of dead letters.
    pub(crate) fn with_letters(config: Config, dead_letters: Vec<Option<Sender<Letter>>>) -> Self {
        Self::with_ways(config, Ways { sinks: dead_letters, bridges: Vec::new() })
    }

    /// The same for files of bridges, too.
    pub(crate) fn with_ways(config: Config, dead_letters: Ways) -> Self {
        Self::start(config, &KEPT, None, dead_letters, None)
    }

    /// One shard with this configuration, and what it asks of the threads that compare passwords: so many questions find
    /// room.
    pub(crate) fn asking(text: &str, room: usize) -> (Self, Verifiers) {
        let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        let bounds = Bounds { all: room, ..Bounds::DEFAULT };
        let asked = Verifiers::without_threads(bounds).expect("random numbers");
        (Self::start(config, &KEPT, None, Ways::default(), Some(asked.clone())), asked)
    }

    fn start(
        mut config: Config,
        rules: &'static dyn Rules,
        cut_at: Option<usize>,
        dead_letters: Ways,
        verifiers: Option<Verifiers>,
    ) -> Self {
        config.service.shards = 1;
        let config = Arc::new(config);
        let groups = config.has_instances().then(Groups::default);
        let Made { core, board, journal, notices, slots, peers } = make(&config, rules, dead_letters, verifiers);
        let mut world = Self {
            core,
            board,
            journal,
            slots,
            peers,
            notices,
            config,
            rules,
            table: Table::new(),
            broker: Broker { keep: true, groups, ..Broker::default() },
            cut_at,
            kafka_up: true,
            linked: Vec::new(),
            requests: Vec::new(),
            layers: layers(),
            allocations: 0,
        };
        world.core.on_start(&mut world.table);
        world.turn();
        world
    }

    /// The process ends, and what was on its way to it and from it with it; a new one starts on the same disk, with this
    /// configuration if there is one. Kafka stays as it is.
    pub(crate) fn restart(&mut self, text: Option<&str>) {
        let parsed = |text| config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        self.restart_as(text.map(parsed));
    }

    /// The same with a configuration that no file would get past its checks.
    pub(crate) fn restart_as(&mut self, config: Option<Config>) {
        if let Some(mut config) = config {
            config.service.shards = 1;
            self.config = Arc::new(config);
        }
        let Made { core, board, journal, notices, slots, peers } =
            make(&self.config, self.rules, Ways::default(), None);
        (self.core, self.board, self.journal, self.notices) = (core, board, journal, notices);
        (self.slots, self.peers) = (slots, peers);
        self.table.restart();
        self.linked.clear();
        self.requests.clear();
        self.core.on_start(&mut self.table);
        if !self.table.stopped {
            self.turn();
        }
    }

    /// Another configuration is in force.
    pub(crate) fn reload_as(&mut self, text: &str) {
        self.reload_to(config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}")));
    }

    /// The same with one that no file would get past its checks.
    pub(crate) fn reload_to(&mut self, mut config: Config) {
        config.service.shards = 1;
        self.config = Arc::new(config);
        self.reload();
    }

    /// Files that the configuration names have changed, and the shard gets what they hold.
    pub(crate) fn reload(&mut self) {
        let config = Arc::clone(&self.config);
        self.board = Arc::new(Board::new(layout(&config)));
        let (board, edge) = (Arc::clone(&self.board), edge(&config));
        let to = Reconfiguration { config, board, dead_letters: Ways::default(), edge, listeners: Vec::new() };
        self.core.on_mail(&mut self.table, Mail::Shard(ToShard::Reconfigure(Box::new(to))));
        self.turn();
    }

    /// The power goes and comes back.
    pub(crate) fn power_cut(&mut self) {
        self.table.disk.power_cut();
        self.restart(None);
    }

    /// What the shard has said to the thread that started it.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.try_iter().collect()
    }

    /// Events of this kind.
    pub(crate) fn told(&self, kind: EventKind) -> usize {
        self.journal.collect();
        self.journal.page(&Filter::default()).events.iter().filter(|(_, event)| event.kind == kind).count()
    }

    /// A number of a sink, as of the last turn.
    pub(crate) fn sink_number(&self, sink: usize, metric: SinkMetric) -> u64 {
        self.board.read()[layout(&self.config).sink(sink, metric)]
    }

    /// A number of a source, as of the last turn.
    pub(crate) fn source_number(&self, source: usize, metric: SourceMetric) -> u64 {
        self.board.read()[layout(&self.config).source(source, metric)]
    }

    /// A number of the shard, as of the last turn.
    pub(crate) fn number(&self, metric: ShardMetric) -> u64 {
        self.board.read()[metric as usize]
    }

    /// Where its numbers are.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// What it runs with.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A letter, and the rest of the turn.
    pub(crate) fn mail(&mut self, letter: Mail) {
        self.core.on_mail(&mut self.table, letter);
        self.turn();
    }

    /// All numbers, as of the last turn.
    pub(crate) fn values(&self) -> Vec<u64> {
        self.board.read()
    }

    /// A device's socket.
    pub(crate) fn accept(&mut self) -> ConnId {
        self.accept_at(ListenerId(0))
    }

    /// The same at this listener.
    pub(crate) fn accept_at(&mut self, listener: ListenerId) -> ConnId {
        let conn = self.table.open(None);
        if self.layers.as_mut().is_some_and(fastrand::Rng::bool) {
            Client::over(self.table.wire(conn));
        }
        self.core.on_accept(&mut self.table, conn, listener);
        conn
    }

    /// Bytes of a device as they come to the shard, through its layer if it has one: in the end of its handshake, if they
    /// are the first.
    pub(crate) fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.table.wire(conn).client.is_none() {
            self.core.on_bytes(&mut self.table, conn, bytes);
            return;
        }
        let mut plain = bytes.to_vec();
        loop {
            let wire = self.table.wire(conn);
            let out = if wire.out.is_empty() { wire.take_out() } else { Vec::new() };
            let Some(client) = &mut wire.client else { return };
            assert!(client.read(&out, usize::MAX).is_empty(), "a handshake");
            let sealed = client.write(&mut plain, usize::MAX);
            if sealed.is_empty() {
                return;
            }
            self.table.feed(&mut self.core, conn, &sealed);
        }
    }

    /// Bytes of a device, and the rest of the turn.
    pub(crate) fn bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        self.feed(conn, bytes);
        self.turn();
    }

    /// What the shard has sent to a device since the last look. With that taken there is room for more, which comes with the next turn.
    pub(crate) fn sent(&mut self, conn: ConnId) -> Vec<u8> {
        let wire = self.table.wire(conn);
        let out = wire.take_out();
        let has_room_again = !out.is_empty() && wire.has_room_again();
        let plain = match &mut wire.client {
            Some(client) => client.read(&out, out.len() / 2),
            None => out,
        };
        if has_room_again {
            self.core.on_writable(&mut self.table, conn);
        }
        plain
    }

    /// A device that is connected: 3.1.1, clean session, CONNACK taken away.
    pub(crate) fn device(&mut self, client_id: &str, keep_alive_s: u16) -> ConnId {
        let conn = self.accept();
        let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 2];
        connect.extend_from_slice(&keep_alive_s.to_be_bytes());
        connect.extend_from_slice(&u16::try_from(client_id.len()).expect("short").to_be_bytes());
        connect.extend_from_slice(client_id.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).expect("short");
        self.bytes(conn, &connect);
        assert_eq!(self.sent(conn), [0x20, 2, 0, 0], "CONNACK");
        conn
    }

    /// The same in 5.0, clean start.
    pub(crate) fn device_v5(&mut self, client_id: &str) -> ConnId {
        self.connected_v5(client_id, &[2, 0, 0, 0]).0
    }

    /// The same, and its session is kept for an hour; with what came behind the CONNACK.
    pub(crate) fn kept_v5(&mut self, client_id: &str) -> (ConnId, Vec<u8>) {
        self.connected_v5(client_id, KEPT_FOR_AN_HOUR)
    }

    /// The same, and CONNACK may be late.
    pub(crate) fn connect_kept_v5(&mut self, client_id: &str) -> ConnId {
        self.connect_v5(client_id, KEPT_FOR_AN_HOUR)
    }

    fn connected_v5(&mut self, client_id: &str, middle: &[u8]) -> (ConnId, Vec<u8>) {
        let conn = self.connect_v5(client_id, middle);
        let mut connack = self.sent(conn);
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK");
        let behind = connack.split_off(2 + usize::from(connack[1]));
        (conn, behind)
    }

    /// `middle`: flags, keep-alive, properties.
    pub(crate) fn connect_v5(&mut self, client_id: &str, middle: &[u8]) -> ConnId {
        let conn = self.accept();
        let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5];
        connect.extend_from_slice(middle);
        connect.extend_from_slice(&u16::try_from(client_id.len()).expect("short").to_be_bytes());
        connect.extend_from_slice(client_id.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).expect("short");
        self.bytes(conn, &connect);
        conn
    }

    /// A 3.1.1 device that publishes until it is left unread. How many messages that took.
    pub(crate) fn fill(&mut self, device: ConnId) -> u16 {
        let mut bytes = Vec::new();
        for id in 1..10_000 {
            bytes.clear();
            publish("t", id, &[b'x'; 8_000], &mut bytes);
            self.bytes(device, &bytes);
            if self.table.wire(device).paused {
                return id;
            }
        }
        panic!("the memory bound is never reached");
    }

    /// Ends the turn and lets Kafka answer, until nobody has anything more to say.
    pub(crate) fn turn(&mut self) {
        self.turns(usize::MAX);
    }

    /// The same, for this many turns at most.
    pub(crate) fn turns(&mut self, most: usize) {
        for _ in 0..most {
            self.shard(|core, table| core.on_turn_end(table));
            judge_copies(&self.board);
            let mut moved = self.kafka() | std::mem::take(&mut self.table.goes_on);
            while let Some(event) = self.table.disk.event() {
                self.shard(|core, table| core.on_segment(table, event));
                moved = true;
            }
            if !moved || self.table.stopped {
                return;
            }
        }
    }

    /// A call of the shard, its allocations counted.
    fn shard(&mut self, call: impl FnOnce(&mut Core, &mut Table)) {
        let (core, table) = (&mut self.core, &mut self.table);
        self.allocations += counted(|| call(core, table));
    }

    /// Turns the clock, firing what falls due on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.table.now.after(by);
        self.timers(until);
        self.table.now = until;
        self.turn();
    }

    /// What timers do until then, and nothing else.
    pub(crate) fn timers(&mut self, until: Monotonic) {
        while let Some(token) = self.table.next_timer(until) {
            self.shard(|core, table| core.on_timer(table, token));
            self.turn();
        }
    }

    /// Forgets what Kafka, clients and people were sent: the heap is counted.
    pub(crate) fn forget_what_was_sent(&mut self) {
        self.broker.records = Vec::new();
        self.broker.headers = Vec::new();
        self.broker.batches = Vec::new();
        self.broker.known = std::collections::HashMap::new();
        self.table.wires.iter_mut().for_each(|wire| wire.out = Vec::new());
        self.notices();
        self.journal.collect();
    }

    /// Kafka goes away: every link breaks, new ones are refused.
    pub(crate) fn kafka_down(&mut self) {
        self.kafka_up = false;
        for conn in std::mem::take(&mut self.linked) {
            if !self.table.wire(conn).closed {
                self.table.wire(conn).closed = true;
                self.core.on_close(&mut self.table, conn, Closed::Error(reset()));
            }
        }
        self.requests.clear();
        self.turn();
    }

    /// Kafka's side of a turn; whether anything happened.
    fn kafka(&mut self) -> bool {
        let mut moved = false;
        for slot in 0..self.table.wires.len() {
            let conn = self.table.id(slot);
            let wire = &mut self.table.wires[slot];
            // Remotes of bridges are no Kafka.
            if wire.outgoing.is_none_or(|to| to.port() == 1883) || wire.closed {
                continue;
            }
            if !self.linked.contains(&conn) {
                moved = true;
                if self.kafka_up {
                    self.linked.push(conn);
                    self.requests.push((conn, Vec::new()));
                    self.core.on_connect(&mut self.table, conn);
                } else {
                    wire.closed = true;
                    self.core.on_close(&mut self.table, conn, Closed::Error(reset()));
                }
                continue;
            }
            if wire.out.is_empty() {
                continue;
            }
            let Some((_, pending)) = self.requests.iter_mut().find(|(id, _)| *id == conn) else { continue };
            let cut = self.cut_at.filter(|at| *at < wire.out.len());
            self.cut_at = self.cut_at.filter(|_| cut.is_none()).map(|at| at - wire.out.len());
            wire.out.truncate(cut.unwrap_or(usize::MAX));
            pending.append(&mut wire.out);
            let answers = self.broker.answer(pending);
            if !answers.is_empty() {
                moved = true;
                self.shard(|core, table| _ = core.on_bytes(table, conn, &answers));
            }
            let wire = &mut self.table.wires[slot];
            if cut.is_some() && !wire.closed {
                moved = true;
                wire.closed = true;
                self.core.on_close(&mut self.table, conn, Closed::Error(reset()));
            }
        }
        moved
    }
}

/// Half of the connections have a layer, other ones in each test. What is measured elsewhere has none.
fn layers() -> Option<fastrand::Rng> {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main")?;
    Some(fastrand::Rng::with_seed(name.bytes().fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte))))
}

/// A shard that has not started, and who hears it.
struct Made {
    core: Core,
    board: Arc<Board>,
    journal: Arc<Journal>,
    notices: Receiver<Notice>,
    slots: Arc<Slots>,
    peers: Arc<Peers>,
}

/// The ledger of copies of a shard (B15): whatever begins is in exactly one place.
pub(crate) fn judge_copies(board: &Board) {
    let values = board.read();
    let sum = |side: &[ShardMetric]| side.iter().map(|metric| values[*metric as usize]).sum::<u64>();
    let (came, went) = (sum(&ShardMetric::COPIES_IN), sum(&ShardMetric::COPIES_OUT));
    if came != went {
        let all = ShardMetric::COPIES_IN.iter().chain(&ShardMetric::COPIES_OUT);
        let all: Vec<_> =
            all.map(|metric| (metric, values[*metric as usize])).filter(|(_, value)| *value > 0).collect();
        panic!("{came} copies began, {went} are accounted for: {all:?}");
    }
}

/// The places of a board.
pub(crate) fn layout(config: &Config) -> Layout {
    Layout {
        sinks: config.sinks.len(),
        clusters: config.clusters.len(),
        listeners: config.listeners.len(),
        sources: config.sources.len(),
        rules: config.rules.len(),
        bridges: config.bridges.len(),
    }
}

fn make(config: &Arc<Config>, rules: &'static dyn Rules, dead_letters: Ways, verifiers: Option<Verifiers>) -> Made {
    let (tell, notices) = channel();
    let board = Arc::new(Board::new(layout(config)));
    let edge = edge(config);
    let around = Surroundings { notices: tell, edge, verifiers, dead_letters, rules, ..surroundings(config) };
    let (journal, slots, peers) = (Arc::clone(&around.journal), Arc::clone(&around.slots), Arc::clone(&around.peers));
    Made { core: Core::new(0, around, Arc::clone(&board)), board, journal, notices, slots, peers }
}

thread_local! {
    /// Messages for the application of bindings: a world and its test are one thread.
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Takes out what the application was called with.
pub(crate) fn calls() -> Vec<Call> {
    CALLS.take()
}

/// What shards have around them where no thread listens.
pub(crate) fn surroundings(config: &Arc<Config>) -> Surroundings {
    let (post, _mailboxes) = forebay::runtime::mailboxes(config.service.shards, 16).expect("mailboxes");
    let app = App::new(|call| {
        CALLS.with_borrow_mut(|calls| calls.push(call));
        true
    });
    Surroundings {
        app: Some(app),
        config: Arc::clone(config),
        post,
        resolver: channel().0,
        sasl: channel().0,
        journal: Arc::default(),
        notices: channel().0,
        tally: Default::default(),
        shares: Default::default(),
        edge: Default::default(),
        verifiers: None,
        dead_letters: Ways::default(),
        interest: Arc::default(),
        shared_subscriptions: Arc::default(),
        lost_before: Default::default(),
        rules: &KEPT,
        machine: Arc::new(forebay::rule::around::Machine::bare()),
        bans: Arc::default(),
        slots: Arc::new(Slots::of(config)),
        peers: Arc::default(),
    }
}

/// Who may connect, by the files that the configuration names.
pub(crate) fn edge(config: &Config) -> Edge {
    let policy = |listener: &config::Listener| {
        let settings = config.auth.iter().find(|auth| Some(&auth.name) == listener.auth.as_ref())?;
        Some(Arc::new(Policy::load(settings).expect("its files are right")))
    };
    Edge { auth: config.listeners.iter().map(policy).collect(), ..Edge::default() }
}

/// A QoS 1 PUBLISH in 3.1.1.
pub(crate) fn publish(topic: &str, packet_id: u16, payload: &[u8], into: &mut Vec<u8>) {
    let len = 2 + topic.len() + 2 + payload.len();
    into.push(0x32);
    let mut rest = len;
    while rest > 127 {
        into.push(u8::try_from(rest & 127).expect("seven bits") | 128);
        rest >>= 7;
    }
    into.push(u8::try_from(rest).expect("seven bits"));
    into.extend_from_slice(&u16::try_from(topic.len()).expect("short").to_be_bytes());
    into.extend_from_slice(topic.as_bytes());
    into.extend_from_slice(&packet_id.to_be_bytes());
    into.extend_from_slice(payload);
}
