//! The pieces of the hot path, each set up once and called as often as is asked.

use forebay::mqtt::packet::{PacketType, Version};
use forebay::mqtt::property::Properties;
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, encode, frame};
use forebay::record::{Builder, Row, Stamp, stamp};
use forebay::route::SinkRouter;
use forebay::rule::template::{MessageContext, Template};
use forebay::runtime::seam::WallMs;
use std::hint::black_box;

/// Calls a piece so many times.
pub(crate) type Work = Box<dyn FnMut(u64)>;

/// Names of all pieces. Units: a call is one packet, message, row or letter.
pub(crate) const NAMES: [&str; 7] =
    ["decode_publish", "encode_puback", "route", "template", "batch_append", "batch_close", "mailbox_send"];

const TOPIC: &str = "dev/17/telemetry";
const PAYLOAD: [u8; 100] = [b'x'; 100];

/// One of [`NAMES`].
pub(crate) fn case(name: &str) -> Option<Work> {
    Some(match name {
        "decode_publish" => decode_publish(),
        "encode_puback" => encode_puback(),
        "route" => route(),
        "template" => template(),
        "batch_append" => batch_append(),
        "batch_close" => batch_close(),
        "mailbox_send" => mailbox_send(),
        _ => return None,
    })
}

/// Cuts and decodes a QoS 1 PUBLISH of 3.1.1.
fn decode_publish() -> Work {
    let mut bytes = vec![0x32, 0, 0, TOPIC.len() as u8];
    bytes.extend_from_slice(TOPIC.as_bytes());
    bytes.extend_from_slice(&[0, 7]);
    bytes.extend_from_slice(&PAYLOAD);
    bytes[1] = (bytes.len() - 2) as u8;
    Box::new(move |count| {
        for _ in 0..count {
            let frame = frame::next(black_box(&bytes), 1 << 20).unwrap().unwrap();
            black_box(decode::publish(Version::V311, frame.first, frame.body).unwrap());
        }
    })
}

/// Appends a PUBACK of 3.1.1.
fn encode_puback() -> Work {
    let mut out = Vec::with_capacity(4 << 10);
    Box::new(move |count| {
        for id in 0..count {
            if out.len() > 4_000 {
                out.clear();
            }
            encode::ack(Version::V311, PacketType::PubAck, black_box(id as u16), ReasonCode::SUCCESS, &mut out);
        }
    })
}

/// Finds the sinks of a topic among 100 filters.
fn route() -> Work {
    let filters =
        |sink: u16| (0..25).map(move |n| format!("dev/+/kind-{sink}-{n}")).chain(["dev/+/telemetry".to_owned()]);
    let sinks: Vec<(Vec<String>, u16)> = (0..4).map(|sink| (filters(sink).collect(), sink)).collect();
    let router = SinkRouter::build(&sinks).unwrap();
    let mut found = smallvec::SmallVec::new();
    Box::new(move |count| {
        for _ in 0..count {
            router.matches(black_box(TOPIC), &mut found);
            assert_eq!(found.len(), 4);
        }
    })
}

/// Renders a key of three parts.
fn template() -> Work {
    let template = Template::parse("${clientid}/${topic}-${qos}").unwrap();
    let mut out = Vec::with_capacity(256);
    Box::new(move |count| {
        let message = MessageContext {
            topic: TOPIC,
            client_id: "device-17",
            username: None,
            qos: 1,
            retain: false,
            dup: false,
            packet_id: 7,
            payload: &PAYLOAD,
            timestamp_ms: 1_795_000_000_000,
            properties: Properties::EMPTY,
            hops: 0,
            copy_of: None,
            output: None,
        };
        for _ in 0..count {
            out.clear();
            template.render(black_box(&message), &mut out).unwrap();
        }
    })
}

fn row() -> Row<'static, std::iter::Empty<(&'static [u8], &'static [u8])>> {
    Row {
        key: Some(TOPIC.as_bytes()),
        value: Some(&PAYLOAD),
        headers: std::iter::empty(),
        timestamp: WallMs(1_795_000_000_000),
    }
}

/// Measures a row and appends it to a batch; a new batch in the same buffer every thousand.
fn batch_append() -> Work {
    let mut builder = Builder::new(Vec::with_capacity(256 << 10));
    Box::new(move |count| {
        for _ in 0..count {
            if builder.count() == 1_000 {
                builder = Builder::new(std::mem::take(&mut builder).into_buffer());
            }
            let row = black_box(row());
            let tail = row.measure();
            builder.append(&row, tail);
        }
    })
}

/// Closes and stamps a batch of a thousand rows (CRC over about 125 KiB); a call is one row of it.
fn batch_close() -> Work {
    let mut builder = Builder::new(Vec::with_capacity(256 << 10));
    let row = row();
    let tail = row.measure();
    (0..1_000).for_each(|_| builder.append(&row, tail));
    let mut bytes = builder.close(None);
    Box::new(move |count| {
        for sequence in 0..count / 1_000 {
            stamp(black_box(&mut bytes), Stamp { producer_id: 1, epoch: 0, sequence: sequence as i32 });
        }
    })
}

/// Puts letters into another shard's mailbox, which is awake.
fn mailbox_send() -> Work {
    const CAPACITY: u64 = 1 << 20;
    let (mut post, mut receivers) = forebay::runtime::mailboxes::<u64>(1, CAPACITY as usize).unwrap();
    let mut free = CAPACITY;
    Box::new(move |count| {
        for letter in 0..count {
            if free == 0 {
                // Nobody outside the runtime may take letters: a full mailbox is replaced.
                (post, receivers) = forebay::runtime::mailboxes(1, CAPACITY as usize).unwrap();
                free = CAPACITY;
            }
            post.send(0, black_box(letter)).unwrap();
            free -= 1;
        }
        black_box(&receivers);
    })
}
