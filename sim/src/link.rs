//! A connection from a shard to a broker: latency, cuts, one request at a time, and requests that arrive although the
//! shard has given the connection up.

use std::collections::VecDeque;

use forebay::runtime::seam::ConnId;

use crate::kafka::waiting::Waiting;
use crate::layers::Layered;

/// The ends of a connection that still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection is on its way to the broker.
    Dialling,
    /// Both ends exist.
    Open,
    /// The client has closed its end, and the broker does not know yet.
    Orphan,
    /// The broker's end is gone.
    Cut,
}

/// A connection from a shard to a broker.
#[derive(Debug)]
pub struct Link {
    /// The shard of the connection.
    pub shard: usize,
    /// The process of the shard.
    pub life: u32,
    /// The connection's id on the shard.
    pub conn: ConnId,
    /// Index of the cluster.
    pub cluster: usize,
    /// Node id.
    pub node: i32,
    /// The ends that still exist.
    pub phase: Phase,
    /// Bytes that the broker has received, and not yet taken as a request.
    pub inbox: VecDeque<u8>,
    /// Numbers of bytes of the inbox, each with the time at which they arrived.
    arrived: VecDeque<(usize, u64)>,
    /// The broker's end of the connection's layer, if it has one.
    pub(crate) layered: Option<Box<Layered>>,
    /// Bytes of the wire that the layer has not opened.
    pub(crate) unopened: Vec<u8>,
    /// Time at which the last of them arrived.
    unopened_at: u64,
    /// The request that waits at the broker.
    pub(crate) waiting: Option<Box<Waiting>>,
    /// Time until which the broker is busy with a request.
    pub busy_until: u64,
    /// Time before which nothing arrives at the broker.
    pub up_clear: u64,
    /// Time before which nothing arrives at the shard.
    pub down_clear: u64,
    /// For an orphan: number of requests that are still carried out.
    pub requests_left: usize,
    /// For an orphan: whether the shard has yet to hear of the end.
    pub is_unheard: bool,
}

impl Link {
    /// Number of complete requests that the broker has not taken.
    #[must_use]
    pub fn requests(&self) -> usize {
        let (mut at, mut count) = (0, 0);
        while at + 4 <= self.inbox.len() {
            let head: Vec<u8> = self.inbox.range(at..at + 4).copied().collect();
            at += 4 + u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            count += usize::from(at <= self.inbox.len());
        }
        count
    }

    /// Takes bytes in that arrived at a time.
    fn take_in(&mut self, bytes: &[u8], time: u64) {
        self.inbox.extend(bytes);
        self.arrived.push_back((bytes.len(), time));
    }

    /// The next complete request, and the time at which its end arrived.
    pub fn next_request(&mut self) -> Option<(Vec<u8>, u64)> {
        if self.inbox.len() < 4 {
            return None;
        }
        let head: Vec<u8> = self.inbox.iter().take(4).copied().collect();
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if self.inbox.len() < 4 + length {
            return None;
        }
        self.inbox.drain(..4);
        let (mut left, mut since) = (4 + length, 0);
        while let Some((count, at)) = self.arrived.front_mut().filter(|_| left > 0) {
            let taken = left.min(*count);
            (left, *count, since) = (left - taken, *count - taken, *at);
            if *count == 0 {
                self.arrived.pop_front();
            }
        }
        Some((self.inbox.drain(..length).collect(), since))
    }
}

use forebay::runtime::seam::Closed;

use crate::kafka::Entry;
use crate::kafka::front::{From, Reply};
use crate::process::In;
use crate::time::{MS, S};
use crate::world::{Event, World};

impl World {
    fn way(&mut self) -> u64 {
        self.network.u64(..=self.plan.latency)
    }

    /// Connects a shard to a broker.
    pub(crate) fn dial(&mut self, shard: usize, conn: ConnId) {
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        let Some(to) = host.ring.named(conn).and_then(|wire| wire.outgoing) else { return };
        if let Some(index) = crate::instances::at(to) {
            return self.dial_instance((shard, conn), index);
        }
        let has_layer = self.draws_layer();
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        if let (true, Some(wire)) = (has_layer, host.ring.named(conn)) {
            wire.layered = Some(Box::new(Layered::client()));
        }
        let address = to.ip().to_string();
        let cluster = self.clusters.iter().position(|cluster| cluster.host == address).unwrap_or(0);
        let node = i32::from(to.port()) - 9_091;
        self.clusters[cluster].dialled += 1;
        self.next_link += 1;
        let number = self.next_link;
        let link = Link {
            shard,
            life: self.life,
            conn,
            cluster,
            node,
            phase: Phase::Dialling,
            inbox: VecDeque::new(),
            arrived: VecDeque::new(),
            layered: has_layer.then(|| Box::new(Layered::server())),
            unopened: Vec::new(),
            unopened_at: 0,
            waiting: None,
            busy_until: 0,
            up_clear: 0,
            down_clear: 0,
            requests_left: 0,
            is_unheard: false,
        };
        self.links.insert(number, link);
        let known = node >= 1 && node as usize <= self.clusters[cluster].brokers.len();
        let up = known && !self.away[cluster] && !self.clusters[cluster].broker(node).down;
        let at = self.time + self.way() * 2;
        self.schedule(at, Event::Dialled(number, up));
    }

    pub(crate) fn dialled(&mut self, number: u64, up: bool) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let shard = link.shard;
        if link.life != self.life || link.phase != Phase::Dialling {
            self.links.remove(&number);
            return;
        }
        if up {
            link.phase = Phase::Open;
            self.put(shard, In::Connected(number));
        } else {
            self.put(shard, In::LinkClosed(number, Closed::Error(std::io::ErrorKind::ConnectionRefused.into())));
        }
    }

    /// Sends bytes of a shard to a broker.
    pub(crate) fn send_to_broker(&mut self, shard: usize, conn: ConnId, bytes: Vec<u8>) {
        let (life, way) = (self.life, self.way());
        let time = self.time;
        let found = self.links.iter_mut().find(|(_, link)| (link.shard, link.conn, link.life) == (shard, conn, life));
        let Some((number, link)) = found else { return self.send_to_owner((shard, conn), bytes) };
        link.up_clear = link.up_clear.max(time + way);
        let (number, at) = (*number, link.up_clear);
        self.schedule(at, Event::ToBroker(number, bytes));
    }

    pub(crate) fn arrives_at_broker(&mut self, number: u64, bytes: &[u8]) {
        let time = self.time;
        let Some(link) = self.links.get_mut(&number).filter(|link| link.phase != Phase::Cut) else { return };
        match link.layered {
            Some(_) => {
                link.unopened.extend_from_slice(bytes);
                link.unopened_at = time;
            }
            None => link.take_in(bytes, time),
        }
        self.serve(number);
    }

    /// Opens the bytes that a broker has received over a connection with a layer, and sends the layer's answer.
    fn open_link(&mut self, number: u64) {
        let way = self.way();
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(layered) = &mut link.layered else { return };
        let opened = layered.open(&std::mem::take(&mut link.unopened));
        let answer = layered.seal(&mut Vec::new());
        link.take_in(&opened.plain, link.unopened_at);
        if !answer.is_empty() {
            link.down_clear = link.down_clear.max(self.time + way);
            let at = link.down_clear;
            self.schedule(at, Event::ToShard(number, answer));
        }
        if let Some(error) = opened.error {
            self.judge.fails("layer", format!("link {number}: {}", error.what));
        }
    }

    /// Lets a broker look at a connection: one request at a time.
    pub(crate) fn serve(&mut self, number: u64) {
        let time = self.time;
        let Some(link) = self.links.get_mut(&number).filter(|link| link.phase != Phase::Cut) else { return };
        let (cluster, node) = (link.cluster, link.node);
        if !self.clusters[cluster].works(node) {
            return;
        }
        if !link.unopened.is_empty() {
            self.open_link(number);
        }
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.busy_until > time {
            let at = link.busy_until;
            return self.schedule(at, Event::Serve(number));
        }
        if let Some(mut waiting) = link.waiting.take() {
            match self.clusters[cluster].settle(&mut waiting, time) {
                Some(bytes) => self.answer(number, bytes),
                None => self.links.get_mut(&number).expect("it is there").waiting = Some(waiting),
            }
            return;
        }
        let late = link.phase == Phase::Orphan;
        if late && link.requests_left == 0 {
            self.orphan_ends(number);
            return;
        }
        let Some((frame, since)) = link.next_request() else { return };
        link.requests_left = link.requests_left.saturating_sub(1);
        let from = From { node, time, since, life: link.life, late };
        let rng_busy = self.network.u64(..300_000);
        // A request of an abandoned connection may be carried out much later.
        let pause = if late && self.network.u8(..4) == 0 { self.network.u64(..2 * S) } else { 0 };
        let before = self.clusters[cluster].entries.len();
        self.clusters[cluster].saw(number, node, &frame);
        let reply = self.clusters[cluster].request(&frame, from);
        self.judge_commits();
        self.judge_owners(before);
        if self.is_traced() {
            let call = i16::from_be_bytes([frame[0], frame[1]]);
            let new = self.clusters[cluster].entries[before..].iter().map(|entry| {
                let rows: Vec<String> = entry.rows.iter().map(|row| format!("{}/{}", row.message, row.sink)).collect();
                let Entry { producer, epoch, first, base_offset, place, .. } = entry;
                format!("{}-{} at {base_offset}: {producer}.{epoch} {first} [{}]", place.0, place.2, rows.join(" "))
            });
            let new: Vec<String> = new.collect();
            let how = match &reply {
                Reply::Bytes(bytes) => format!("{} bytes", bytes.len()),
                Reply::Wait(_) => "waits".to_owned(),
                Reply::Nothing => "nothing".to_owned(),
            };
            self.note(|| format!("link {number} node {node} late {late}: call {call}, {how}, {new:?}"));
        }
        let Some(link) = self.links.get_mut(&number) else { return };
        link.busy_until = time + rng_busy + pause;
        match reply {
            Reply::Bytes(bytes) => self.answer(number, bytes),
            Reply::Nothing => self.schedule(time + rng_busy + pause + 1, Event::Serve(number)),
            Reply::Wait(waiting) => {
                let deadline = waiting.deadline();
                link.waiting = Some(waiting);
                if let Some(deadline) = deadline {
                    self.schedule(deadline.max(time + 1), Event::Serve(number));
                }
            }
        }
    }

    fn answer(&mut self, number: u64, mut bytes: Vec<u8>) {
        let way = self.way();
        let layered = self.links.get_mut(&number).and_then(|link| link.layered.as_mut());
        if let Some(layered) = layered {
            bytes = layered.seal(&mut bytes);
        }
        let cut = self.network.usize(..=bytes.len());
        let Some(link) = self.links.get_mut(&number) else { return };
        link.down_clear = link.down_clear.max(self.time.max(link.busy_until) + way);
        let (at, next) = (link.down_clear, link.busy_until.max(self.time) + 1);
        // The answer comes in pieces, as with TCP.
        let (first, second) = bytes.split_at(cut);
        self.schedule(at, Event::ToShard(number, first.to_vec()));
        self.schedule(at, Event::ToShard(number, second.to_vec()));
        self.schedule(next, Event::Serve(number));
    }

    pub(crate) fn arrives_at_shard(&mut self, number: u64, bytes: Vec<u8>) {
        let Some(link) = self.links.get(&number).filter(|link| link.phase == Phase::Open) else { return };
        if !bytes.is_empty() && link.life == self.life {
            let shard = link.shard;
            self.put(shard, In::LinkBytes(number, bytes));
        }
    }

    /// Cuts a connection: the broker's end is gone at once or a little later, and then the shard hears of it.
    pub(crate) fn cut_link(&mut self, number: u64) {
        let late = self.network.bool();
        let at = self.time + self.network.u64(..5 * MS);
        let requests = self.network.usize(..4);
        let Some(link) = self.links.get_mut(&number) else { return };
        match link.phase {
            Phase::Open if late => {
                (link.phase, link.requests_left, link.is_unheard) = (Phase::Orphan, requests, true);
            }
            Phase::Open | Phase::Dialling => link.phase = Phase::Cut,
            Phase::Orphan | Phase::Cut => return,
        }
        self.schedule(at, Event::CutAtShard(number));
    }

    pub(crate) fn cut_at_shard(&mut self, number: u64) {
        let Some(link) = self.links.get(&number).filter(|link| link.life == self.life) else { return };
        let (shard, orphan, conn) = (link.shard, link.phase == Phase::Orphan, link.conn);
        if orphan {
            // The broker's end goes on without its client.
            let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
            if host.ring.open_wire(conn).is_none() {
                return;
            }
            self.next_link += 1;
            let twin = self.next_link;
            if let Some(link) = self.links.remove(&number) {
                let head = Link { phase: Phase::Cut, ..copy(&link) };
                self.links.insert(twin, Link { is_unheard: false, ..link });
                self.links.insert(number, head);
                self.schedule(self.time + 1, Event::Serve(twin));
            }
        }
        self.put(shard, In::LinkClosed(number, Closed::Error(std::io::ErrorKind::ConnectionReset.into())));
    }

    /// Ends the broker's end of an orphan. If the shard has yet to hear of the cut, its own end stays until then.
    fn orphan_ends(&mut self, number: u64) {
        match self.links.get_mut(&number) {
            Some(link) if link.is_unheard => (link.phase, link.waiting) = (Phase::Cut, None),
            _ => _ = self.links.remove(&number),
        }
    }

    /// Cuts all connections to a broker.
    pub(crate) fn cut_broker(&mut self, cluster: usize, node: i32) {
        let all = self.links.iter().filter(|(_, link)| (link.cluster, link.node) == (cluster, node));
        for number in all.map(|(number, _)| *number).collect::<Vec<_>>() {
            if self.clusters[cluster].broker(node).down {
                // The broker's end is gone with the broker.
                if let Some(link) = self.links.get_mut(&number) {
                    if link.phase == Phase::Orphan {
                        self.orphan_ends(number);
                        continue;
                    }
                    link.phase = Phase::Cut;
                }
                self.schedule(self.time + MS, Event::CutAtShard(number));
            } else {
                self.cut_link(number);
            }
        }
    }

    /// Lets a broker that works again look at all of its connections.
    pub(crate) fn serve_all(&mut self, cluster: usize, node: i32) {
        let all = self.links.iter().filter(|(_, link)| (link.cluster, link.node) == (cluster, node));
        for number in all.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.schedule(self.time, Event::Serve(number));
        }
    }

    /// Runs the clusters' due work, and answers the requests that waited for it.
    pub(crate) fn kafka_runs(&mut self) {
        let time = self.time;
        self.clusters.iter_mut().for_each(|cluster| cluster.run(time));
        let waiting = self.links.iter().filter(|(_, link)| link.waiting.is_some());
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.serve(number);
        }
    }
}

/// A copy of a connection without its contents.
fn copy(link: &Link) -> Link {
    let (inbox, arrived) = (VecDeque::new(), VecDeque::new());
    Link { inbox, arrived, layered: None, unopened: Vec::new(), waiting: None, ..*link }
}
