//! The world of the tests: the client, a fake cluster and the wires between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::client::{Client, Effect, Settings};
use crate::fake::{FakeCluster, Mode, Reply};
use crate::types::{ClientEvent, NodeId, ProduceBatch, ProduceRequest};
use forebay_guard::outward::{Ended, LinkId};
use forebay_guard::secure::sasl::{Helper, Task};
use forebay_runtime::seam::{Chunk, Monotonic};

/// A network call requested by the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Net {
    Resolve(String),
    Connect(SocketAddr),
    Close(LinkId),
}

pub(super) struct World {
    pub(super) client: Client,
    pub(super) cluster: FakeCluster,
    pub(super) now: Monotonic,
    pub(super) events: Vec<ClientEvent>,
    pub(super) net: Vec<(Monotonic, Net)>,
    /// The addresses of names; other names do not resolve.
    pub(super) names: BTreeMap<String, Vec<SocketAddr>>,
    /// Whether resolutions are never answered.
    pub(super) resolver_hangs: bool,
    /// The reason why no TLS handshake succeeds.
    pub(super) tls_fails: Option<&'static str>,
    /// Whether tasks of logins are never done.
    pub(super) helper_hangs: bool,
    /// Tasks that were done.
    pub(super) prepared: Vec<Task>,
    helper: Helper,
    /// Open connections: the node, and the bytes of an incomplete request.
    pub(super) wires: BTreeMap<LinkId, (i32, Vec<u8>)>,
    /// The API key of each request, and its connection.
    pub(super) asked: Vec<(LinkId, i16)>,
    /// All bytes that were sent to brokers.
    pub(super) sent: Vec<u8>,
    /// Size of the pieces in which answers are delivered, in bytes.
    pub(super) piece: usize,
    /// Number of bytes that the far end's kernel does not have.
    pub(super) unacked: BTreeMap<LinkId, usize>,
    /// Service time of each request of a connection, one after the other.
    pub(super) work: Duration,
    /// Answers in transit, by the time of their arrival.
    late: BTreeMap<(Monotonic, LinkId), Vec<u8>>,
}

/// Two brokers at 10.0.0.1 and .2, topics `a` (0 on 1, 1 on 2) and `b` (0 on 1).
pub(super) fn world() -> World {
    world_of(Settings { bootstrap: vec!["10.0.0.1:9092".into()], ..Settings::default() })
}

pub(super) fn world_of(settings: Settings) -> World {
    let mut cluster = FakeCluster::default();
    cluster.add_broker(1, "10.0.0.1:9092", "10.0.0.1");
    cluster.add_broker(2, "10.0.0.2:9092", "10.0.0.2");
    cluster.add_topic("a", &[1, 2]);
    cluster.add_topic("b", &[1]);
    World {
        client: Client::new(settings, 11),
        cluster,
        now: Monotonic(1_000_000_000),
        events: Vec::new(),
        net: Vec::new(),
        names: BTreeMap::new(),
        resolver_hangs: false,
        tls_fails: None,
        helper_hangs: false,
        prepared: Vec::new(),
        helper: Helper::default(),
        wires: BTreeMap::new(),
        asked: Vec::new(),
        sent: Vec::new(),
        piece: usize::MAX,
        unacked: BTreeMap::new(),
        work: Duration::ZERO,
        late: BTreeMap::new(),
    }
}

pub(super) fn name(topic: &str) -> Rc<str> {
    Rc::from(topic)
}

/// A request of one batch of 40 bytes for each (topic, partition).
pub(super) fn request(id: u64, node: i32, batches: &[(&str, i32)]) -> ProduceRequest {
    let batch = |(topic, partition): &(&str, i32)| ProduceBatch {
        topic: name(topic),
        topic_id: 0,
        partition: *partition,
        bytes: Rc::new(id.to_be_bytes().repeat(5)),
    };
    ProduceRequest {
        id,
        node: NodeId(node),
        slow: false,
        acks: -1,
        timeout_ms: 500,
        batches: batches.iter().map(batch).collect(),
    }
}

impl World {
    /// The world with a running client that knows the metadata of `a` and `b`.
    pub(super) fn up(mut self) -> Self {
        self.client.start(self.now);
        self.client.want_metadata(&name("a"), self.now);
        self.client.want_metadata(&name("b"), self.now);
        self.settle();
        self.events.clear();
        self
    }

    pub(super) fn produce(&mut self, request: ProduceRequest) {
        self.client.produce(request, self.now);
        self.settle();
    }

    /// Carries all bytes in both directions until nothing more happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut effects = Vec::new();
            self.client.take_effects(&mut effects);
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.carry(effect));
        }
        panic!("the client never comes to rest");
    }

    /// Lets time pass, stopping at each deadline of the client. After each stop nothing may be due any more: a deadline
    /// that stays in the past would spin.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.settle();
        loop {
            let arrival = self.late.keys().next().map_or(Monotonic::NEVER, |(at, _)| *at);
            let next = self.client.next_deadline().min(arrival);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if arrival <= self.now
                && let Some(((_, link), bytes)) = self.late.pop_first()
            {
                self.client.on_bytes(link, &bytes, self.now);
            }
            let wires = &self.unacked;
            self.client.on_time(|link| wires.get(&link).copied().unwrap_or(0), self.now);
            self.settle();
            assert!(self.client.next_deadline() > self.now, "spins at {:?}", self.now);
        }
        self.now = end;
    }

    /// Closes all connections to a node from the far end.
    pub(super) fn cut(&mut self, node: i32) {
        let links: Vec<LinkId> = self.wires.iter().filter(|(_, wire)| wire.0 == node).map(|(link, _)| *link).collect();
        for link in links {
            self.wires.remove(&link);
            self.client.on_closed(link, &Ended::Lost("reset".into()), self.now);
        }
        self.settle();
    }

    pub(super) fn take_events(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.events)
    }

    /// The times and addresses of connection attempts.
    pub(super) fn connects(&self) -> Vec<(Monotonic, SocketAddr)> {
        let connect = |(at, net): &(Monotonic, Net)| match net {
            Net::Connect(to) => Some((*at, *to)),
            _ => None,
        };
        self.net.iter().filter_map(connect).collect()
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve { ticket, host, port } => {
                self.net.push((self.now, Net::Resolve(host.clone())));
                let found = self.names.get(&host).cloned().ok_or_else(|| "no such name".to_owned());
                assert!(found.iter().flatten().all(|address| address.port() == port));
                if !self.resolver_hangs {
                    self.client.on_resolved(ticket, found, self.now);
                }
            }
            Effect::Connect { link, to, layer } => {
                self.net.push((self.now, Net::Connect(to)));
                if let Some(why) = self.tls_fails.filter(|_| layer.is_some()) {
                    return self.client.on_closed(link, &Ended::Tls(why.into()), self.now);
                }
                match self.cluster.at(to).map(|node| (node, self.cluster.broker(node).mode)) {
                    Some((node, Mode::Serve | Mode::Frozen)) => {
                        assert!(self.wires.insert(link, (node, Vec::new())).is_none(), "{link:?} twice");
                        self.client.on_connected(link, self.now);
                    }
                    Some((_, Mode::Blackhole)) => {}
                    Some((_, Mode::Refuse)) | None => {
                        self.client.on_closed(link, &Ended::Lost("connection refused".into()), self.now);
                    }
                }
            }
            Effect::Prepare { ticket, task } => {
                if !self.helper_hangs {
                    let result = self.helper.run(&task);
                    self.client.on_prepared(ticket, result, self.now);
                }
                self.prepared.push(task);
            }
            Effect::Send { link, chunks } => self.deliver(link, &chunks),
            Effect::Close { link } => {
                self.net.push((self.now, Net::Close(link)));
                self.wires.remove(&link);
            }
            Effect::Event(event) => self.events.push(event),
        }
    }

    fn deliver(&mut self, link: LinkId, chunks: &[Chunk]) {
        let Some((node, pending)) = self.wires.get_mut(&link) else { return };
        let node = *node;
        chunks.iter().for_each(|chunk| pending.extend_from_slice(chunk.bytes()));
        chunks.iter().for_each(|chunk| self.sent.extend_from_slice(chunk.bytes()));
        let mut pending = std::mem::take(pending);
        while let Some((length, rest)) = pending.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            assert!(rest.len() >= length, "a send that is not one whole request");
            self.asked.push((link, i16::from_be_bytes([rest[0], rest[1]])));
            let reply = self.cluster.answer(node, &rest[..length]);
            pending.drain(..4 + length);
            match reply {
                Reply::Nothing => {}
                Reply::Close => {
                    self.wires.remove(&link);
                    self.client.on_closed(link, &Ended::Lost("closed by peer".into()), self.now);
                    return;
                }
                Reply::Bytes(bytes) if self.work > Duration::ZERO => {
                    let busy_until = self.late.keys().filter(|(_, of)| *of == link).map(|(at, _)| *at).max();
                    self.late.insert((busy_until.unwrap_or(self.now).after(self.work), link), bytes);
                }
                Reply::Bytes(bytes) => {
                    for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
                        self.client.on_bytes(link, piece, self.now);
                    }
                }
            }
        }
    }
}
