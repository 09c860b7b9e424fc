//! The calls that this client makes, its supported versions of each, and how a version is settled with a broker
//! (ApiVersions, KIP-35 and KIP-511).

use super::wire::{Malformed, Read, Reader};

/// A call of Kafka's protocol, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum Call {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    SaslHandshake = 17,
    ApiVersions = 18,
    InitProducerId = 22,
    /// KIP-101, KIP-320.
    OffsetForLeaderEpoch = 23,
    /// KIP-152, KIP-368.
    SaslAuthenticate = 36,
    /// KIP-229.
    DeleteGroups = 42,
    /// KIP-664.
    DescribeProducers = 61,
}

/// UNSUPPORTED_VERSION: the broker does not support the version of the request.
pub(super) const UNSUPPORTED_VERSION: i16 = 35;

/// The first version of Produce and Fetch that names topics by id and not by name (KIP-516).
pub(super) const BY_ID: i16 = 13;

/// The version of ApiVersions that is tried first; v0 follows if the broker does not support it (KIP-511).
pub(super) const API_VERSIONS: i16 = 3;

impl Call {
    /// The call's number on the wire.
    pub(super) const fn key(self) -> i16 {
        self as i16
    }

    /// Whether the body of `version` is in the flexible encoding.
    pub(super) fn is_flexible(self, version: i16) -> bool {
        version >= self.versions().2
    }

    /// Whether an answer's header has tagged fields. ApiVersions answers never have: the client may not know the broker's versions yet
    /// (KIP-511).
    pub(super) fn has_flexible_answer_header(self, version: i16) -> bool {
        self != Self::ApiVersions && self.is_flexible(version)
    }

    /// The supported versions. Produce below 3 has no v2 batches; 13, and Fetch 13, name topics by id (KIP-516), and 12 is used if no id is
    /// known. Metadata below 4 cannot choose whether a topic is created (the mock cluster of librdkafka 2.0 supports no other), above 12 is not needed. Apache
    /// Kafka 0.11 to 4.x is within; DescribeProducers came with 2.8; OffsetForLeaderEpoch below 2 (Kafka 2.1) has no leader epoch; after SaslHandshake 0
    /// the bytes of the exchange would be sent without Kafka's headers. OffsetFetch and OffsetCommit 10 name topics by id, which a group's commits do not need;
    /// OffsetCommit below 2 is for offsets in ZooKeeper, as is OffsetFetch 0.
    ///
    /// Returns the oldest and the newest version, and the first one with flexible encoding (KIP-482).
    const fn versions(self) -> (i16, i16, i16) {
        match self {
            Self::Produce => (3, 13, 9),
            Self::Metadata => (1, 12, 9),
            Self::ApiVersions => (0, API_VERSIONS, 3),
            Self::InitProducerId => (0, 5, 2),
            Self::Fetch => (4, 13, 12),
            Self::ListOffsets => (1, 6, 6),
            Self::OffsetForLeaderEpoch => (2, 4, 4),
            Self::SaslHandshake => (1, 1, i16::MAX),
            Self::SaslAuthenticate => (0, 2, 2),
            Self::DescribeProducers => (0, 0, 0),
            Self::FindCoordinator => (0, 6, 3),
            Self::JoinGroup => (0, 9, 6),
            Self::SyncGroup => (0, 5, 4),
            Self::Heartbeat => (0, 4, 4),
            Self::LeaveGroup => (0, 5, 4),
            Self::OffsetFetch => (1, 9, 6),
            Self::OffsetCommit => (2, 9, 8),
            Self::DeleteGroups => (0, 2, 2),
        }
    }
}

/// The versions settled with one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// Version of Produce, 3 to 13.
    pub(super) produce: i16,
    /// Version of Metadata, 1 to 12.
    pub(super) metadata: i16,
    /// Version of InitProducerId, 0 to 5.
    pub(super) init_producer_id: i16,
    /// Version of Fetch, 4 to 13, if the broker has it.
    pub(super) fetch: Option<i16>,
    /// Version of ListOffsets, 1 to 6, if the broker has it.
    pub(super) list_offsets: Option<i16>,
    /// Version of OffsetForLeaderEpoch, 2 to 4, if the broker has it.
    pub(super) offset_for_leader_epoch: Option<i16>,
    /// Version of DescribeProducers, 0, if the broker has it.
    pub(super) describe_producers: Option<i16>,
    /// Version of SaslHandshake, 1, if the broker has it.
    pub(super) sasl_handshake: Option<i16>,
    /// Version of SaslAuthenticate, 0 to 2, if the broker has it.
    pub(super) sasl_authenticate: Option<i16>,
    /// Versions of [`OF_MEMBERS`], in that order, of those that the broker has.
    pub(super) of_members: [Option<i16>; 8],
}

/// The calls of a group's members, beside Metadata.
const OF_MEMBERS: [Call; 8] = [
    Call::FindCoordinator,
    Call::JoinGroup,
    Call::SyncGroup,
    Call::Heartbeat,
    Call::LeaveGroup,
    Call::OffsetFetch,
    Call::OffsetCommit,
    Call::DeleteGroups,
];

impl Versions {
    /// Version of a call of a group's member, if the broker has it.
    pub(super) fn of_member(&self, call: Call) -> Option<i16> {
        if call == Call::Metadata {
            return Some(self.metadata);
        }
        let at = OF_MEMBERS.iter().position(|of| *of == call)?;
        self.of_members.get(at).copied().flatten()
    }
}

/// A broker's answer to ApiVersions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Negotiated {
    /// The highest common versions, and a throttle time in ms.
    Settled(Versions, i32),
    /// The broker does not support the version of the request: ask again with v0.
    AskV0,
    /// The broker answered with this error.
    Refused(i16),
    /// Broker and client have no common version of this call.
    NothingCommon(Call),
}

/// Reads an ApiVersions answer, header already read.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_api_versions(reader: &mut Reader<'_>, version: i16) -> Read<Negotiated> {
    let error = reader.i16()?;
    if error == UNSUPPORTED_VERSION && version > 0 {
        // The rest is in the encoding of v0, whatever the request's version.
        return Ok(Negotiated::AskV0);
    }
    if error != 0 {
        return Ok(Negotiated::Refused(error));
    }
    // The first three are required; without the others the client works, but cannot ask about a log, or log in.
    let apis = [
        Call::Produce,
        Call::Metadata,
        Call::InitProducerId,
        Call::Fetch,
        Call::ListOffsets,
        Call::OffsetForLeaderEpoch,
        Call::DescribeProducers,
        Call::SaslHandshake,
        Call::SaslAuthenticate,
    ];
    let mut settled = [None; 9];
    let mut of_members = [None; 8];
    for _ in 0..reader.array(6)? {
        let (key, low, high) = (reader.i16()?, reader.i16()?, reader.i16()?);
        reader.tags()?;
        if low > high {
            return Err(Malformed("version range upside down"));
        }
        let common = |call: Call| {
            let (our_low, our_high, _) = call.versions();
            (low.max(our_low) <= high.min(our_high)).then(|| high.min(our_high))
        };
        let places = settled.iter_mut().zip(apis).chain(of_members.iter_mut().zip(OF_MEMBERS));
        for (place, call) in places.filter(|(_, call)| call.key() == key) {
            *place = common(call);
        }
    }
    let throttle_ms = if version >= 1 { reader.i32()? } else { 0 };
    reader.tags()?;
    reader.end();
    let [
        Some(produce),
        Some(metadata),
        Some(init_producer_id),
        fetch,
        list_offsets,
        offset_for_leader_epoch,
        describe_producers,
        sasl_handshake,
        sasl_authenticate,
    ] = settled
    else {
        let missing = settled.iter().position(Option::is_none).unwrap_or(0);
        return Ok(Negotiated::NothingCommon(apis[missing]));
    };
    let versions = Versions {
        produce,
        metadata,
        init_producer_id,
        fetch,
        list_offsets,
        offset_for_leader_epoch,
        describe_producers,
        sasl_handshake,
        sasl_authenticate,
        of_members,
    };
    Ok(Negotiated::Settled(versions, throttle_ms))
}
