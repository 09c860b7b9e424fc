//! The other instances, shared by all shards of this one, and the clients that were sent to them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::membership::{Instance, Table};
use forebay_base::limits::REDIRECTED_MAX;
use forebay_runtime::seam::Monotonic;

/// A redirected client that connects again within this time is relayed: it does not follow redirections, or cannot.
const REDIRECTED_FOR: Duration = Duration::from_secs(60);

/// The time without a turn of the first shard after which the process has stood still: heartbeats are due twice as often.
const STILL_AFTER: Duration = Duration::from_secs(1);
/// The time within which a process reads bytes that came while it stood still.
const FOUND_WITHIN: Duration = Duration::from_secs(1);

/// This instance among the others.
#[derive(Debug, Default)]
pub struct Peers {
    name: Box<str>,
    redirects: bool,
    /// The incarnation of this process, once it has joined the group.
    incarnation: Mutex<u128>,
    table: RwLock<Arc<Table>>,
    /// The time until which this process may speak as one of the instances, in nanoseconds of a clock that runs while the machine sleeps. 0: there is no
    /// group.
    speaks_until: AtomicU64,
    /// How often the group has given slots of this process to others without its knowing.
    losses: AtomicU64,
    /// The last turn of the first shard, in nanoseconds of the shards' clock. 0: there was none.
    ran_at: AtomicU64,
    /// The last turns before and after the process stood still.
    stood_still: [AtomicU64; 2],
    /// Whether this instance gives its slots away, as it is about to end or was drained.
    is_leaving: AtomicBool,
    /// Processes of other instances that have answered here, by instance name.
    answered: Mutex<HashMap<Arc<str>, u128>>,
    /// Hashes of client identifiers, with the times at which these clients were redirected.
    redirected: Mutex<HashMap<u64, Monotonic>>,
}

/// The address of an instance's link, if its host is an IP address.
#[must_use]
pub fn address(of: &Instance) -> Option<SocketAddr> {
    of.link.parse().ok()
}

/// Host and port of an instance's link, if it has one.
#[must_use]
pub fn endpoint(of: &Instance) -> Option<(&str, u16)> {
    let (host, port) = of.link.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// Whether the link of an instance is at this IP address.
#[must_use]
pub fn has_address(table: &Table, ip: IpAddr) -> bool {
    let is_its = |of: &Instance| address(of).is_some_and(|at| at.ip().to_canonical() == ip.to_canonical());
    table.instances.iter().any(is_its)
}

impl Peers {
    /// An instance of this name, alone. `redirects`: whether clients of 5.0 are sent a Server Reference.
    #[must_use]
    pub fn new(name: &str, redirects: bool) -> Self {
        Self { name: name.into(), redirects, ..Self::default() }
    }

    /// The name of this instance.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the incarnation of this process.
    pub fn set_incarnation(&self, incarnation: u128) {
        *self.incarnation.lock().unwrap_or_else(PoisonError::into_inner) = incarnation;
    }

    /// The incarnation of this process.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        *self.incarnation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instances, including this one. A slot's place names one by its index.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the table.
    pub fn set_table(&self, table: Arc<Table>) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Sets the time until which this process may speak (C4).
    pub fn speak_until(&self, at: Monotonic) {
        self.speaks_until.store(at.0.max(1), Ordering::Release);
    }

    /// Whether this process sends nothing that another instance could contradict: no CONNACK, no rows of routes. It may have been removed from the group, and
    /// its successors serve its clients. `now`: of a clock that runs while the machine sleeps, read for this check, so that a process that was frozen finds
    /// out before it is notified.
    #[must_use]
    pub fn is_silent(&self, now: Monotonic) -> bool {
        let until = self.speaks_until.load(Ordering::Acquire);
        until != 0 && now.0 >= until
    }

    /// Notes that slots were lost, before this process may speak again. Returns the number of the loss.
    pub fn has_lost(&self) -> u64 {
        self.losses.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the last loss. A shard stays silent until it has dropped the slots.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Notes a turn of the first shard.
    pub fn ran(&self, now: Monotonic) {
        let before = self.ran_at.swap(now.0, Ordering::AcqRel);
        if before != 0 && now.since(Monotonic(before)) >= STILL_AFTER {
            self.stood_still[0].store(before, Ordering::Release);
            self.stood_still[1].store(now.0, Ordering::Release);
        }
    }

    /// Whether the first shard has had no turn for [`STILL_AFTER`]: the process may have stood still, and another one of its name may have its slots.
    #[must_use]
    pub fn stands_still(&self, now: Monotonic) -> bool {
        let ran_at = Monotonic(self.ran_at.load(Ordering::Acquire));
        ran_at != Monotonic(0) && now.since(ran_at) >= STILL_AFTER
    }

    /// The longest time for which something that a shard reads now may have waited as the process stood still.
    #[must_use]
    pub fn still_for(&self, now: Monotonic) -> Duration {
        let ran_at = Monotonic(self.ran_at.load(Ordering::Acquire));
        let [from, to] = [&self.stood_still[0], &self.stood_still[1]].map(|at| Monotonic(at.load(Ordering::Acquire)));
        match now.since(ran_at) {
            _ if ran_at == Monotonic(0) => Duration::ZERO,
            still if self.stands_still(now) => still,
            _ if to != Monotonic(0) && now < to.after(FOUND_WITHIN) => now.since(from),
            _ => Duration::ZERO,
        }
    }

    /// The time since which this process is silent ([`Peers::is_silent`]), until `now`.
    #[must_use]
    pub fn silent_for(&self, now: Monotonic) -> Duration {
        now.since(Monotonic(self.speaks_until.load(Ordering::Acquire)))
    }

    /// Notes that a process of another instance has answered.
    pub fn has_answered(&self, name: &Arc<str>, incarnation: u128) {
        let table = self.table();
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.insert(Arc::clone(name), incarnation) != Some(incarnation) {
            answered.retain(|name, _| table.index(name).is_some());
        }
    }

    /// Whether a process of another instance has answered here before and no longer has a listener: it is gone, and its address was not simply wrong. True
    /// once: the table names it until the group has moved on.
    pub fn is_gone(&self, name: &Arc<str>, incarnation: u128) -> bool {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.get(name) == Some(&incarnation) && answered.remove(name).is_some()
    }

    /// Sets whether this instance gives its slots away, as it is about to end or was drained.
    pub fn leaves(&self, is_leaving: bool) {
        self.is_leaving.store(is_leaving, Ordering::Relaxed);
    }

    /// Whether this instance gives its slots away, or has given them away.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Another instance with a Server Reference, for a client of this slot that is sent away before its next owner is known.
    #[must_use]
    pub fn other_server(&self, slot: u16) -> Option<Arc<str>> {
        let table = self.table();
        let is_other = |of: &&Instance| *of.name != *self.name && !of.server.is_empty();
        let others: Vec<&Instance> = table.instances.iter().filter(is_other).filter(|_| self.redirects).collect();
        let at = usize::from(slot).checked_rem(others.len())?;
        Some(Arc::clone(&others[at].server))
    }

    /// Notes that a client is redirected. False: it is not, as it was within [`REDIRECTED_FOR`], or clients are relayed.
    #[must_use]
    pub fn redirect(&self, client_id: &str, now: Monotonic) -> bool {
        if !self.redirects {
            return false;
        }
        let mut all = self.redirected.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Monotonic| now.since(*at) < REDIRECTED_FOR;
        let client = xxh3_64(client_id.as_bytes());
        if all.get(&client).is_some_and(is_recent) {
            return false;
        }
        if all.len() >= REDIRECTED_MAX && !all.contains_key(&client) {
            all.retain(|_, at| is_recent(at));
            if all.len() >= REDIRECTED_MAX {
                return false;
            }
        }
        all.insert(client, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, link: &str) -> Instance {
        let (name, link) = (name.into(), link.into());
        Instance { name, incarnation: 1, link, server: "".into(), member_id: "".into() }
    }

    #[test]
    fn who_is_a_peer() {
        let all = [("a", "192.0.2.1:1885"), ("b", "[2001:db8::7]:1885"), ("c", "c.example:1885"), ("d", "")];
        let instances: Vec<_> = all.iter().map(|(name, link)| instance(name, link)).collect();
        assert_eq!(endpoint(&instances[1]), Some(("2001:db8::7", 1885)));
        assert_eq!(endpoint(&instances[2]), Some(("c.example", 1885)));
        assert!(address(&instances[0]).is_some() && address(&instances[2]).is_none());
        assert_eq!((address(&instances[3]), endpoint(&instances[3])), (None, None));
        let table = Table { instances, ..Table::default() };
        for (ip, is_in) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::7", true),
            ("192.0.2.2", false),
            ("2001:db8::8", false),
        ] {
            assert_eq!(has_address(&table, ip.parse().unwrap()), is_in, "{ip}");
        }
    }

    #[test]
    fn a_client_is_redirected_once_a_minute() {
        let s = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        let peers = Peers::new("a", true);
        assert!(peers.redirect("c", s(1)) && !peers.redirect("c", s(1)) && !peers.redirect("c", s(60)));
        assert!(peers.redirect("d", s(60)) && peers.redirect("c", s(61)) && !peers.redirect("c", s(62)));
        assert!(!Peers::new("a", false).redirect("c", s(1)));
    }

    #[test]
    fn nothing_is_said_until_the_group_is_heard_and_after_that() {
        let peers = Peers::new("a", false);
        assert!(!peers.is_silent(Monotonic(9)), "there is no group");
        peers.speak_until(Monotonic(0));
        assert!(peers.is_silent(Monotonic(1)), "it has heard nothing yet");
        peers.speak_until(Monotonic(7));
        assert!(!peers.is_silent(Monotonic(6)) && peers.is_silent(Monotonic(7)) && peers.is_silent(Monotonic(8)));
    }

    #[test]
    fn what_is_read_after_a_process_stood_still_may_have_waited() {
        let ms = |ms: u64| Monotonic(ms * 1_000_000);
        let peers = Peers::new("a", false);
        let still_ms = |now| peers.still_for(ms(now)).as_millis();
        assert!(still_ms(9_000) == 0 && !peers.stands_still(ms(9_000)), "it has had no turn");
        [9_000, 9_500, 10_400].iter().for_each(|at| peers.ran(ms(*at)));
        assert_eq!((still_ms(11_300), still_ms(11_400), still_ms(14_000)), (0, 1_000, 3_600));
        assert!(!peers.stands_still(ms(11_300)) && peers.stands_still(ms(11_400)));
        peers.ran(ms(14_000));
        assert_eq!((still_ms(14_000), still_ms(14_900), still_ms(15_000)), (3_600, 4_500, 1_000));
        peers.ran(ms(14_900));
        assert_eq!((still_ms(14_999), still_ms(15_000)), (4_599, 0));
    }

    #[test]
    fn another_server_is_one_of_the_others() {
        let with_server = |name: &str, server: &str| Instance { server: server.into(), ..instance(name, "") };
        let instances =
            vec![with_server("a", "a:1"), with_server("b", "b:1"), with_server("c", ""), with_server("d", "d:1")];
        let peers = Peers::new("a", true);
        assert_eq!(peers.other_server(0), None);
        peers.set_table(Arc::new(Table { instances, ..Table::default() }));
        let told: Vec<_> = (0..4).map(|slot| peers.other_server(slot)).collect();
        assert_eq!(told, ["b:1", "d:1", "b:1", "d:1"].map(|server| Some(Arc::from(server))));
        let relaying = Peers::new("a", false);
        relaying.set_table(peers.table());
        assert_eq!(relaying.other_server(0), None);
    }

    #[test]
    fn as_many_are_remembered_as_may_be() {
        let peers = Peers::new("a", true);
        let now = Monotonic(1_000_000_000);
        assert!((0..REDIRECTED_MAX).all(|client| peers.redirect(&client.to_string(), now)));
        assert!(!peers.redirect("one more", now), "it is relayed");
        let later = now.after(REDIRECTED_FOR);
        assert!(peers.redirect("one more", later) && peers.redirect("0", later));
    }
}
