//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (sections 3.8 to 3.11).

use super::{packet_id, properties, reason};
use crate::malformed::Malformed;
use crate::packet::{Filters, PacketType, Sender, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, Version};
use crate::property::Place;
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::Reader;

pub(super) fn subscribe<'a>(version: Version, body: &mut Reader<'a>) -> Result<Subscribe<'a>, Malformed> {
    let packet_id = packet_id(body)?;
    let properties = properties(version, body, Place::Packet(PacketType::Subscribe, Sender::Client))?;
    if body.is_empty() {
        return Err(Malformed::protocol("MQTT-3.8.3-2", "a SUBSCRIBE without a Topic Filter"));
    }
    let bytes = body.rest();
    while !body.is_empty() {
        let filter = filter(version, body)?;
        let options = options(version, body.u8()?)?;
        if options.no_local && topic::is_shared(filter) {
            return Err(Malformed::protocol("MQTT-3.8.3-4", "No Local on a Shared Subscription"));
        }
    }
    Ok(Subscribe { packet_id, properties, filters: Filters { bytes, with_options: true } })
}

pub(super) fn unsubscribe<'a>(version: Version, body: &mut Reader<'a>) -> Result<Unsubscribe<'a>, Malformed> {
    let packet_id = packet_id(body)?;
    let properties = properties(version, body, Place::Packet(PacketType::Unsubscribe, Sender::Client))?;
    if body.is_empty() {
        return Err(Malformed::protocol("MQTT-3.10.3-2", "an UNSUBSCRIBE without a Topic Filter"));
    }
    let bytes = body.rest();
    while !body.is_empty() {
        filter(version, body)?;
    }
    Ok(Unsubscribe { packet_id, properties, filters: Filters { bytes, with_options: false } })
}

pub(super) fn suback<'a>(version: Version, body: &mut Reader<'a>) -> Result<SubAck<'a>, Malformed> {
    let packet_id = packet_id(body)?;
    let properties = properties(version, body, Place::Packet(PacketType::SubAck, Sender::Server))?;
    let codes = body.take(body.rest().len())?;
    if codes.is_empty() {
        return Err(Malformed::protocol("section 3.9.3", "a SUBACK without a code"));
    }
    for &code in codes {
        match (version, code) {
            (Version::V5, _) => _ = reason(code, PacketType::SubAck, Sender::Server, "MQTT-3.9.3-2")?,
            // 3.1 knows no failure.
            (_, 0..=2) | (Version::V311, 0x80) => {}
            _ => return Err(Malformed::packet("MQTT-3.9.3-2", "a reserved SUBACK return code")),
        }
    }
    Ok(SubAck { packet_id, properties, codes })
}

pub(super) fn unsuback<'a>(version: Version, body: &mut Reader<'a>) -> Result<SubAck<'a>, Malformed> {
    let packet_id = packet_id(body)?;
    let place = Place::Packet(PacketType::UnsubAck, Sender::Server);
    let properties = properties(version, body, place)?;
    if version < Version::V5 {
        return Ok(SubAck { packet_id, properties, codes: &[] });
    }
    let codes = body.take(body.rest().len())?;
    if codes.is_empty() {
        return Err(Malformed::protocol("section 3.11.3", "an UNSUBACK without a code"));
    }
    for &code in codes {
        reason(code, PacketType::UnsubAck, Sender::Server, "MQTT-3.11.3-2")?;
    }
    Ok(SubAck { packet_id, properties, codes })
}

fn filter<'a>(version: Version, body: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let filter = body.string()?; // [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    if filter.is_empty() {
        return Err(Malformed::packet("MQTT-4.7.3-1", "a Topic Filter is empty"));
    }
    // The standard has no `$share` before 5.0: an invalid shared subscription is refused in SUBACK.
    let fault = if version == Version::V5 { topic::filter_fault_v5(filter) } else { topic::filter_fault(filter) };
    match fault {
        None => Ok(filter),
        Some(clause) if clause.starts_with("MQTT-4.8.2") => Err(Malformed::with(
            ReasonCode::TOPIC_FILTER_INVALID,
            clause,
            "no ShareName and Topic Filter behind $share/",
        )),
        Some(clause) => Err(Malformed::packet(clause, "a Topic Filter is not well formed")),
    }
}

/// Section 3.8.3.1; before 5.0 only the QoS.
fn options(version: Version, byte: u8) -> Result<SubscriptionOptions, Malformed> {
    if version < Version::V5 {
        if byte > 2 {
            return Err(Malformed::packet("MQTT-3.8.3-5", "the requested QoS is not 0, 1 or 2"));
        }
    } else if byte & 0b1100_0000 != 0 {
        return Err(Malformed::packet("MQTT-3.8.3-5", "reserved subscription options are set"));
    }
    SubscriptionOptions::from_byte(byte)
        .ok_or(Malformed::protocol("section 3.8.3.1", "Maximum QoS or Retain Handling is 3"))
}
