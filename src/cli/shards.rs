//! The control plane's requests to shards, by mail.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broker::router::{self, Place, Slots};
use crate::config::{self, OffsetReset};
use crate::link::Peers;
use crate::membership::Instance;
use crate::metrics::inspect::{Answer, Ask, InstanceOfBroker, SeekTo, Shards, SlotTable};
use crate::metrics::time::now_ms;
use crate::route::shares::Shares as SharedSubscriptions;
use crate::runtime::{Post, boottime};
use crate::shard::mail::{Inspection, Mail, ToDoor, ToGroup, ToShard};

/// Mail to the shards.
pub(super) struct ByMail {
    pub(super) post: Post<Mail>,
    pub(super) shards: usize,
    pub(super) slots: Arc<Slots>,
    pub(super) shared_subscriptions: Arc<SharedSubscriptions>,
    pub(super) peers: Arc<Peers>,
}

impl Shards for ByMail {
    fn count(&self) -> usize {
        self.shards
    }

    fn shared_subscriptions(&self) -> usize {
        self.shared_subscriptions.count()
    }

    fn owner(&self, of: &str) -> usize {
        router::owner(of, self.shards)
    }

    fn instance_of(&self, client_id: &str) -> Option<String> {
        let Place::Elsewhere(instance) = self.slots.place(client_id) else { return None };
        self.peers.table().instance(instance).map(|of| of.name.to_string())
    }

    fn slots(&self) -> Option<SlotTable> {
        let count = u16::try_from(self.slots.count()).ok().filter(|count| *count > 0)?;
        let (table, is_group) = (self.peers.table(), self.slots.are_given_out());
        let at = |place: Place| (0..count).filter(|slot| self.slots.at(*slot) == place).collect::<Vec<u16>>();
        let here = || (0..count).filter(|slot| matches!(self.slots.at(*slot), Place::Here(_))).collect();
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let is_own = |name: &str| name == self.peers.name();
        let instance = |(index, of): (u16, &Instance)| InstanceOfBroker {
            name: of.name.to_string(),
            link: text(&of.link),
            server: text(&of.server),
            slots: if is_own(&of.name) { here() } else { at(Place::Elsewhere(index)) },
        };
        let mut instances: Vec<_> = (0..).zip(&table.instances).map(instance).collect();
        if !instances.iter().any(|of| is_own(&of.name)) {
            instances.push(InstanceOfBroker {
                name: self.peers.name().into(),
                slots: here(),
                ..InstanceOfBroker::default()
            });
        }
        Some(SlotTable {
            name: self.peers.name().into(),
            generation: is_group.then_some(table.generation),
            is_silent: is_group && self.peers.is_silent(boottime()),
            is_drained: self.peers.is_leaving(),
            instances,
            nobody: at(Place::Nobody),
            not_taken: self.slots.not_taken(),
        })
    }

    fn is_drained(&self) -> bool {
        self.peers.is_leaving()
    }

    fn drain(&self, drains: bool, dry_run: bool) -> Result<bool, String> {
        if self.slots.count() == 0 {
            return Err("there is no [broker]: an instance that is alone has nobody who could serve its clients".into());
        }
        if !self.slots.are_given_out() {
            return Err("there is no [broker.link]: nobody else could serve the clients of this instance".into());
        }
        let table = self.peers.table();
        if drains && table.instances.len() < 2 {
            return Err("this is the only instance of the broker: nobody else could serve its clients".into());
        }
        let own = table.index(self.peers.name());
        if drains && !table.owners.iter().any(|owner| owner.is_some() && *owner != own) {
            let why = "no other instance serves clients: they are drained, are about to begin, or have other routes (instances_trouble)";
            return Err(why.into());
        }
        if dry_run {
            return Ok(true);
        }
        let is_sent = self.post.send(0, Mail::Group(ToGroup::Drain(drains))).is_ok();
        // The first shard reports that a drain is over. A balancer must learn of a drain before any client is sent away.
        if is_sent && drains {
            self.peers.leaves(true);
        }
        Ok(is_sent)
    }

    fn home(&self, client_id: &str) -> usize {
        match self.slots.place(client_id) {
            Place::Here(shard) => shard,
            Place::Elsewhere(_) | Place::Nobody => 0,
        }
    }

    fn place(&self, text: &str) -> Result<SeekTo, String> {
        Ok(match config::place_in_log(text)? {
            OffsetReset::Earliest => SeekTo::Earliest,
            OffsetReset::Latest => SeekTo::Latest,
            OffsetReset::At(ms) => SeekTo::Time(ms),
            OffsetReset::Ago(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                SeekTo::Time(now_ms().saturating_sub(age).max(0))
            }
        })
    }

    fn ask(&self, shard: usize, ask: Ask, answer: Answer) -> bool {
        self.post.send(shard, Mail::Shard(ToShard::Inspect(Inspection { ask, answer }))).is_ok()
    }

    fn test_client(&self, socket: OwnedFd, user: &str) -> bool {
        // The client moves on to the shard of its client identifier.
        self.post.send(0, Mail::Door(ToDoor::TestClient(socket, user.into()))).is_ok()
    }
}
