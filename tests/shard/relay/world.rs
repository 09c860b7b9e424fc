//! Instances of one broker in one thread: their shards, the letters and the links between them, and their clients. A table of slots that a
//! test sets says who serves whom.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use forebay::broker::router::{Place, Slots};
use forebay::config::{self, Config};
use forebay::limits::SLOTS;
use forebay::link::{LISTENER, Peers};
use forebay::membership::{Instance as Member, Table as Members};
use forebay::metrics::board::Board;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::inspect::{Ask, Client as Shown, NamedClient, Told};
use forebay::metrics::journal::{Filter, Journal};
use forebay::metrics::spec::ShardMetric;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Monotonic, Shard as _};
use forebay::service::dead_letters::Ways;
use forebay::shard::mail::{Inspection, Mail, Reconfiguration, ToShard};
use forebay::shard::{Core, Surroundings};

use super::super::ring::{Table, reset};
use super::super::world::{edge, judge_copies, layout, surroundings};

/// A shard of an instance.
pub(super) struct Of {
    pub(super) core: Core,
    pub(super) table: Table,
    board: Arc<Board>,
    mail: VecDeque<Mail>,
}

/// An instance.
pub(super) struct Instance {
    pub(super) shards: Vec<Of>,
    slots: Arc<Slots>,
    pub(super) peers: Arc<Peers>,
    journal: Arc<Journal>,
    config: Arc<Config>,
    /// Whether it takes connections of others.
    pub(super) is_up: bool,
    /// It does nothing, as one that is frozen.
    pub(super) is_still: bool,
    /// Connections to it are not established yet.
    pub(super) is_far: bool,
    /// As many bytes of its shards still come anywhere.
    pub(super) says: usize,
}

/// A connection of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    instance: usize,
    shard: usize,
    conn: ConnId,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Shard(At),
    Client(usize),
    Gone,
}

/// A connection between two ends.
struct Line {
    ends: [End; 2],
    /// Bytes on their way to the end of this index.
    flying: [VecDeque<u8>; 2],
    /// Nothing comes after these.
    ended: [bool; 2],
}

/// A client's own end.
#[derive(Default)]
pub(super) struct Client {
    says: Vec<u8>,
    leaves: bool,
    pub(super) heard: Vec<u8>,
    /// The end of the connection has come.
    pub(super) is_over: bool,
    /// It reads nothing.
    pub(super) is_deaf: bool,
}

pub(super) struct World {
    pub(super) instances: Vec<Instance>,
    lines: Vec<Line>,
    pub(super) clients: Vec<Client>,
    /// How the bytes are cut and who is first; `None`: all at once, in order.
    random: Option<fastrand::Rng>,
}

fn link_of(instance: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(instance + 1).expect("few")], 1885))
}

fn name_of(instance: usize) -> String {
    format!("eu-{instance}")
}

impl World {
    /// So many instances with so many shards each. Nobody has a slot.
    pub(super) fn new(instances: usize, shards: usize, text: &str) -> Self {
        Self::with(instances, shards, text, "", None)
    }

    /// The same with a Server Reference (with `{}` for the number) of each instance, and cuts by chance.
    pub(super) fn with(instances: usize, shards: usize, text: &str, server: &str, seed: Option<u64>) -> Self {
        Self::by(&KEPT, (instances, shards), text, server, seed)
    }

    /// The same by these rules.
    pub(super) fn by(
        rules: &'static dyn Rules,
        (instances, shards): (usize, usize),
        text: &str,
        server: &str,
        seed: Option<u64>,
    ) -> Self {
        let start = |instance: usize| {
            let mut config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
            config.service.shards = shards;
            let config = Arc::new(config);
            let slots = Arc::new(Slots::of_broker(shards));
            let peers = Arc::new(Peers::new(&name_of(instance), !server.is_empty()));
            peers.set_incarnation(1);
            let around = Surroundings {
                slots: Arc::clone(&slots),
                peers: Arc::clone(&peers),
                edge: edge(&config),
                rules,
                ..surroundings(&config)
            };
            let journal = Arc::clone(&around.journal);
            let shard = |index: usize| {
                let board = Arc::new(Board::new(layout(&config)));
                let mut core = Core::new(index, around.clone(), Arc::clone(&board));
                let mut table = Table::new();
                (table.posted, table.mailbox) = (Some(Vec::new()), 64);
                core.on_start(&mut table);
                Of { core, table, board, mail: VecDeque::new() }
            };
            Instance {
                shards: (0..shards).map(shard).collect(),
                slots,
                peers,
                journal,
                config: Arc::clone(&config),
                is_up: true,
                is_still: false,
                is_far: false,
                says: usize::MAX,
            }
        };
        let members = |instance: usize| Member {
            name: name_of(instance).into(),
            incarnation: 1,
            link: link_of(instance).to_string().into(),
            server: server.replace("{}", &instance.to_string()).into(),
            member_id: "".into(),
        };
        let all: Vec<Instance> = (0..instances).map(start).collect();
        let table = Arc::new(Members {
            generation: 1,
            instances: (0..instances).map(members).collect(),
            owners: Vec::new(),
            routes: 0,
        });
        for instance in &all {
            instance.peers.set_table(Arc::clone(&table));
        }
        let random = seed.map(fastrand::Rng::with_seed);
        Self { instances: all, lines: Vec::new(), clients: Vec::new(), random }
    }

    /// An instance has the slot of a client from now on, or nobody has it. All know that.
    pub(super) fn give(&mut self, client_id: &str, owner: Option<usize>) {
        (0..self.instances.len()).for_each(|instance| self.tell(instance, client_id, owner));
        let slot = usize::from(self.instances[0].slots.slot(client_id).expect("slots"));
        let mut table = (*self.instances[0].peers.table()).clone();
        table.generation += 1;
        table.owners.resize(usize::from(SLOTS), None);
        table.owners[slot] = owner.map(|owner| u16::try_from(owner).expect("few"));
        let table = Arc::new(table);
        self.instances.iter().for_each(|instance| instance.peers.set_table(Arc::clone(&table)));
    }

    /// The same, and only this one knows that.
    pub(super) fn tell(&mut self, instance: usize, client_id: &str, owner: Option<usize>) {
        let Instance { slots, shards, .. } = &self.instances[instance];
        let slot = slots.slot(client_id).expect("slots");
        let place = match owner {
            None => Place::Nobody,
            Some(owner) if owner == instance => Place::Here(usize::from(slot) % shards.len()),
            Some(owner) => Place::Elsewhere(u16::try_from(owner).expect("few")),
        };
        slots.set(slot, place);
    }

    /// Whether two clients have the same slot.
    pub(super) fn is_same_slot(&self, one: &str, other: &str) -> bool {
        let slots = &self.instances[0].slots;
        slots.slot(one) == slots.slot(other)
    }

    /// An instance is another process from now on, as all know.
    pub(super) fn restart_of(&mut self, instance: usize) {
        let mut table = (*self.instances[0].peers.table()).clone();
        table.instances[instance].incarnation += 1;
        let table = Arc::new(table);
        self.instances.iter().for_each(|instance| instance.peers.set_table(Arc::clone(&table)));
    }

    /// The link of an instance has another address, as all know.
    pub(super) fn move_link(&mut self, instance: usize, link: &str) {
        let mut table = (*self.instances[0].peers.table()).clone();
        table.instances[instance].link = link.into();
        let table = Arc::new(table);
        self.instances.iter().for_each(|instance| instance.peers.set_table(Arc::clone(&table)));
    }

    /// A client connects to the first shard of an instance.
    pub(super) fn open(&mut self, instance: usize) -> usize {
        let port = u16::try_from(4000 + self.clients.len()).expect("few");
        self.enter(instance, ListenerId(0), SocketAddr::from(([203, 0, 113, 7], port)))
    }

    fn enter(&mut self, instance: usize, listener: ListenerId, peer: SocketAddr) -> usize {
        let client = self.clients.len();
        let at = self.accept(instance, 0, listener, peer);
        self.clients.push(Client::default());
        self.join(at, End::Client(client));
        client
    }

    fn accept(&mut self, instance: usize, shard: usize, listener: ListenerId, peer: SocketAddr) -> At {
        let Of { core, table, .. } = &mut self.instances[instance].shards[shard];
        let conn = table.open(None);
        table.wire(conn).peer = Some(peer);
        core.on_accept(table, conn, listener);
        At { instance, shard, conn }
    }

    /// A stranger connects to the port for other instances, from this address.
    pub(super) fn knock(&mut self, instance: usize, from: [u8; 4]) -> usize {
        self.enter(instance, LISTENER, SocketAddr::from((from, 50_000)))
    }

    fn join(&mut self, at: At, other: End) {
        self.lines.push(Line { ends: [End::Shard(at), other], flying: Default::default(), ended: [false; 2] });
    }

    /// A client sends bytes, and all that follows happens.
    pub(super) fn say(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].says.extend_from_slice(bytes);
        self.settle();
    }

    /// A client sends bytes and then ends its connection.
    pub(super) fn leave(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].says.extend_from_slice(bytes);
        self.clients[client].leaves = true;
        self.settle();
    }

    /// What a client has been sent since the last look.
    pub(super) fn heard(&mut self, client: usize) -> Vec<u8> {
        std::mem::take(&mut self.clients[client].heard)
    }

    /// Time passes.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now().after(by);
        while self.now() < end {
            let next = Monotonic((self.now().0 + 5_000_000).min(end.0));
            for instance in self.instances.iter_mut().filter(|instance| !instance.is_still) {
                for Of { core, table, .. } in &mut instance.shards {
                    while let Some(token) = table.next_timer(next) {
                        core.on_timer(table, token);
                    }
                    table.now = next;
                }
            }
            self.settle();
        }
    }

    fn now(&self) -> Monotonic {
        self.instances[0].shards[0].table.now
    }

    /// An instance is gone at once, with all its connections; what others have of it is reset.
    pub(super) fn kill(&mut self, instance: usize) {
        self.instances[instance].is_up = false;
        let is_its = |end: &End| matches!(end, End::Shard(at) if at.instance == instance);
        let cut: Vec<usize> = (0..self.lines.len()).filter(|line| self.lines[*line].ends.iter().any(is_its)).collect();
        for line in cut {
            let ends = std::mem::replace(&mut self.lines[line].ends, [End::Gone; 2]);
            for end in ends {
                match end {
                    End::Shard(at) if at.instance != instance => self.close(at, Closed::Error(reset())),
                    End::Client(client) => self.clients[client].is_over = true,
                    _ => {}
                }
            }
        }
        self.settle();
    }

    fn close(&mut self, at: At, why: Closed) {
        let Of { core, table, .. } = &mut self.instances[at.instance].shards[at.shard];
        core.on_close(table, at.conn, why);
        table.release(at.conn);
    }

    /// Until nothing more happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let moved = self.turns() | self.dial() | self.carry();
            if !moved {
                return;
            }
        }
        panic!("it never rests");
    }

    /// Turns of all shards, and their letters.
    fn turns(&mut self) -> bool {
        let mut moved = false;
        for (number, instance) in self.instances.iter_mut().enumerate().filter(|(_, of)| of.is_up && !of.is_still) {
            for Of { core, table, board, mail } in &mut instance.shards {
                for letter in mail.drain(..) {
                    moved = true;
                    core.on_mail(table, letter);
                }
                core.on_turn_end(table);
                judge_copies(board);
                moved |= std::mem::take(&mut table.goes_on);
            }
            for shard in 0..instance.shards.len() {
                for (to, letter) in std::mem::take(instance.shards[shard].table.posted.as_mut().expect("letters")) {
                    instance.shards[to].mail.push_back(letter);
                    moved = true;
                }
            }
            // Connections that have changed shards.
            let mut moved_in: Vec<(RawFd, usize, ConnId)> = Vec::new();
            for (shard, of) in instance.shards.iter_mut().enumerate() {
                moved_in.extend(of.table.moved_in.drain(..).map(|(fd, conn)| (fd, shard, conn)));
            }
            for (fd, shard, conn) in moved_in {
                for (from, of) in instance.shards.iter_mut().enumerate() {
                    let Some(index) = of.table.moved_off.iter().rposition(|(of, _)| *of == fd) else { continue };
                    let (_, old) = of.table.moved_off.remove(index);
                    let (old, new) =
                        (At { instance: number, shard: from, conn: old }, At { instance: number, shard, conn });
                    for end in self.lines.iter_mut().flat_map(|line| &mut line.ends) {
                        if *end == End::Shard(old) {
                            *end = End::Shard(new);
                        }
                    }
                }
            }
        }
        moved
    }

    /// Connections that shards make to other instances.
    fn dial(&mut self) -> bool {
        let mut wanted = Vec::new();
        for (number, instance) in self.instances.iter().enumerate().filter(|(_, instance)| instance.is_up) {
            for (shard, Of { table, .. }) in instance.shards.iter().enumerate() {
                for slot in 0..table.wires.len() {
                    let at = At { instance: number, shard, conn: table.id(slot) };
                    let is_new = !table.is_free(at.conn) && !table.wires[slot].closed;
                    let is_known = self.lines.iter().any(|line| line.ends.contains(&End::Shard(at)));
                    if let Some(to) = table.wires[slot].outgoing.filter(|_| is_new && !is_known) {
                        wanted.extend((0..self.instances.len()).find(|of| link_of(*of) == to).map(|to| (at, to)));
                    }
                }
            }
        }
        wanted.retain(|(_, to)| !self.instances[*to].is_far);
        for (at, to) in &wanted {
            if !self.instances[*to].is_up {
                self.close(*at, Closed::Error(std::io::ErrorKind::ConnectionRefused.into()));
                continue;
            }
            let from = SocketAddr::new(link_of(at.instance).ip(), 50_000);
            let there = self.accept(*to, 0, LISTENER, from);
            self.join(*at, End::Shard(there));
            let Of { core, table, .. } = &mut self.instances[at.instance].shards[at.shard];
            core.on_connect(table, at.conn);
        }
        !wanted.is_empty()
    }

    /// Carries bytes and ends along all lines.
    fn carry(&mut self) -> bool {
        let mut order: Vec<(usize, usize)> = (0..self.lines.len()).flat_map(|line| [(line, 0), (line, 1)]).collect();
        if let Some(random) = &mut self.random {
            random.shuffle(&mut order);
        }
        let mut moved = false;
        for (line, to) in order {
            let count = self.random.as_mut().map_or(usize::MAX, |random| random.usize(1..40));
            moved |= self.take(line, 1 - to, count);
            let count = self.random.as_mut().map_or(usize::MAX, |random| random.usize(1..40));
            moved |= self.bring(line, to, count);
        }
        moved
    }

    /// The bytes on their way to an instance that stands still.
    pub(super) fn on_the_way_to(&self, instance: usize) -> Vec<u8> {
        let is_its = |end: &End| matches!(end, End::Shard(at) if at.instance == instance);
        let flying = |line: &Line| {
            (0..2).filter(|to| is_its(&line.ends[*to])).flat_map(|to| line.flying[to].clone()).collect::<Vec<u8>>()
        };
        self.lines.iter().flat_map(flying).collect()
    }

    /// Takes bytes of one end of a line, and its end after them.
    fn take(&mut self, line: usize, from: usize, count: usize) -> bool {
        let to = 1 - from;
        if self.lines[line].ended[to] || self.lines[line].flying[to].len() >= 64 << 10 {
            return false;
        }
        match self.lines[line].ends[from] {
            End::Gone => false,
            End::Client(client) => {
                let client = &mut self.clients[client];
                let count = count.min(client.says.len());
                self.lines[line].flying[to].extend(client.says.drain(..count));
                let ends = client.says.is_empty() && client.leaves;
                self.lines[line].ended[to] = ends;
                count > 0 || ends
            }
            End::Shard(at) => {
                if self.instances[at.instance].is_still {
                    return false;
                }
                let Instance { shards, says, .. } = &mut self.instances[at.instance];
                let Of { core, table, .. } = &mut shards[at.shard];
                if table.moved_off.iter().any(|(_, conn)| *conn == at.conn) {
                    return false;
                }
                let Some(wire) = table.named(at.conn) else {
                    // The shard has been told its end.
                    self.lines[line].ended[to] = true;
                    self.lines[line].ends[from] = End::Gone;
                    return true;
                };
                let count = count.min(wire.out.len()).min(*says);
                *says -= count;
                self.lines[line].flying[to].extend(wire.out.drain(..count));
                let closes = wire.closed && wire.out.is_empty();
                if count > 0 && wire.has_room_again() {
                    core.on_writable(table, at.conn);
                }
                if closes {
                    self.lines[line].ended[to] = true;
                    self.lines[line].ends[from] = End::Gone;
                    self.close(at, Closed::Local);
                }
                count > 0 || closes
            }
        }
    }

    /// Brings bytes to one end of a line, and the other's end after them.
    fn bring(&mut self, line: usize, to: usize, count: usize) -> bool {
        let Line { ends, flying, ended } = &mut self.lines[line];
        let (end, count) = (ends[to], count.min(flying[to].len()));
        let is_last = count == flying[to].len() && ended[to];
        match end {
            End::Gone => {
                flying[to].clear();
                count > 0
            }
            End::Client(client) if self.clients[client].is_deaf => false,
            End::Client(client) => {
                let client = &mut self.clients[client];
                client.heard.extend(flying[to].drain(..count));
                let ends = is_last && !std::mem::replace(&mut client.is_over, is_last);
                count > 0 || ends
            }
            End::Shard(at) => {
                if self.instances[at.instance].is_still {
                    return false;
                }
                let Of { core, table, .. } = &mut self.instances[at.instance].shards[at.shard];
                let Some(wire) = table.named(at.conn).filter(|wire| !wire.paused) else { return false };
                if wire.closed {
                    flying[to].clear();
                    return count > 0;
                }
                let bytes: Vec<u8> = flying[to].drain(..count).collect();
                if !bytes.is_empty() {
                    core.on_bytes(table, at.conn, &bytes);
                }
                let Some(wire) = table.named(at.conn).filter(|wire| is_last && !wire.paused && !wire.closed) else {
                    return count > 0;
                };
                // What the peer can still read is sent.
                let rest = std::mem::take(&mut wire.out);
                flying[1 - to].extend(rest);
                ended[1 - to] = true;
                ends[to] = End::Gone;
                self.close(at, Closed::Peer);
                true
            }
        }
    }

    /// A number of an instance, all its shards together.
    pub(super) fn number(&self, instance: usize, metric: ShardMetric) -> u64 {
        self.instances[instance].shards.iter().map(|of| of.board.read()[metric as usize]).sum()
    }

    /// Connections of the first listener of an instance.
    pub(super) fn of_listener(&self, instance: usize) -> u64 {
        let Instance { shards, config, .. } = &self.instances[instance];
        let place = layout(config).listener(0, forebay::metrics::spec::ListenerMetric::Open);
        shards.iter().map(|of| of.board.read()[place]).sum()
    }

    /// Events of this kind at an instance.
    pub(super) fn told(&self, instance: usize, kind: EventKind) -> usize {
        let journal = &self.instances[instance].journal;
        journal.collect();
        journal.page(&Filter::default()).events.iter().filter(|(_, event)| event.kind == kind).count()
    }

    /// An instance reads its files again.
    pub(super) fn reload(&mut self, instance: usize) {
        let config = Arc::clone(&self.instances[instance].config);
        let edge = edge(&config);
        for Of { core, table, board, .. } in &mut self.instances[instance].shards {
            *board = Arc::new(Board::new(layout(&config)));
            let (config, board, edge) = (Arc::clone(&config), Arc::clone(board), edge.clone());
            let to = Reconfiguration { config, board, dead_letters: Ways::default(), edge, listeners: Vec::new() };
            core.on_mail(table, Mail::Shard(ToShard::Reconfigure(Box::new(to))));
        }
        self.settle();
    }

    /// A letter to all shards of an instance.
    pub(super) fn mail(&mut self, instance: usize, letter: impl Fn() -> Mail) {
        self.instances[instance].shards.iter_mut().for_each(|of| of.mail.push_back(letter()));
        self.settle();
    }

    /// What an instance shows of a client.
    pub(super) fn shown(&mut self, instance: usize, client_id: &str) -> Option<Shown> {
        let mut found = None;
        for Of { core, table, .. } in &mut self.instances[instance].shards {
            let (tell, told) = std::sync::mpsc::channel();
            let ask = Ask::Client(NamedClient { client_id: client_id.to_owned(), auth: None });
            let answer = Box::new(move |told| drop(tell.send(told)));
            core.on_mail(table, Mail::Shard(ToShard::Inspect(Inspection { ask, answer })));
            if let Ok(Told::Client(Some(client))) = told.try_recv() {
                found = Some(*client);
            }
        }
        found
    }

    /// Nothing is left of any client's connection. Trunks may stay for a while.
    pub(super) fn is_at_rest(&self) -> bool {
        const GAUGES: [ShardMetric; 7] = [
            ShardMetric::ConnectionsOpen,
            ShardMetric::Relayed,
            ShardMetric::RelayedHere,
            ShardMetric::RelaysWaiting,
            ShardMetric::Unauthenticated,
            ShardMetric::PartialBytes,
            ShardMetric::TrunkHeldBytes,
        ];
        let mut up = (0..self.instances.len()).filter(|instance| self.instances[*instance].is_up);
        up.all(|instance| {
            let numbers = GAUGES.map(|metric| self.number(instance, metric));
            let is_free = |of: &Of| {
                (0..of.table.wires.len()).all(|slot| {
                    let wire = &of.table.wires[slot];
                    let is_trunk = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == [10, 0, 0]);
                    of.table.is_free(of.table.id(slot))
                        || wire.outgoing.is_some_and(|to| to.port() == 9092 || is_trunk(to.ip()))
                        || wire.peer.is_some_and(|peer| is_trunk(peer.ip()))
                })
            };
            let shards = &self.instances[instance].shards;
            if numbers != [0; 7] || self.of_listener(instance) != 0 || !shards.iter().all(is_free) {
                println!("instance {instance}: {numbers:?}, {} at the listener", self.of_listener(instance));
                return false;
            }
            true
        })
    }
}
