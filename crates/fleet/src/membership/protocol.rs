//! The protocol of the group of instances: a member's metadata, and the leader's assignment of slots.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::assign::{assign, terms};
use super::format::{self, Peer};
use super::table::{Instance, Table};
use forebay_kafka::coordination::{Given, GroupMember, Names};
use forebay_kafka::group::{Assignment, Fingerprint, Lead, Protocol};
use forebay_runtime::seam::Monotonic;

/// While no member holds a slot, the leader assigns once the members have been the same for this long, because all of them
/// may be starting.
pub(super) const GATHERING: Duration = Duration::from_secs(3);

/// Names and incarnations of instances.
type Processes = Vec<(Arc<str>, u128)>;

/// This instance's part in the group.
#[derive(Debug)]
pub(super) struct Slots {
    /// The metadata of this member.
    pub(super) own: Peer,
    /// The newest known table.
    pub(super) table: Arc<Table>,
    /// The members when this one last led, and since when they are the same.
    gathered: Option<(Processes, Monotonic)>,
    /// How long the members must have been the same for the first assignment.
    pub(super) gathering: Duration,
}

impl Slots {
    pub(super) fn new(own: Peer) -> Self {
        Self {
            own,
            table: Arc::new(Table { generation: -1, ..Table::default() }),
            gathered: None,
            gathering: GATHERING,
        }
    }

    /// Whether the members have been the same for [`GATHERING`], as far as this leader knows.
    fn are_gathered(&mut self, peers: &[Peer], lead: &Lead<'_>) -> bool {
        let names: Processes =
            peers.iter().map(|peer| (Arc::clone(&peer.instance.name), peer.instance.incarnation)).collect();
        // A coordinator that delays the first members does so again when others have joined meanwhile.
        let since = Monotonic(lead.now.0.saturating_sub(u64::try_from(lead.waited.as_nanos()).unwrap_or(u64::MAX)));
        match &self.gathered {
            Some((known, at)) if *known == names && *at <= since => {}
            _ => self.gathered = Some((names, since)),
        }
        self.gathered.as_ref().is_some_and(|(_, at)| lead.now.since(*at) >= self.gathering)
    }
}

impl Protocol for Slots {
    const NAMES: Names = Names { protocol_type: "forebay", protocol: "slots" };
    const KEEPS: bool = true;

    fn metadata(&self, _: &[Rc<str>], _: Fingerprint) -> Rc<[u8]> {
        Rc::from(self.own.encode())
    }

    fn topics(&self, _: &[GroupMember]) -> BTreeSet<Rc<str>> {
        BTreeSet::new()
    }

    fn assign(&mut self, lead: &Lead<'_>, _: &dyn Fn(&str) -> Option<u32>) -> Vec<Given> {
        let peer = |member: &GroupMember| {
            let mut peer = Peer::decode(&member.metadata)?;
            peer.instance.member_id = Arc::from(&*member.id);
            Some(peer)
        };
        let mut peers: Vec<Peer> = lead.members.iter().filter_map(peer).collect();
        peers.sort_by(|a, b| a.instance.name.cmp(&b.instance.name));
        peers.dedup_by(|a, b| a.instance.name == b.instance.name);
        let terms = terms(&peers);
        let is_first = peers.iter().all(|peer| peer.held.is_empty());
        let owners = if self.are_gathered(&peers, lead) || !is_first {
            assign(&peers, &self.table)
        } else {
            vec![None; terms.slots.into()]
        };
        let instances: Vec<Instance> = peers.into_iter().map(|peer| peer.instance).collect();
        let table = Table { generation: lead.generation, routes: terms.routes, instances, owners };
        let bytes: Rc<[u8]> = Rc::from(format::encode(&table));
        lead.members.iter().map(|member| (Rc::clone(&member.id), Rc::clone(&bytes))).collect()
    }

    fn assigned(&mut self, assignment: &[u8]) -> Option<Assignment> {
        self.table = Arc::new(format::decode(assignment)?);
        Some(Assignment::new())
    }
}
