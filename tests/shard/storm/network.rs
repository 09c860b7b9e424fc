//! Between the shard and the brokers: what each writes reaches the other later, in pieces, or not at all.

use std::time::Duration;

use forebay::runtime::seam::{Closed, ConnId, Shard};

use super::{Delivery, Link, Storm};
use crate::kafka::Reply;
use crate::layers::Layered;

impl Storm {
    pub(super) fn cut_links(&mut self, which: impl Fn(&Link) -> bool) {
        let cut: Vec<ConnId> = self.links.iter().filter(|(_, link)| which(link)).map(|(conn, _)| *conn).collect();
        cut.into_iter().for_each(|conn| self.deliver(conn, Delivery::Cut, 0));
    }

    /// Brokers take what the shard has written to them, and answer later.
    pub(super) fn brokers_read(&mut self) {
        for slot in 0..self.table.wires.len() {
            let conn = self.table.id(slot);
            let Some(to) = self.table.wires[slot].outgoing.filter(|_| !self.table.wires[slot].closed) else { continue };
            let cluster = usize::from(to.ip().to_string() == "127.0.0.2");
            if !self.links.contains_key(&conn) {
                let node = i32::from(to.port()) - 9_091;
                let has_layer = self.layers.bool();
                let layered = has_layer.then(Layered::server);
                self.table.wires[slot].layered = has_layer.then(|| Box::new(Layered::client()));
                let link = Link { cluster, node, inbox: Vec::new(), layered, clear_at: self.table.now, is_open: false };
                self.links.insert(conn, link);
                let up = self.clusters[cluster].up;
                self.deliver(conn, if up { Delivery::Connected } else { Delivery::Refused }, 3);
                continue;
            }
            let out = self.table.wires[slot].take_out();
            self.broker_reads(conn, &out);
        }
    }

    fn broker_reads(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.is_open && !bytes.is_empty()) else { return };
        match &mut link.layered {
            None => link.inbox.extend_from_slice(bytes),
            Some(layered) => {
                let opened = layered.open(bytes);
                assert!(opened.error.is_none(), "the broker: {:?}", opened.error);
                link.inbox.extend_from_slice(&opened.plain);
                let answer = layered.seal(&mut Vec::new());
                if !answer.is_empty() {
                    self.deliver(conn, Delivery::Bytes(answer), 1);
                }
            }
        }
        let Some(link) = self.links.get_mut(&conn) else { return };
        let (cluster, node) = (link.cluster, link.node);
        loop {
            // Behind a request that gets no answer none gets one: a broker answers in order.
            let Some(link) = self.links.get_mut(&conn).filter(|link| link.is_open) else { return };
            let Some(length) = link.inbox.first_chunk().map(|l| u32::from_be_bytes(*l) as usize) else { return };
            if link.inbox.len() < 4 + length {
                return;
            }
            let request: Vec<u8> = link.inbox.drain(..4 + length).collect();
            match self.clusters[cluster].request(node, &request[4..]) {
                Reply::Bytes(mut bytes) => {
                    if let Some(layered) = self.links.get_mut(&conn).and_then(|link| link.layered.as_mut()) {
                        bytes = layered.seal(&mut bytes);
                    }
                    // In pieces, as TCP brings them.
                    let cut = self.rng.usize(..=bytes.len());
                    self.deliver(conn, Delivery::Bytes(bytes[..cut].to_vec()), 5);
                    self.deliver(conn, Delivery::Bytes(bytes[cut..].to_vec()), 1);
                }
                Reply::Silence => link_is_deaf(self.links.get_mut(&conn)),
                Reply::Cut => {
                    link_is_deaf(self.links.get_mut(&conn));
                    self.deliver(conn, Delivery::Cut, 5);
                }
            }
        }
    }

    /// Puts something on its way to the shard, behind what is on its way there already.
    pub(super) fn deliver(&mut self, conn: ConnId, what: Delivery, within_ms: u64) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let at = self.table.now.after(Duration::from_millis(self.rng.u64(..=within_ms))).max(link.clear_at);
        link.clear_at = at;
        self.delivered += 1;
        self.deliveries.insert((at, self.delivered), (conn, what));
    }

    pub(super) fn arrive(&mut self, conn: ConnId, what: Delivery) {
        if self.table.named(conn).is_none_or(|wire| wire.closed) {
            return;
        }
        let why = match what {
            Delivery::Connected => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.is_open = true;
                }
                self.core.on_connect(&mut self.table, conn);
                if self.table.wire(conn).layered.is_some() {
                    self.table.feed(&mut self.core, conn, &[]);
                }
                return;
            }
            Delivery::Bytes(bytes) => {
                if !bytes.is_empty() {
                    self.table.feed(&mut self.core, conn, &bytes);
                }
                return;
            }
            Delivery::Refused => Closed::Error(std::io::ErrorKind::ConnectionRefused.into()),
            Delivery::Cut => Closed::Peer,
        };
        self.links.remove(&conn);
        self.table.wire(conn).closed = true;
        self.core.on_close(&mut self.table, conn, why);
        self.table.release(conn);
    }
}

fn link_is_deaf(link: Option<&mut Link>) {
    if let Some(link) = link {
        link.is_open = false;
    }
}
