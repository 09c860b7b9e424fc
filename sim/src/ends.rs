//! Ends of processes: stops, kills and power failures, and what the clients and brokers of such a process see.

use std::time::Duration;

use forebay::shard::mail::{Mail, ToShard};

use crate::disk::Disk;
use crate::link::Phase;
use crate::process::{End, In};
use crate::time::{MS, S};
use crate::world::{Event, World};

impl World {
    /// Stops the process with SIGTERM.
    pub(crate) fn stop_in_order(&mut self, rng: &mut fastrand::Rng) {
        let grace = Duration::from_millis(rng.u64(100..6_000));
        let Some(process) = self.process.as_mut().filter(|process| !process.stopping) else { return };
        process.stopping = true;
        let shards = process.hosts.len();
        if !self.settings.sources.is_empty() {
            return self.end_sources(grace);
        }
        for shard in 0..shards {
            self.put(shard, In::Mail(Mail::Shard(ToShard::Drain { grace })));
        }
    }

    /// Ends the process without warning.
    pub fn crash(&mut self, how: End, rng: &mut fastrand::Rng) {
        if self.process.is_some() {
            self.ends(how, rng);
        }
    }

    pub(crate) fn ends(&mut self, how: End, rng: &mut fastrand::Rng) {
        if self.has_instances() {
            return self.instance_ends(how);
        }
        let Some(process) = self.process.take() else { return };
        self.note(|| format!("process ends: {how:?}\n{}", process.describe()));
        self.judge.process_ended(&process, how, self.life);
        self.note_unwanted(&process);
        self.note_gone();
        self.sources_ended();
        let sessions_kept = self.settings.keeps_sessions();
        let mut disks: Vec<Disk> = process.hosts.into_iter().map(|host| host.ring.disk).collect();
        for disk in &mut disks {
            match how {
                End::PowerCut => disk.power_cut(rng),
                End::Kill | End::Stopped | End::MachineLost => disk.kill(rng),
            }
        }
        disks.append(&mut self.disks);
        self.disks = disks;
        if how == End::MachineLost {
            self.disks.clear();
        }
        self.note_unstored(how == End::Stopped);
        self.segments_go_missing();
        if matches!(how, End::PowerCut | End::MachineLost) {
            self.boot = self.time;
        }
        self.clients_of_it_are_lost();
        let reconnect = self.time + rng.u64(..500 * MS);
        for device in &mut self.devices {
            device.process_ended(sessions_kept);
            device.reconnect_at = reconnect;
        }
        for subscriber in &mut self.subscribers {
            subscriber.process_ended(sessions_kept);
            subscriber.back_at = subscriber.back_at.max(reconnect);
        }
        if self.damaged {
            self.sessions_may_be_gone();
            self.subscribers_may_not_be_told();
        }
        self.links_are_orphans();
        let down = if rng.u8(..4) == 0 { rng.u64(..3 * S) } else { rng.u64(..20 * MS) };
        // The next process may end again soon.
        self.kill_after_turns = (how != End::Stopped && rng.u8(..3) == 0).then(|| rng.u32(..12));
        if self.settings.broker.is_some() && self.storm_over && !self.judge.is_at_rest {
            // Kafka has to have the records of the last answered messages before the run is over.
            self.kill_after_turns = None;
        }
        if rng.u8(..4) == 0 {
            self.disks.iter_mut().for_each(Disk::write_back);
        }
        self.schedule(self.time + down, Event::Start);
    }

    /// Ends the connections of the clients of the process, which has ended.
    pub(crate) fn clients_of_it_are_lost(&mut self) {
        let life = self.life;
        let of_it: Vec<u64> =
            self.sockets.iter().filter(|(_, one)| one.life == life).map(|(socket, _)| *socket).collect();
        for socket in of_it {
            let Some(entry) = self.sockets.remove(&socket) else { continue };
            if self.socket_of(entry.client) == Some(socket) {
                self.client_lost(entry.client);
            }
        }
    }

    /// Orphans the connections to brokers of the process, which has ended.
    pub(crate) fn links_are_orphans(&mut self) {
        let life = self.life;
        let links: Vec<u64> = self.links.iter().filter(|(_, link)| link.life == life).map(|(link, _)| *link).collect();
        links.into_iter().for_each(|link| self.orphan(link));
    }

    fn orphan(&mut self, link: u64) {
        let requests = self.network.usize(..8);
        if let Some(link) = self.links.get_mut(&link).filter(|link| link.phase != Phase::Cut) {
            (link.phase, link.requests_left, link.is_unheard) = (Phase::Orphan, requests, false);
        }
    }

    /// Orphans a connection to a broker that the shard has given up.
    pub(crate) fn given_up(&mut self, shard: usize, conn: forebay::runtime::seam::ConnId) {
        let life = self.life;
        let found = self.links.iter().find(|(_, link)| (link.shard, link.conn, link.life) == (shard, conn, life));
        match found.map(|(number, _)| *number) {
            Some(link) => self.orphan(link),
            None => self.front_gives_up((shard, conn)),
        }
    }
}
