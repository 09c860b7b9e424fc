//! Two instances with rings, sockets and threads of their own, and links over TCP or TLS between them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::broker::router::{Place, Slots};
use forebay::config;
use forebay::edge::{Edge, LinkTls};
use forebay::limits::SLOTS;
use forebay::link::{LISTENER, Peers};
use forebay::membership::{Instance as Member, Table as Members};
use forebay::metrics::board::Board;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Connect, Packet, Sender, Version};
use forebay::mqtt::{decode, frame};
use forebay::runtime::{self, Listeners, Post, ShardThread, mailboxes};
use forebay::shard::mail::{Mail, ToShard};
use forebay::shard::{Core, Surroundings};

use super::super::world::{layout, surroundings};
use super::{DISCONNECT, connect, hello, publish, subscribe, text};
use crate::link::certificates;
use crate::subscribe::bytes_of;

const SHARDS: usize = 2;
/// For what happens at once: long enough for a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(60);

struct Service {
    address: SocketAddr,
    link: SocketAddr,
    post: Post<Mail>,
    slots: Arc<Slots>,
    peers: Arc<Peers>,
    boards: Vec<Arc<Board>>,
    shards: Vec<ShardThread>,
}

impl Service {
    fn start(name: &str, tls: Option<LinkTls>) -> Self {
        let text = format!("[[listener]]\nbind = '127.0.0.1:0'\n{}", text().replace(":9092", ":1"));
        let mut config = config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
        config.service.shards = SHARDS;
        let binds = [(config.listeners[0].bind.clone(), 0)];
        let listeners = Listeners::bind(&binds, SHARDS).expect("a free port");
        let links = Listeners::bind_one(LISTENER, (&binds[0].0, 0), &[], SHARDS).expect("a free port");
        let (address, link) = (listeners.local_addrs()[0], links.local_addrs()[0]);
        let sockets = listeners.into_shards().into_iter().zip(links.into_shards());
        let sockets = sockets.map(|(own, links)| own.into_iter().chain(links).collect());
        let config = Arc::new(config);
        let (post, mailboxes) = mailboxes(SHARDS, 1024).expect("mailboxes");
        let (slots, peers) = (Arc::new(Slots::of_broker(SHARDS)), Arc::new(Peers::new(name, false)));
        let around = Surroundings {
            post: post.clone(),
            slots: Arc::clone(&slots),
            peers: Arc::clone(&peers),
            edge: Edge { link: tls, ..Edge::default() },
            ..surroundings(&config)
        };
        let settings = runtime::Settings { shards: SHARDS, ..runtime::Settings::default() };
        let boards: Vec<_> = (0..SHARDS).map(|_| Arc::new(Board::new(layout(&config)))).collect();
        let shard = |(index, (mailbox, sockets))| {
            let (around, board) = (around.clone(), Arc::clone(&boards[index]));
            let make = move |index| Core::new(index, around, board);
            runtime::spawn(index, &settings, sockets, mailbox, make).expect("a shard")
        };
        let shards = mailboxes.into_iter().zip(sockets).enumerate().map(shard).collect();
        (0..SHARDS).for_each(|shard| post.send(shard, Mail::Shard(ToShard::Accept)).expect("room"));
        Self { address, link, post, slots, peers, boards, shards }
    }

    fn number(&self, metric: M) -> u64 {
        self.boards.iter().map(|board| board.read()[metric as usize]).sum()
    }

    /// Until a number is this.
    fn until(&self, metric: M, value: u64) {
        let begun = std::time::Instant::now();
        while self.number(metric) != value {
            assert!(begun.elapsed() < PATIENCE, "{metric:?} is {}, not {value}", self.number(metric));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) {
        let drain = || Mail::Shard(ToShard::Drain { grace: Duration::from_secs(1) });
        (0..SHARDS).for_each(|shard| self.post.send(shard, drain()).expect("room"));
        self.shards.into_iter().for_each(|shard| shard.join().expect("it ends in order"));
    }
}

/// Two instances, of which the second one has all slots.
fn two(tls: impl Fn(usize) -> Option<LinkTls>) -> [Service; 2] {
    let all = [Service::start("eu-0", tls(0)), Service::start("eu-1", tls(1))];
    let member = |(number, of): (usize, &Service)| Member {
        name: format!("eu-{number}").into(),
        incarnation: 1,
        link: of.link.to_string().into(),
        server: "".into(),
        member_id: "".into(),
    };
    let instances = all.iter().enumerate().map(member).collect();
    let table = Arc::new(Members { generation: 1, instances, owners: Vec::new(), routes: 0 });
    for (number, of) in all.iter().enumerate() {
        of.peers.set_table(Arc::clone(&table));
        for slot in 0..SLOTS {
            let here = Place::Here(usize::from(slot) % SHARDS);
            of.slots.set(slot, if number == 1 { here } else { Place::Elsewhere(1) });
        }
    }
    all
}

struct Client {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    fn open(to: &Service, client_id: &str) -> Self {
        let mut client = Self::silent(to);
        client.say(&connect(client_id));
        assert_eq!(client.next().as_deref(), Some("connack"), "{client_id}");
        client
    }

    fn silent(to: &Service) -> Self {
        let socket = TcpStream::connect(to.address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, bytes: Vec::new() }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("it is read");
    }

    /// The next packet, in words; `None`: the connection has ended.
    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(frame) = frame::next(&self.bytes, u32::MAX).expect("well formed") {
                let len = frame.len;
                let words = match decode::decode(Version::V5, Sender::Server, frame).expect("well formed") {
                    Packet::ConnAck(connack) if connack.reason.0 == 0 => "connack".to_owned(),
                    Packet::SubAck(_) => "suback".to_owned(),
                    Packet::Publish(publish) => String::from_utf8_lossy(publish.payload).into_owned(),
                    Packet::Disconnect(disconnect) => format!("disconnect {:#04x}", disconnect.reason.0),
                    other => format!("{other:?}"),
                };
                self.bytes.drain(..len);
                return Some(words);
            }
            let mut more = [0; 65_536];
            match self.socket.read(&mut more).expect("in time") {
                0 => return None,
                count => self.bytes.extend_from_slice(&more[..count]),
            }
        }
    }
}

/// All that a client's life has, by the front of one instance, at another one.
fn lives_by_a_front([front, owner]: [Service; 2]) {
    let mut subscriber = Client::open(&front, "subscriber");
    let mut publisher = Client::open(&front, "publisher");
    let mut direct = Client::open(&owner, "direct");
    for client in [&mut subscriber, &mut direct] {
        client.say(&subscribe("t/#"));
        assert_eq!(client.next().as_deref(), Some("suback"));
    }
    owner.until(M::Sessions, 3);
    assert_eq!((front.number(M::Relayed), owner.number(M::RelayedHere), front.number(M::Sessions)), (2, 2, 0));
    // Every byte, in order, of messages that are cut in many ways.
    for round in 0..20 {
        let payload = |number: usize| format!("{round}/{number}/{}", "x".repeat(number * 157 % 8_000));
        let all: Vec<u8> = (0..50).flat_map(|number| publish("t/1", &payload(number))).collect();
        publisher.say(&all);
        for client in [&mut subscriber, &mut direct] {
            (0..50).for_each(|number| assert!(client.next().as_deref() == Some(&payload(number)), "{round}/{number}"));
        }
    }
    // Another connection takes over.
    let mut second = Client::open(&owner, "subscriber");
    assert_eq!((subscriber.next().as_deref(), subscriber.next()), (Some("disconnect 0x8e"), None));
    second.say(&[0xC0, 0]);
    assert_eq!(second.next().as_deref(), Some("PingResp"));
    // DISCONNECT and the end of the connection at once; and the end alone.
    publisher.say(DISCONNECT);
    drop(publisher);
    owner.until(M::Sessions, 2);
    assert_eq!(owner.number(M::DisconnectsReceived), 1);
    drop((second, direct));
    owner.until(M::Sessions, 0);
    front.until(M::Relayed, 0);
    owner.until(M::ConnectionsOpen, 0);
    front.until(M::ConnectionsOpen, 0);
    front.stop();
    owner.stop();
}

#[test]
fn clients_live_by_a_front() {
    lives_by_a_front(two(|_| None));
}

fn tls(dir: &Path, name: &str) -> Option<LinkTls> {
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let settings = forebay::secure::Pair { certificate, key };
    Some(LinkTls::load(&settings, &dir.join("ca.pem")).expect("its files are right"))
}

#[test]
fn clients_live_by_a_front_over_tls() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path(), ["0", "1", "other"]);
    lives_by_a_front(two(|number| tls(dir.path(), &number.to_string())));
}

/// A connection without a certificate of the CA is not taken for an instance.
#[test]
fn an_instance_without_a_certificate_of_the_ca_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path(), ["0", "1", "other"]);
    let [front, owner] = two(|number| tls(dir.path(), ["other", "1"][number]));
    let mut client = Client::silent(&front);
    client.say(&bytes_of(Version::V5, &Packet::Connect(Connect { keep_alive_s: 60, ..hello("a") })));
    owner.until(M::Sessions, 0);
    let begun = std::time::Instant::now();
    while front.number(M::RelaysFailed) == 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((owner.number(M::Sessions), owner.number(M::RelayedHere), front.number(M::RelaysMade)), (0, 0, 0));
    drop(client);
    front.stop();
    owner.stop();
}
