//! Packets that are built once and patched for each message, and the little of MQTT that a generator reads.

use crate::flow::payload::{self, Header, Seed};
use crate::flow::wire;

use super::scenario::{Contents, Group};

/// A whole PUBLISH of one client, in the form with a packet id and in that without.
#[derive(Debug)]
pub(crate) struct Template {
    qos0: Form,
    acknowledged: Form,
    seeds: Option<[Seed; 3]>,
}

#[derive(Debug, Default)]
struct Form {
    bytes: Box<[u8]>,
    packet_id_at: usize,
    payload_at: usize,
}

impl Template {
    pub(crate) fn new(group: &Group, run: u32, client: u32) -> Self {
        let topic = group.topic_of(client);
        let numbered = group.contents == Contents::Numbered;
        let seeds = numbered.then(|| [0, 1, 2].map(|qos| Seed::new(run, client, qos, group.payload)));
        Self {
            qos0: Form::new(group, run, client, &topic, 0),
            acknowledged: Form::new(group, run, client, &topic, 1),
            seeds,
        }
    }

    /// Appends message `number`.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>, qos: u8, packet_id: u16, number: u64, sent_ns: u64) {
        let form = if qos == 0 { &self.qos0 } else { &self.acknowledged };
        let at = out.len();
        out.extend_from_slice(&form.bytes);
        let message = &mut out[at..];
        if qos > 0 {
            message[0] = message[0] & !0x06 | qos << 1;
            message[form.packet_id_at..form.packet_id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(seeds) = &self.seeds {
            let payload = &mut message[form.payload_at..];
            payload[12] = qos;
            payload::stamp(payload, seeds[usize::from(qos)], number, sent_ns);
        }
    }
}

impl Form {
    fn new(group: &Group, run: u32, client: u32, topic: &str, qos: u8) -> Self {
        let mut bytes = Vec::new();
        let v5 = group.version == 5;
        wire::publish(&mut bytes, v5, false, qos, topic, 0, group.payload);
        if group.retain {
            bytes[0] |= 1;
        }
        let payload_at = bytes.len();
        let packet_id_at = payload_at.saturating_sub(2 + usize::from(v5));
        fill(&mut bytes, group, run, client, qos);
        Self { bytes: bytes.into(), packet_id_at, payload_at }
    }
}

fn fill(out: &mut Vec<u8>, group: &Group, run: u32, client: u32, qos: u8) {
    let end = out.len() + group.payload;
    match group.contents {
        Contents::Numbered => {
            payload::write(out, &Header { run, client, qos, number: 0, sent_ns: 0 }, group.payload);
        }
        Contents::Zeros => {}
        Contents::Random => {
            let mut word = u64::from(client);
            while out.len() < end {
                word = crate::flow::plan::mix(word);
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        Contents::Json => {
            let text = format!(r#"{{"device":"{client}","temperature":21.5,"humidity":48,"status":"ok","note":""#);
            out.extend_from_slice(text.as_bytes());
            out.resize(end.saturating_sub(2).max(out.len()), b'x');
            out.extend_from_slice(b"\"}");
        }
    }
    out.resize(end, 0);
}

/// Appends CONNECT.
pub(crate) fn connect(out: &mut Vec<u8>, group: &Group, client_id: &str) {
    let Group { username, password, .. } = group;
    if username.is_none() && password.is_none() {
        return wire::connect(out, group.version == 5, client_id, !group.clean, true, group.keep_alive);
    }
    let mut plain = Vec::new();
    wire::connect(&mut plain, group.version == 5, client_id, !group.clean, true, group.keep_alive);
    let Ok(Some((_, used))) = wire::read_variable(&plain[1..]) else { return };
    let mut body = plain.split_off(1 + used);
    // Connect flags are after the protocol's name and level.
    body[7] |= u8::from(username.is_some()) << 7 | u8::from(password.is_some()) << 6;
    for field in [username, password].into_iter().flatten() {
        body.extend_from_slice(&(field.len() as u16).to_be_bytes());
        body.extend_from_slice(field.as_bytes());
    }
    out.push(0x10);
    wire::variable(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends SUBSCRIBE to one filter.
pub(crate) fn subscribe(out: &mut Vec<u8>, v5: bool, filter: &str, qos: u8) {
    out.push(0x82);
    wire::variable(out, 2 + usize::from(v5) + 2 + filter.len() + 1);
    out.extend_from_slice(&[0, 1]);
    if v5 {
        out.push(0);
    }
    out.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    out.extend_from_slice(filter.as_bytes());
    out.push(qos);
}

/// First byte, body and whole length of the first packet; `None`: the packet is not whole.
///
/// # Errors
/// A length of more than four bytes.
#[inline]
pub(crate) fn next(bytes: &[u8]) -> anyhow::Result<Option<(u8, &[u8], usize)>> {
    if let [first, length @ 0..=127, rest @ ..] = bytes {
        let length = usize::from(*length);
        return Ok(rest.get(..length).map(|body| (*first, body, 2 + length)));
    }
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = wire::read_variable(rest)? else { return Ok(None) };
    Ok(rest.get(used..used + length).map(|body| (first, body, 1 + used + length)))
}

/// Packet id (0: none) and payload of a PUBLISH; `None`: malformed.
#[inline]
pub(crate) fn delivered(first: u8, body: &[u8], v5: bool) -> Option<(u16, &[u8])> {
    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let mut at = 2 + topic;
    let mut packet_id = 0;
    if first & 0x06 != 0 {
        packet_id = u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]);
        at += 2;
    }
    if v5 {
        let (length, used) = wire::read_variable(body.get(at..)?).ok()??;
        at += used + length;
    }
    Some((packet_id, body.get(at..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_patched_is_what_would_have_been_built() {
        for (version, retain) in [(4, false), (5, true)] {
            let group = Group { version, retain, topic: "a/{client}".into(), payload: 61, ..Group::default() };
            let template = Template::new(&group, 9, 3);
            for qos in 0..3 {
                let mut out = vec![0xff; 5];
                template.put(&mut out, qos, 0x1234, 77, 5_000);
                let (first, body, length) = next(&out[5..]).unwrap().unwrap();
                assert_eq!((first, length), (0x30 | qos << 1 | u8::from(retain), out.len() - 5));
                let (packet_id, bytes) = delivered(first, body, version == 5).unwrap();
                assert_eq!(packet_id, if qos == 0 { 0 } else { 0x1234 });
                let header = Header { run: 9, client: 3, qos, number: 77, sent_ns: 5_000 };
                assert_eq!(payload::read(bytes, 9, 61, &mut Vec::new()), Ok(header));
            }
        }
    }

    #[test]
    fn a_name_and_a_password_go_into_connect() {
        let group = Group { username: Some("u".into()), password: Some("pw".into()), ..Group::default() };
        let mut out = Vec::new();
        connect(&mut out, &group, "c");
        assert_eq!(out[1] as usize, out.len() - 2);
        assert_eq!(out[9], 0b1100_0010);
        assert!(out.ends_with(&[0, 1, b'c', 0, 1, b'u', 0, 2, b'p', b'w']));
    }

    #[test]
    fn packets_are_cut_whole() {
        let long = [&[0x30, 0x82, 1][..], &[7; 130]].concat();
        assert_eq!(next(&long).unwrap(), Some((0x30, &[7; 130][..], 133)));
        assert!((0..133).all(|cut| next(&long[..cut]).unwrap().is_none()));
        assert!(next(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
