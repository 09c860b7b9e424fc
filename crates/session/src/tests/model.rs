//! Random histories against a model that is too simple to be wrong in the same way: it remembers every row for ever and looks
//! through all of them.
//!
//! Invariants, compared after every step: the answers of a connection are those of its own publishes, in order of receipt, none
//! before all its sinks have answered; a QoS 2 id is taken once in each of its uses; nothing is sent on a connection for a publish
//! of an earlier one, except the PUBREC of a QoS 2 row that it has repeated.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const INFLIGHT_MAX: u16 = 6;
const RECEIVE_MAXIMUM: u16 = 4;
/// QoS 2 ids of a 3.x client.
const QOS2_INFLIGHT_3X: u16 = 3;
const EXPIRY: Duration = Duration::from_secs(10);
const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    Connect {
        client: usize,
        version: Version,
        clean: bool,
        kept: bool,
    },
    End {
        client: usize,
        end: End,
    },
    Publish {
        client: usize,
        qos: QoS,
        packet_id: u16,
        sinks: u8,
        one_answers_early: bool,
    },
    PubRel {
        client: usize,
        packet_id: u16,
    },
    /// A sink answers a run of numbers, beginning with some row that has pending answers.
    Complete {
        row: prop::sample::Index,
        count: u32,
        refused: bool,
    },
    Drain {
        client: usize,
    },
    Pass {
        s: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..NAMES.len();
    let version = prop_oneof![1 => Just(Version::V31), 1 => Just(Version::V311), 3 => Just(Version::V5)];
    let end = prop_oneof![Just(End::Left), Just(End::Lost), Just(End::KeepAliveTimeout)];
    let qos = prop_oneof![1 => Just(QoS::AtMostOnce), 4 => Just(QoS::AtLeastOnce), 8 => Just(QoS::ExactlyOnce)];
    prop_oneof![
        3 => (client.clone(), version, prop::bool::weighted(0.1), prop::bool::weighted(0.9))
            .prop_map(|(client, version, clean, kept)| Step::Connect { client, version, clean, kept }),
        1 => (client.clone(), end).prop_map(|(client, end)| Step::End { client, end }),
        12 => (client.clone(), qos, 1_u16..6, 0_u8..4, any::<bool>()).prop_map(
            |(client, qos, packet_id, sinks, one_answers_early)| Step::Publish {
                client, qos, packet_id, sinks, one_answers_early
            }
        ),
        4 => (client.clone(), 1_u16..6).prop_map(|(client, packet_id)| Step::PubRel { client, packet_id }),
        12 => (any::<prop::sample::Index>(), 1_u32..5, prop::bool::weighted(0.15))
            .prop_map(|(row, count, refused)| Step::Complete { row, count, refused }),
        6 => client.prop_map(|client| Step::Drain { client }),
        1 => (0_u64..12).prop_map(|s| Step::Pass { s }),
    ]
}

/// A message, which is never forgotten.
struct Row {
    key: SessionKey,
    number: u32,
    owed: u8,
    code: u8,
    landed: bool,
}

impl Row {
    fn answer(&mut self, refused: bool) {
        self.owed -= 1;
        self.landed |= !refused;
        self.code = self.code.max(if refused { 0x80 } else { 0 });
    }

    fn refused_by_all(&self) -> bool {
        self.owed == 0 && self.code >= 0x80 && !self.landed
    }
}

/// A PUBLISH of the present connection that has not been answered.
struct Claim {
    packet_id: u16,
    qos: QoS,
    row: usize,
    /// Whether the PUBLISH made the row, and is no repeat.
    own: bool,
    silent: bool,
}

struct Link {
    client: Client,
    version: Version,
    claims: VecDeque<Claim>,
    quota_used: u16,
}

/// The model of a client identifier.
#[derive(Default)]
struct Model {
    /// The session, if there is one, and whether it outlives its connection.
    life: Option<(SessionKey, bool)>,
    ends: Option<Monotonic>,
    /// QoS 2 ids and their rows.
    open: BTreeMap<u16, usize>,
    link: Option<Link>,
}

struct World {
    shard: Shard,
    models: [Model; 2],
    rows: Vec<Row>,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            inflight_max: INFLIGHT_MAX,
            receive_maximum: RECEIVE_MAXIMUM,
            qos2_inflight_3x: QOS2_INFLIGHT_3X,
            session_expiry_3x_s: EXPIRY.as_secs() as u32,
            ..Settings::default()
        };
        Self { shard: Shard::with(settings), models: Default::default(), rows: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Connect { client, version, clean, kept } => self.connect(client, version, clean, kept),
            Step::End { client, end } => self.end(client, end),
            Step::Publish { client, qos, packet_id, sinks, one_answers_early } => {
                self.publish(client, qos, packet_id, sinks, one_answers_early);
            }
            Step::PubRel { client, packet_id } => self.pubrel(client, packet_id),
            Step::Complete { row, count, refused } => self.complete(row, count, refused),
            Step::Drain { client } => self.drain(client),
            Step::Pass { s } => self.pass(Duration::from_secs(s)),
        }
        self.free_what_nobody_has();
        for (model, name) in self.models.iter().zip(NAMES) {
            let shard = &self.shard;
            let found = shard.sessions.find(ClientKey::without_auth(name));
            assert_eq!(found, model.life.map(|(key, _)| key), "which sessions live");
            let Some(key) = found else { continue };
            let session = shard.sessions.get(key).expect("found");
            assert_eq!(session.open_packet_ids(), model.open.len(), "open ids {:?}", model.open.keys());
            assert_eq!(session.answers_owed(), model.link.as_ref().map_or(0, |link| link.claims.len()));
            assert_eq!(session.conn(), model.link.as_ref().map(|link| link.client.conn));
        }
    }

    /// Frees the id of a row that every sink refused and that no claim waits for.
    fn free_what_nobody_has(&mut self) {
        for model in &mut self.models {
            let claims = model.link.as_ref().map(|link| &link.claims);
            let claimed = |id| {
                claims.is_some_and(|claims| {
                    claims.iter().any(|claim| claim.qos == QoS::ExactlyOnce && claim.packet_id == id && !claim.silent)
                })
            };
            model.open.retain(|&id, &mut row| claimed(id) || !self.rows[row].refused_by_all());
        }
    }

    fn connect(&mut self, client: usize, version: Version, clean: bool, kept: bool) {
        let model = &mut self.models[client];
        let expiry = if kept { EXPIRY.as_secs() as u32 } else { 0 };
        let asked = properties(&[Property::SessionExpiryInterval(expiry)]);
        let properties = if version == Version::V5 { asked.as_properties() } else { Properties::EMPTY };
        let clean = if version == Version::V5 { clean } else { !kept };
        let present = !clean && model.life.is_some_and(|(_, kept)| kept);
        let old = model.link.take().map(|link| link.client.conn);
        let now = self.shard.connect(&Connect { properties, ..connect(version, NAMES[client], clean) });
        assert_eq!(now.session_present, present);
        if let Some(old) = old {
            assert!(self.shard.heard(old).iter().all(|word| word == "disconnect 0x8E"));
        }
        let model = &mut self.models[client];
        if !present {
            assert!(model.life.is_none_or(|(key, _)| key != now.key), "a new session has a new key");
            model.open.clear();
        }
        model.life = Some((now.key, kept));
        model.ends = None;
        model.link = Some(Link { client: now, version, claims: VecDeque::new(), quota_used: 0 });
    }

    fn end(&mut self, client: usize, end: End) {
        let model = &mut self.models[client];
        let Some(link) = model.link.take() else { return };
        self.shard.end(link.client, end);
        if model.life.is_some_and(|(_, kept)| kept) {
            model.ends = Some(self.shard.now.after(EXPIRY));
        } else {
            *model = Model::default();
        }
    }

    fn publish(&mut self, client: usize, qos: QoS, packet_id: u16, sinks: u8, early: bool) {
        let model = &mut self.models[client];
        let Some(link) = &mut model.link else { return };
        let c = link.client;
        let known = model.open.get(&packet_id).copied().filter(|_| qos == QoS::ExactlyOnce);
        let blocked = link.claims.len() >= usize::from(INFLIGHT_MAX);
        let qos2_max = if link.version == Version::V5 { RECEIVE_MAXIMUM } else { QOS2_INFLIGHT_3X };
        let expected = if qos == QoS::AtMostOnce {
            None
        } else if link.version == Version::V5 && link.quota_used >= RECEIVE_MAXIMUM {
            Some(Violation::RECEIVE_MAXIMUM)
        } else if blocked {
            Some(Violation::BLOCKED)
        } else if qos == QoS::ExactlyOnce && known.is_none() && model.open.len() >= usize::from(qos2_max) {
            Some(Violation::OPEN_IDS)
        } else {
            None
        };
        let publish = publish(qos, packet_id);
        let shard = &mut self.shard;
        assert_eq!(shard.session(c).is_blocked(), blocked);
        let taken = shard.sessions.publish(c.key, &publish, shard.now).expect("session lives");
        if let Some(violation) = expected {
            assert_eq!(taken, Taken::Violation(violation));
            return self.end(client, End::Violation(violation));
        }
        let number = match (taken, qos, known) {
            (Taken::TakeQos0 { .. }, QoS::AtMostOnce, _) => return,
            (Taken::Repeat, QoS::ExactlyOnce, Some(row)) => {
                if !link.claims.iter().any(|claim| claim.packet_id == packet_id && claim.qos == qos && !claim.silent) {
                    link.claims.push_back(Claim { packet_id, qos, row, own: false, silent: false });
                    link.quota_used += 1;
                }
                return;
            }
            (Taken::Take { number, .. }, QoS::AtLeastOnce | QoS::ExactlyOnce, None) => number,
            other => panic!("{other:?}"),
        };
        assert!(!self.rows.iter().any(|row| row.key == c.key && row.number == number), "a number is given once");
        let mut row = Row { key: c.key, number, owed: sinks, code: 0, landed: false };
        if sinks > 0 && early {
            shard.complete(c, number, Reason::Success);
            row.answer(false);
        }
        let reason = if sinks == 0 { Reason::Unmatched } else { Reason::Success };
        shard.session(c).opened(number, sinks.into(), reason);
        row.code = row.code.max(reason.code().0);
        if qos == QoS::ExactlyOnce {
            model.open.insert(packet_id, self.rows.len());
        }
        link.claims.push_back(Claim { packet_id, qos, row: self.rows.len(), own: true, silent: false });
        link.quota_used += 1;
        self.rows.push(row);
    }

    fn pubrel(&mut self, client: usize, packet_id: u16) {
        let model = &mut self.models[client];
        let Some(link) = &mut model.link else { return };
        let known = model.open.get(&packet_id).map(|&row| &self.rows[row]);
        let pubrec_owed = |claim: &Claim| claim.own && claim.packet_id == packet_id && claim.qos == QoS::ExactlyOnce;
        // The client cannot know that its row is done: it is not, or was refused, or its answer is not due.
        let early = known.is_some_and(|row| row.owed > 0 || row.code >= 0x80 || link.claims.iter().any(pubrec_owed));
        let c = link.client;
        let code = if known.is_none() && link.version == Version::V5 { " 0x92" } else { "" };
        let next = self.shard.packet(c, &Packet::PubRel(ack(packet_id)));
        if early {
            assert_eq!(next, Next::End(End::Violation(Violation::PUBREL_EARLY)));
            return self.end(client, End::Violation(Violation::PUBREL_EARLY));
        }
        assert_eq!(next, Next::Go);
        assert_eq!(self.shard.heard(c.conn), [format!("pubcomp {packet_id}{code}")]);
        let known = known.is_some();
        let model = &mut self.models[client];
        model.open.remove(&packet_id);
        if let Some(link) = &mut model.link {
            for claim in &mut link.claims {
                claim.silent |= known && claim.packet_id == packet_id && claim.qos == QoS::ExactlyOnce;
            }
            link.quota_used = link.quota_used.saturating_sub(1);
        }
    }

    fn complete(&mut self, pick: prop::sample::Index, count: u32, refused: bool) {
        let owed: Vec<usize> = (0..self.rows.len()).filter(|&row| self.rows[row].owed > 0).collect();
        if owed.is_empty() {
            return;
        }
        let Row { key, number: first, .. } = self.rows[owed[pick.index(owed.len())]];
        for row in &mut self.rows {
            if row.key == key && row.owed > 0 && (first..first + count).contains(&row.number) {
                row.answer(refused);
            }
        }
        let reason = if refused { Reason::KafkaRejected } else { Reason::Success };
        if let Some(session) = self.shard.sessions.get_mut(key) {
            session.complete(first, count, reason);
        }
    }

    fn drain(&mut self, client: usize) {
        let model = &mut self.models[client];
        let Some(link) = &mut model.link else { return };
        let mut expected = Vec::new();
        let mut refused = None;
        while let Some(claim) = link.claims.front() {
            let row = &self.rows[claim.row];
            if row.owed > 0 {
                break;
            }
            if row.code >= 0x80 && link.version < Version::V5 && !claim.silent {
                refused = Some(ReasonCode(row.code));
                break;
            }
            if claim.silent || claim.qos == QoS::AtLeastOnce || row.code >= 0x80 {
                link.quota_used = link.quota_used.saturating_sub(1);
            }
            if !claim.silent {
                let kind = if claim.qos == QoS::AtLeastOnce { "puback" } else { "pubrec" };
                let id = claim.packet_id;
                expected.push(match row.code {
                    code if code > 0 && link.version == Version::V5 => format!("{kind} {id} 0x{code:02X}"),
                    _ => format!("{kind} {id}"),
                });
                if row.code >= 0x80 && claim.qos == QoS::ExactlyOnce {
                    model.open.remove(&id);
                }
            }
            link.claims.pop_front();
        }
        let c = link.client;
        assert_eq!(self.shard.drain(c), Drained { answered: expected.len(), refused, ..Drained::default() });
        assert_eq!(self.shard.heard(c.conn), expected);
        if refused.is_some() {
            self.end(client, End::NotExpressible);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.shard.pass(time);
        for model in &mut self.models {
            if model.ends.is_some_and(|ends| ends <= self.shard.now) {
                *model = Model::default();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn random_histories_agree_with_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
    }
}
