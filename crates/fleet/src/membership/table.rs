//! The table of instances: which instance serves which slot. The leader of the group makes it, and every member gets the whole table
//! with each assignment.

use std::sync::Arc;

/// An instance of the broker, as its group knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The instance's name: `name` of `[broker]`, and `group.instance.id` in the group.
    pub name: Arc<str>,
    /// The process: a random number that it chose at startup.
    pub incarnation: u128,
    /// The address for connections of other instances, `host:port`; empty: none.
    pub link: Arc<str>,
    /// The address for clients, `host:port`, for a Server Reference; empty: not given.
    pub server: Arc<str>,
    /// The instance's member id in the group, by which a peer can have it removed.
    pub member_id: Arc<str>,
}

/// The owners of the slots in one generation of the group. Read-only: another generation is another table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Generation of the group.
    pub generation: i32,
    /// A hash of the cluster and of the routes of the serving instances: an instance with others serves no clients.
    pub routes: u64,
    /// The instances, by their index in the table, sorted by name.
    pub instances: Vec<Instance>,
    /// The owner of each slot, an index into `instances`; `None`: none for now. The length is the number of slots.
    pub owners: Vec<Option<u16>>,
}

impl Table {
    /// The instance at this index.
    #[must_use]
    pub fn instance(&self, index: u16) -> Option<&Instance> {
        self.instances.get(usize::from(index))
    }

    /// The instance that serves a slot, if there is one.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<&Instance> {
        self.instance(self.owners.get(usize::from(slot)).copied().flatten()?)
    }

    /// The index of an instance by its name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u16> {
        let at = self.instances.binary_search_by(|instance| (*instance.name).cmp(name)).ok()?;
        u16::try_from(at).ok()
    }

    /// The slots of an instance, in order.
    pub fn slots_of(&self, instance: u16) -> impl Iterator<Item = u16> {
        (0..).zip(&self.owners).filter(move |(_, owner)| **owner == Some(instance)).map(|(slot, _)| slot)
    }
}
