//! Receipts: the places in Kafka that answers report for a message, and whether the message is there.

use crate::kafka::{Row, State};
use crate::plan::Level;
use crate::world::World;

/// A reported place of a sink's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) topic: String,
    pub(crate) partition: usize,
    pub(crate) offset: Option<i64>,
}

/// The receipts of a PUBACK or PUBREC, from its reason code on.
///
/// # Errors
/// The error in the properties.
pub(crate) fn parse(rest: &[u8]) -> Result<Vec<Receipt>, String> {
    let mut found: Vec<Receipt> = Vec::new();
    let Some((length, mut rest)) = rest.get(1..).filter(|rest| !rest.is_empty()).and_then(length) else {
        return Ok(found);
    };
    if rest.len() != length {
        return Err(format!("{} bytes behind properties of {length}", rest.len()));
    }
    while let [kind, more @ ..] = rest {
        let short = || format!("properties end early: {rest:?}");
        let (first, more) = text(more).ok_or_else(short)?;
        match kind {
            // Reason String.
            0x1f => rest = more,
            0x26 => {
                let (value, more) = text(more).ok_or_else(short)?;
                match (first, found.last_mut()) {
                    ("kafka-topic", _) => found.push(Receipt { topic: value.to_owned(), ..Receipt::default() }),
                    ("kafka-partition", Some(last)) => last.partition = value.parse().map_err(|_| short())?,
                    ("kafka-offset", Some(last)) => last.offset = Some(value.parse().map_err(|_| short())?),
                    other => return Err(format!("user property {other:?}")),
                }
                rest = more;
            }
            other => return Err(format!("property {other:#x}")),
        }
    }
    Ok(found)
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low, rest @ ..] if *low < 128 => Some((usize::from(*low), rest)),
        [low, high, rest @ ..] => Some((usize::from(low & 127) | usize::from(*high) << 7, rest)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

impl World {
    /// Whether a receipt names a place where the row of a sink is or was.
    fn is_there(&self, number: u32, sink: usize, receipt: &Receipt) -> bool {
        let mut copies = self.clusters[self.settings.sinks[sink].cluster].copies(number, sink as u8);
        copies.any(|entry| {
            let is_there = |(offset, row): (i64, &Row)| {
                (row.message, usize::from(row.sink)) == (number, sink)
                    && receipt.offset.is_none_or(|named| named == offset)
            };
            (entry.place.0.as_str(), entry.place.2) == (receipt.topic.as_str(), receipt.partition)
                && (entry.base_offset..).zip(&entry.rows).any(is_there)
        })
    }

    /// Checks receipts: each names a place where the message is or was, in the order of the sinks. A message that was
    /// sent once, and went to Kafka before it was answered, has one receipt of each sink.
    pub(crate) fn judge_receipts(&mut self, number: u32, success: bool, receipts: &[Receipt]) {
        let message = &self.messages[number as usize];
        let device = &self.devices[message.device];
        let asked = device.is_v5() && device.has_receipts;
        if receipts.is_empty() && !asked {
            return;
        }
        if self.settings.broker.is_some() {
            return self.judge_route_receipts(number, receipts);
        }
        let takes = |sink: &usize| self.settings.takes(*sink, &message.topic);
        let sinks: Vec<usize> = (0..self.settings.sinks.len()).filter(takes).collect();
        let mut rest = sinks.iter();
        let mut wrong = if asked { None } else { Some("nobody asked") };
        for receipt in receipts {
            self.judge.receipts[usize::from(receipt.offset.is_none())] += 1;
            // Two sinks may have the same topic: the receipt belongs to the next sink with its row there.
            if !rest.any(|sink| self.is_there(number, *sink, receipt)) {
                wrong = Some("it is not there, or is not in the order of the sinks");
                break;
            }
        }
        let in_kafka = |sink: &usize| {
            let plan = &self.settings.sinks[*sink];
            matches!(plan.level, Level::Leader | Level::Replicated) && plan.expire_ms.is_none()
        };
        let dead = |sink: &usize| self.is_dead_lettered(number, *sink as u8);
        // A dropped row has no place, and the sender need not wait for it.
        let all = asked && success && message.qos == 1 && message.sends == 1 && !self.may_drop();
        if all && sinks.iter().all(in_kafka) && !sinks.iter().any(dead) && receipts.len() != sinks.len() {
            wrong = Some("not one of each sink");
        }
        if let Some(wrong) = wrong {
            let places = sinks.iter().flat_map(|sink| {
                let copies = self.clusters[self.settings.sinks[*sink].cluster].copies(number, *sink as u8);
                copies.filter(|entry| entry.state != State::Lost).map(|entry| (entry.place.clone(), entry.base_offset))
            });
            let text = format!("message {number}: {wrong}: {receipts:?}, of {:?}", places.collect::<Vec<_>>());
            self.judge.fails("receipt", text);
        }
    }
}
