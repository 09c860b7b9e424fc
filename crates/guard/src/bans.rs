//! Bans: clients, users and addresses that may not connect, each with its end and reason. A file in the data directory has them, as
//! JSON; shards check them at each CONNECT, which costs one look at a number while there is none.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use forebay_base::address::Network;
use forebay_base::files;
use forebay_base::limits::{BAN_TEXT_BYTES_MAX, BANNED_NETWORKS_MAX, BANS_MAX};

/// The file in the data directory.
pub const FILE: &str = "bans.json";

/// The client, user or address that a ban is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A client identifier, of whichever `[auth.NAME]`.
    ClientId(String),
    /// A user name from the client, or from the credentials that admit the client.
    Username(String),
    /// An address, or a network such as `10.0.0.0/8`.
    Address(String),
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// The number of the ban.
    pub id: u64,
    /// The client, user or address that may not connect.
    pub who: Who,
    /// The time of the ban, milliseconds since 1970.
    pub at_ms: i64,
    /// The end of the ban, milliseconds since 1970; `None`: never.
    pub until_ms: Option<i64>,
    /// The reason of the ban.
    pub reason: String,
    /// The name of the operator who made the ban.
    pub by: Option<String>,
}

impl Ban {
    fn is_over(&self, now_ms: i64) -> bool {
        self.until_ms.is_some_and(|until| until <= now_ms)
    }
}

/// The reason why a ban was not made.
#[derive(Debug)]
pub enum Refused {
    /// The text names nothing that can be banned.
    Invalid(String),
    /// [`BANS_MAX`] or [`BANNED_NETWORKS_MAX`] is reached.
    Full(String),
    /// The file cannot be written.
    File(io::Error),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    last: u64,
    bans: Vec<Ban>,
}

/// Bans as they are looked up: when each ends.
#[derive(Debug, Default)]
struct Index {
    clients: HashMap<String, i64>,
    users: HashMap<String, i64>,
    networks: Vec<(Network, i64)>,
}

impl Index {
    fn of(content: &Content) -> Self {
        let mut index = Self::default();
        for ban in &content.bans {
            let until = ban.until_ms.unwrap_or(i64::MAX);
            let longer = |known: &mut i64| *known = (*known).max(until);
            match &ban.who {
                Who::ClientId(id) => longer(index.clients.entry(id.clone()).or_insert(until)),
                Who::Username(name) => longer(index.users.entry(name.clone()).or_insert(until)),
                Who::Address(text) => index.networks.extend(text.parse::<Network>().ok().map(|of| (of, until))),
            }
        }
        index
    }
}

/// The bans of a process.
#[derive(Debug, Default)]
pub struct Bans {
    /// The number of bans, expired ones included.
    count: AtomicUsize,
    index: RwLock<Arc<Index>>,
    content: Mutex<Content>,
    /// `None`: they are kept in memory alone.
    file: Option<PathBuf>,
}

impl Bans {
    /// Reads the bans of a data directory.
    ///
    /// # Errors
    /// The file cannot be read, or is not in this program's format.
    pub fn of(data_dir: &Path) -> Result<Self, String> {
        let file = data_dir.join(FILE);
        let content: Content = files::read_json(&file)?;
        if let Some(wrong) = content.bans.iter().find_map(|ban| check(&ban.who).err()) {
            return Err(format!("{}: {wrong}", file.display()));
        }
        let bans = Self { file: Some(file), ..Self::default() };
        bans.show(&content);
        *bans.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
        Ok(bans)
    }

    fn show(&self, content: &Content) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Index::of(content));
        self.count.store(content.bans.len(), Ordering::Release);
    }

    /// Whether a client may not connect now.
    #[must_use]
    pub fn hold(&self, client_id: &str, username: Option<&str>, address: Option<IpAddr>, now_ms: i64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let index = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
        let goes_on = |until: &i64| *until > now_ms;
        index.clients.get(client_id).is_some_and(goes_on)
            || username.and_then(|name| index.users.get(name)).is_some_and(goes_on)
            || address
                .is_some_and(|of| index.networks.iter().any(|(network, until)| network.contains(of) && goes_on(until)))
    }

    /// The bans that have not expired, oldest first.
    #[must_use]
    pub fn list(&self, now_ms: i64) -> Vec<Ban> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.bans.iter().filter(|ban| !ban.is_over(now_ms)).cloned().collect()
    }

    /// Adds a ban and gives it its number. A ban of the same client, user or address is replaced.
    ///
    /// # Errors
    /// The ban cannot be made; the bans are unchanged.
    pub fn add(&self, mut ban: Ban) -> Result<Ban, Refused> {
        check(&ban.who).map_err(Refused::Invalid)?;
        if let Who::Address(text) = &mut ban.who
            && let Ok(network) = text.parse::<Network>()
        {
            // Two ways of writing an address are one ban.
            *text = network.to_string();
        }
        if ban.reason.len() > BAN_TEXT_BYTES_MAX {
            return Err(Refused::Invalid(format!("reason: at most {BAN_TEXT_BYTES_MAX} bytes")));
        }
        self.change(ban.at_ms, |content| {
            content.bans.retain(|other| other.who != ban.who);
            let is_network = |who: &Who| matches!(who, Who::Address(_));
            let networks = content.bans.iter().filter(|ban| is_network(&ban.who)).count();
            if content.bans.len() >= BANS_MAX || is_network(&ban.who) && networks >= BANNED_NETWORKS_MAX {
                let detail =
                    format!("there may be {BANS_MAX} bans, and {BANNED_NETWORKS_MAX} of addresses: remove some");
                return Err(Refused::Full(detail));
            }
            content.last += 1;
            ban.id = content.last;
            content.bans.push(ban.clone());
            Ok(ban)
        })
    }

    /// Ends a ban. `None`: no ban has this number.
    ///
    /// # Errors
    /// The file cannot be written; the ban stays then.
    pub fn remove(&self, id: u64, now_ms: i64) -> Result<Option<Ban>, Refused> {
        self.change(now_ms, |content| {
            let place = content.bans.iter().position(|ban| ban.id == id);
            Ok(place.map(|place| content.bans.remove(place)))
        })
    }

    /// Changes the bans, first in the file. Expired bans are removed.
    fn change<T>(&self, now_ms: i64, of: impl FnOnce(&mut Content) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on = content.bans.iter().filter(|ban| !ban.is_over(now_ms)).cloned().collect();
        let mut next = Content { last: content.last, bans: going_on };
        let made = of(&mut next)?;
        if let Some(file) = &self.file {
            let text = serde_json::to_vec_pretty(&next).map_err(|error| Refused::File(error.into()))?;
            files::replace(file, &text).map_err(Refused::File)?;
        }
        self.show(&next);
        *content = next;
        Ok(made)
    }
}

/// Checks that `who` can be banned.
fn check(who: &Who) -> Result<(), String> {
    let (key, text) = match who {
        Who::ClientId(text) => ("client_id", text),
        Who::Username(text) => ("username", text),
        Who::Address(text) => ("address", text),
    };
    if text.is_empty() || text.len() > usize::from(u16::MAX) {
        return Err(format!("{key}: 1 to {} bytes", u16::MAX));
    }
    match who {
        Who::Address(text) => text.parse::<Network>().map(drop).map_err(|why| format!("{key}: {text:?}: {why}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn ban(who: Who, until_ms: Option<i64>) -> Ban {
        Ban { id: 0, who, at_ms: NOW, until_ms, reason: "it floods".into(), by: Some("ops".into()) }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn bans_hold_until_they_end_and_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let bans = Bans::of(dir.path()).expect("none yet");
        assert!(!bans.hold("a", Some("u"), ip("10.1.2.3"), NOW));
        let first = bans.add(ban(Who::ClientId("a".into()), Some(NOW + 10))).expect("made");
        bans.add(ban(Who::Username("u".into()), None)).expect("made");
        bans.add(ban(Who::Address("10.0.0.0/8".into()), None)).expect("made");
        let look = |bans: &Bans, now| {
            [
                ("a", None, "192.0.2.1"),
                ("b", Some("u"), "192.0.2.1"),
                ("b", None, "10.1.2.3"),
                ("b", Some("a"), "192.0.2.1"),
            ]
            .map(|(id, user, from)| bans.hold(id, user, ip(from), now))
        };
        assert_eq!(look(&bans, NOW), [true, true, true, false]);
        assert_eq!(look(&bans, NOW + 10), [false, true, true, false], "the first is over");
        let again = Bans::of(dir.path()).expect("they are read");
        assert_eq!((look(&again, NOW), again.list(NOW)), ([true, true, true, false], bans.list(NOW)));
        assert_eq!(again.list(NOW + 10).len(), 2);
        assert_eq!(again.remove(first.id, NOW).expect("written").map(|ban| ban.who), Some(first.who.clone()));
        assert!(again.remove(first.id, NOW).expect("written").is_none());
        assert_eq!(look(&again, NOW), [false, true, true, false]);
        // The second ban replaces the first one; numbers are not used again.
        let newer = again.add(ban(Who::Username("u".into()), Some(NOW + 5))).expect("made");
        assert_eq!((again.list(NOW).len(), newer.id), (2, 4));
        assert!(!look(&again, NOW + 5)[1]);
    }

    #[test]
    fn what_cannot_be_banned_is_said_and_bans_are_bounded() {
        let bans = Bans::default();
        for who in [Who::ClientId(String::new()), Who::Address("10.0.0.0/33".into()), Who::Address("here".into())] {
            assert!(matches!(bans.add(ban(who.clone(), None)), Err(Refused::Invalid(_))), "{who:?}");
        }
        let long = Ban { reason: "x".repeat(BAN_TEXT_BYTES_MAX + 1), ..ban(Who::ClientId("a".into()), None) };
        assert!(matches!(bans.add(long), Err(Refused::Invalid(_))));
        let address = |n: usize| Who::Address(format!("10.{}.{}.0/24", n / 256, n % 256));
        (0..BANNED_NETWORKS_MAX).for_each(|n| drop(bans.add(ban(address(n), None)).expect("there is room")));
        assert!(matches!(bans.add(ban(address(BANNED_NETWORKS_MAX), None)), Err(Refused::Full(_))));
        bans.add(ban(address(7), None)).expect("in the place of the earlier one");
        bans.add(ban(Who::ClientId("a".into()), None)).expect("there is room for others");
    }

    #[test]
    fn a_damaged_file_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        assert!(Bans::of(dir.path()).expect_err("no JSON").contains(FILE));
        std::fs::write(dir.path().join(FILE), "{\"last\":1,\"bans\":[{\"id\":1,\"who\":{\"address\":\"x\"},\"at_ms\":0,\"until_ms\":null,\"reason\":\"\",\"by\":null}]}").expect("written");
        assert!(Bans::of(dir.path()).expect_err("no address").contains("address"));
    }
}
