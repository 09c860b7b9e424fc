//! Drives the sans-I/O Kafka client over blocking sockets: one thread for each connection, everything else on the
//! caller's. For tests only; the service drives it from the ring.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use forebay::kafka::client::{Client, Effect, Settings};
use forebay::kafka::types::ClientEvent;
use forebay::outward::{Ended, LinkId};
use forebay::runtime::seam::{Chunk, Monotonic};
use forebay::secure::sasl::Helper;

/// What a connection's or a resolver's thread tells.
enum News {
    Resolved(u64, Result<Vec<SocketAddr>, String>),
    Connected(LinkId, TcpStream),
    Bytes(LinkId, Vec<u8>),
    Closed(LinkId, String),
}

/// A client on real sockets.
pub(crate) struct Driver {
    /// The client. Call it with [`Driver::now`]; what it wants done is done in [`Driver::turn`].
    pub(crate) client: Client,
    /// Its events that nobody has taken yet.
    pub(crate) events: VecDeque<ClientEvent>,
    open: HashMap<LinkId, TcpStream>,
    helper: Helper,
    tell: Sender<News>,
    told: Receiver<News>,
    since: Instant,
}

impl Driver {
    /// A client that has been started.
    pub(crate) fn start(settings: Settings, seed: u64) -> Self {
        let (tell, told) = channel();
        let client = Client::new(settings, seed);
        let mut driver = Self {
            client,
            events: VecDeque::new(),
            open: HashMap::new(),
            helper: Helper::default(),
            tell,
            told,
            since: Instant::now(),
        };
        driver.client.start(driver.now());
        driver.carry();
        driver
    }

    /// The client's clock.
    pub(crate) fn now(&self) -> Monotonic {
        Monotonic(1).after(self.since.elapsed())
    }

    /// Does what the client wants, waits for news or its deadline (`patience` at most), and hands them to it.
    pub(crate) fn turn(&mut self, patience: Duration) {
        self.carry();
        let wait = self.client.next_deadline().since(self.now()).min(patience);
        if let Ok(news) = self.told.recv_timeout(wait) {
            self.hand_over(news);
            while let Ok(news) = self.told.try_recv() {
                self.hand_over(news);
            }
        }
        self.client.on_time(|_| 0, self.now());
        self.carry();
    }

    /// Turns until an event is picked; the others stay, in order. `None`: not within `patience`.
    pub(crate) fn wait<T>(&mut self, patience: Duration, mut pick: impl FnMut(&ClientEvent) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            while let Some(event) = self.events.get(looked_at) {
                if let Some(picked) = pick(event) {
                    self.events.remove(looked_at);
                    return Some(picked);
                }
                looked_at += 1;
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.turn(left);
        }
    }

    /// Cuts every connection, as a network does, and turns until the client knows it of each.
    pub(crate) fn cut(&mut self) {
        let cut: Vec<LinkId> = self.open.keys().copied().collect();
        self.open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        while cut.iter().any(|link| self.open.contains_key(link)) {
            self.turn(Duration::from_secs(1));
        }
    }

    fn hand_over(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Resolved(ticket, result) => self.client.on_resolved(ticket, result, now),
            News::Connected(link, stream) => {
                self.open.insert(link, stream);
                self.client.on_connected(link, now);
            }
            News::Bytes(link, bytes) => self.client.on_bytes(link, &bytes, now),
            News::Closed(link, why) => {
                self.open.remove(&link);
                self.client.on_closed(link, &Ended::Lost(why.into()), now);
            }
        }
    }

    fn carry(&mut self) {
        let mut effects = Vec::new();
        self.client.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::Resolve { ticket, host, port } => {
                    let tell = self.tell.clone();
                    std::thread::spawn(move || {
                        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                        let _ = tell.send(News::Resolved(ticket, found.map_err(|error| error.to_string())));
                    });
                }
                Effect::Connect { link, to, .. } => {
                    let tell = self.tell.clone();
                    std::thread::spawn(move || read(link, to, &tell));
                }
                Effect::Prepare { ticket, task } => {
                    let result = self.helper.run(&task);
                    self.client.on_prepared(ticket, result, self.now());
                }
                Effect::Send { link, chunks } => self.send(link, &chunks),
                Effect::Close { link } => {
                    if let Some(stream) = self.open.remove(&link) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
                Effect::Event(event) => self.events.push_back(event),
            }
        }
    }

    fn send(&mut self, link: LinkId, chunks: &[Chunk]) {
        let Some(stream) = self.open.get_mut(&link) else { return };
        for chunk in chunks {
            if stream.write_all(chunk.bytes()).is_err() {
                // The reader sees it too, and says so.
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.cut();
    }
}

/// A connection's thread: connects, then tells what comes in until it ends.
fn read(link: LinkId, to: SocketAddr, tell: &Sender<News>) {
    let run = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(30))?;
        stream.set_nodelay(true)?;
        let _ = tell.send(News::Connected(link, stream.try_clone()?));
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => drop(tell.send(News::Bytes(link, buffer[..count].to_vec()))),
            }
        }
    };
    let why = run().map_or_else(|error| error.to_string(), |()| "closed by peer".to_owned());
    let _ = tell.send(News::Closed(link, why));
}
