//! The answers to a group's member, read in place, bounded by their own bytes.

use std::rc::Rc;

use super::answer;
use super::coordinator_request::STATIC_JOIN;
use super::wire::{Malformed, Read, Reader};
use crate::coordination::{Ask, Committed, GroupMember, Joined, Offset, Request, Says, TopicPartition};
use crate::types::TopicMetadata;
use forebay_guard::outward::Endpoint;

/// The most members of a group that are accepted.
const MEMBERS_MAX: usize = 10_000;

/// UNKNOWN_TOPIC_OR_PARTITION.
const UNKNOWN_TOPIC: i16 = 3;
/// MEMBER_ID_REQUIRED.
const MEMBER_ID_REQUIRED: i16 = 79;

/// An answer to a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The answer for the member.
    pub(super) says: Says,
    /// The coordinator, if that was requested and reported.
    pub(super) coordinator: Option<Endpoint>,
    /// The pause requested of the client, in ms.
    pub(super) throttle_ms: i32,
}

/// Reads the answer to a request, header already read.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read(reader: &mut Reader<'_>, version: i16, request: &Request) -> Read<Told> {
    let mut coordinator = None;
    let mut throttle_ms = 0;
    if let Ask::Partitions(topics) = &request.ask {
        let metadata = answer::read_metadata(reader, version, topics)?;
        let count = |topic: Option<TopicMetadata>| match topic {
            Some(topic) if topic.error == 0 => Ok(u32::try_from(topic.leaders.len()).unwrap_or(u32::MAX)),
            Some(topic) => Err(topic.error),
            None => Err(UNKNOWN_TOPIC),
        };
        let counts = metadata.topics.into_iter().map(count).collect();
        return Ok(Told { says: Says::Partitions(counts), coordinator, throttle_ms: metadata.throttle_ms });
    }
    if version >= first_throttled(&request.ask) {
        throttle_ms = reader.i32()?;
    }
    let says = match &request.ask {
        Ask::Coordinator => {
            let found = read_coordinator(reader, version)?;
            let says = found.as_ref().map_or_else(|code| Says::Refused(*code), |_| Says::Coordinator);
            coordinator = found.ok();
            says
        }
        Ask::Join { .. } => read_joined(reader, version)?,
        Ask::Sync { .. } => read_synced(reader, version)?,
        Ask::Offsets(partitions) => read_offsets(reader, version, partitions)?,
        Ask::Commit(places) => read_committed(reader, places)?,
        Ask::Leave | Ask::Evict { .. } => read_left(reader, version)?,
        Ask::Delete => read_deleted(reader)?,
        Ask::Heartbeat | Ask::Partitions(_) => match reader.i16()? {
            0 => Says::Alive,
            code => Says::Refused(code),
        },
    };
    reader.tags()?;
    reader.end();
    Ok(Told { says, coordinator, throttle_ms })
}

/// The first version with the throttle time at the beginning of the answer.
const fn first_throttled(ask: &Ask) -> i16 {
    match ask {
        Ask::Delete => 0,
        Ask::Join { .. } => 2,
        Ask::Offsets(_) | Ask::Commit(_) => 3,
        _ => 1,
    }
}

fn read_coordinator(reader: &mut Reader<'_>, version: i16) -> Read<Result<Endpoint, i16>> {
    if version < 4 {
        let error = reader.i16()?;
        if version >= 1 {
            reader.nullable_string()?; // error message
        }
        let endpoint = read_broker(reader)?;
        return found(error, endpoint);
    }
    let count = reader.array(13)?;
    let mut first = None;
    for _ in 0..count {
        reader.string()?; // the group's name: only one was requested
        let endpoint = read_broker(reader)?;
        let error = reader.i16()?;
        reader.nullable_string()?;
        reader.tags()?;
        first.get_or_insert((error, endpoint));
    }
    let (error, endpoint) = first.ok_or(Malformed("no coordinator, and no error"))?;
    found(error, endpoint)
}

/// Reads node id, host and port; `None`: an invalid address, as sent with an error.
fn read_broker(reader: &mut Reader<'_>) -> Read<Option<Endpoint>> {
    reader.i32()?;
    let (host, port) = (reader.string()?, reader.i32()?);
    let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty());
    let port = u16::try_from(port).ok().filter(|port| *port != 0);
    Ok(host.zip(port).map(|(host, port)| Endpoint { host: Rc::from(host), port }))
}

fn found(error: i16, endpoint: Option<Endpoint>) -> Read<Result<Endpoint, i16>> {
    match (error, endpoint) {
        (0, Some(endpoint)) => Ok(Ok(endpoint)),
        (0, None) => Err(Malformed("a coordinator without an address")),
        (error, _) => Ok(Err(error)),
    }
}

fn read_joined(reader: &mut Reader<'_>, version: i16) -> Read<Says> {
    let (error, generation) = (reader.i16()?, reader.i32()?);
    if version >= 7 {
        reader.nullable_string()?; // protocol type
    }
    let protocol = text(reader.nullable_string()?.unwrap_or_default())?;
    let leader = text(reader.nullable_string()?.unwrap_or_default())?;
    let skip_assignment = version >= 9 && reader.u8()? != 0;
    let member_id = text(reader.nullable_string()?.unwrap_or_default())?;
    let count = reader.array(6)?;
    if count > MEMBERS_MAX {
        return Err(Malformed("more members than Forebay can assign to"));
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        let id = text(reader.string()?)?;
        let instance = if version >= 5 { reader.nullable_string()?.map(text).transpose()? } else { None };
        let metadata = Rc::from(reader.nullable_bytes()?.unwrap_or_default());
        reader.tags()?;
        members.push(GroupMember { id, instance, metadata });
    }
    match error {
        0 if member_id.is_empty() || generation < 0 => Err(Malformed("joined without a member id or a generation")),
        0 => {
            let knows_static = version >= STATIC_JOIN;
            let joined = Joined { generation, protocol, leader, member_id, skip_assignment, knows_static, members };
            Ok(Says::Joined(joined))
        }
        MEMBER_ID_REQUIRED if !member_id.is_empty() => Ok(Says::MemberId(member_id)),
        code => Ok(Says::Refused(code)),
    }
}

fn read_synced(reader: &mut Reader<'_>, version: i16) -> Read<Says> {
    let error = reader.i16()?;
    if version >= 5 {
        reader.nullable_string()?; // protocol type
        reader.nullable_string()?; // protocol
    }
    let bytes = reader.nullable_bytes()?.unwrap_or_default();
    Ok(if error == 0 { Says::Assignment(Rc::from(bytes)) } else { Says::Refused(error) })
}

fn read_offsets(reader: &mut Reader<'_>, version: i16, asked: &[TopicPartition]) -> Read<Says> {
    let mut offsets = vec![None; asked.len()];
    let mut error = 0;
    let groups = if version >= 8 { reader.array(4)? } else { 1 };
    for _ in 0..groups {
        if version >= 8 {
            reader.string()?; // the group's name: only one was requested
        }
        for _ in 0..reader.array(6)? {
            let name = reader.string()?;
            for _ in 0..reader.array(16)? {
                let (partition, offset) = (reader.i32()?, reader.i64()?);
                let leader_epoch = if version >= 5 { reader.i32()? } else { -1 };
                reader.nullable_string()?; // metadata
                let code = reader.i16()?;
                reader.tags()?;
                let committed =
                    if code == 0 { Ok((offset >= 0).then_some(Committed { offset, leader_epoch })) } else { Err(code) };
                if let Some(place) = place(asked, |at| at, name, partition).and_then(|at| offsets.get_mut(at)) {
                    *place = Some(committed);
                }
            }
            reader.tags()?;
        }
        if version >= 2 {
            error = reader.i16()?;
        }
        if version >= 8 {
            reader.tags()?;
        }
    }
    if error != 0 {
        return Ok(Says::Refused(error));
    }
    let offsets: Option<Vec<_>> = offsets.into_iter().collect();
    offsets.map(Says::Offsets).ok_or(Malformed("partition without an answer"))
}

fn read_committed(reader: &mut Reader<'_>, asked: &[Offset]) -> Read<Says> {
    let mut codes = vec![None; asked.len()];
    for _ in 0..reader.array(6)? {
        let name = reader.string()?;
        for _ in 0..reader.array(6)? {
            let (partition, code) = (reader.i32()?, reader.i16()?);
            reader.tags()?;
            if let Some(place) = place(asked, |place| &place.at, name, partition).and_then(|at| codes.get_mut(at)) {
                *place = Some(code);
            }
        }
        reader.tags()?;
    }
    let codes: Option<Vec<i16>> = codes.into_iter().collect();
    codes.map(Says::Committed).ok_or(Malformed("partition without an answer"))
}

/// The index of a partition among the requested ones, which are sorted.
fn place<T>(asked: &[T], at: impl Fn(&T) -> &TopicPartition, name: &[u8], partition: i32) -> Option<usize> {
    let order = |of: &TopicPartition| of.topic.as_bytes().cmp(name).then(of.partition.cmp(&partition));
    asked.binary_search_by(|of| order(at(of))).ok()
}

fn read_left(reader: &mut Reader<'_>, version: i16) -> Read<Says> {
    let mut error = reader.i16()?;
    if version >= 3 {
        for _ in 0..reader.array(6)? {
            reader.string()?; // member id
            reader.nullable_string()?; // instance id
            let of_member = reader.i16()?;
            reader.tags()?;
            error = if error == 0 { of_member } else { error };
        }
    }
    Ok(if error == 0 { Says::Left } else { Says::Refused(error) })
}

fn read_deleted(reader: &mut Reader<'_>) -> Read<Says> {
    let mut error = 0;
    for _ in 0..reader.array(4)? {
        reader.string()?; // the group's name: only one was requested
        error = reader.i16()?;
        reader.tags()?;
    }
    Ok(if error == 0 { Says::Deleted } else { Says::Refused(error) })
}

fn text(bytes: &[u8]) -> Read<Rc<str>> {
    std::str::from_utf8(bytes).map(Rc::from).map_err(|_| Malformed("a name is not UTF-8"))
}
