//! The metadata of members when they join, and the assignment: the same table for all members. Integers are big-endian, texts begin with
//! their length (u16). The first byte is the version; bytes after the known fields are left to later versions.

use std::sync::Arc;

use super::slots::{SLOTS_MAX, SlotSet};
use super::table::{Instance, Table};

const VERSION: u8 = 1;

/// The owner of a slot without one.
const NOBODY: u16 = u16::MAX;

/// The most instances of a broker.
const INSTANCES_MAX: u16 = 1_000;

/// The metadata of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The instance. Its member id is not included: the coordinator reports it to the leader.
    pub instance: Instance,
    /// The member's weight in the assignment of slots: its number of shards. 0: it gives its slots away.
    pub weight: u16,
    /// The terms that the member must have in common with the other serving ones.
    pub terms: Terms,
    /// Generation of the table that the member knows; -1: none.
    pub generation: i32,
    /// Counts the member's requests for another assignment: changed bytes make the coordinator begin a rebalance.
    pub wishes: u32,
    /// The slots that the member has taken, or is about to take.
    pub held: SlotSet,
    /// The slots among `held` that the member is giving back.
    pub leaving: SlotSet,
}

/// The terms that instances must agree on to be one broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// The number of slots.
    pub slots: u16,
    /// A hash of the cluster and of the routes.
    pub routes: u64,
}

impl Peer {
    /// Encodes the member's metadata.
    #[must_use]
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_instance(&mut bytes, &self.instance);
        bytes.extend_from_slice(&self.weight.to_be_bytes());
        bytes.extend_from_slice(&self.terms.slots.to_be_bytes());
        bytes.extend_from_slice(&self.terms.routes.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.wishes.to_be_bytes());
        self.held.encode(&mut bytes);
        self.leaving.encode(&mut bytes);
        bytes
    }

    /// Decodes a member's metadata. `None`: it is of another version, or invalid.
    #[must_use]
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let reader = &mut Reader(bytes);
        if reader.array()? != [VERSION] {
            return None;
        }
        Some(Self {
            instance: reader.instance()?,
            weight: reader.u16()?,
            terms: Terms { slots: reader.u16()?.min(SLOTS_MAX), routes: u64::from_be_bytes(reader.array()?) },
            generation: i32::from_be_bytes(reader.array()?),
            wishes: u32::from_be_bytes(reader.array()?),
            held: reader.set()?,
            leaving: reader.set()?,
        })
    }
}

/// A table as an assignment.
pub(super) fn encode(table: &Table) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&table.generation.to_be_bytes());
    bytes.extend_from_slice(&table.routes.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(table.instances.len()).unwrap_or(INSTANCES_MAX).to_be_bytes());
    for instance in table.instances.iter().take(INSTANCES_MAX.into()) {
        put_instance(&mut bytes, instance);
        put_text(&mut bytes, &instance.member_id);
    }
    bytes.extend_from_slice(&u16::try_from(table.owners.len()).unwrap_or(SLOTS_MAX).to_be_bytes());
    for owner in &table.owners {
        bytes.extend_from_slice(&owner.unwrap_or(NOBODY).to_be_bytes());
    }
    bytes
}

/// Decodes an assignment. `None`: it is of another version, or inconsistent.
pub(super) fn decode(bytes: &[u8]) -> Option<Table> {
    let reader = &mut Reader(bytes);
    if reader.array()? != [VERSION] {
        return None;
    }
    let generation = i32::from_be_bytes(reader.array()?);
    let routes = u64::from_be_bytes(reader.array()?);
    let count = reader.u16()?;
    let instance = |reader: &mut Reader<'_>| {
        let instance = reader.instance()?;
        Some(Instance { member_id: reader.text()?, ..instance })
    };
    let instances: Vec<Instance> = (0..count).map(|_| instance(reader)).collect::<Option<_>>()?;
    let slots = reader.u16()?;
    let owners: Vec<Option<u16>> = (0..slots)
        .map(|_| reader.u16().map(|owner| Some(owner).filter(|owner| *owner != NOBODY)))
        .collect::<Option<_>>()?;
    let is_sorted = instances.is_sorted_by(|a, b| a.name < b.name);
    let are_known = owners.iter().flatten().all(|owner| *owner < count);
    (is_sorted && are_known && count <= INSTANCES_MAX && slots <= SLOTS_MAX).then_some(Table {
        generation,
        routes,
        instances,
        owners,
    })
}

fn put_instance(bytes: &mut Vec<u8>, instance: &Instance) {
    put_text(bytes, &instance.name);
    bytes.extend_from_slice(&instance.incarnation.to_be_bytes());
    put_text(bytes, &instance.link);
    put_text(bytes, &instance.server);
}

/// Writes a text; the configuration bounds the texts of an instance.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

/// A cursor that trusts no length.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(head).ok().map(Arc::from)
    }

    fn set(&mut self) -> Option<SlotSet> {
        let mut words = [0; SLOTS_MAX as usize / 64];
        for word in &mut words {
            *word = u64::from_be_bytes(self.array()?);
        }
        Some(SlotSet::of_words(words))
    }

    /// An instance without its member id.
    fn instance(&mut self) -> Option<Instance> {
        Some(Instance {
            name: self.text()?,
            incarnation: u128::from_be_bytes(self.array()?),
            link: self.text()?,
            server: self.text()?,
            member_id: Arc::from(""),
        })
    }
}
