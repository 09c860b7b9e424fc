//! The payload of SUBSCRIBE and UNSUBSCRIBE: a list of topic filters in wire form, and its builder.

use super::packet::{Filters, QoS, SubscriptionOptions};
use super::wire::{self, Reader};
use std::fmt;

impl<'a> Filters<'a> {
    /// The filters in the order sent; in an UNSUBSCRIBE the options are zero.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter { reader: Reader::new(self.bytes), with_options: self.with_options }
    }

    /// The number of filters, and so of codes in the answer [MQTT-3.8.4-6]. Walks the list.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }
}

impl<'a> IntoIterator for &Filters<'a> {
    type Item = (&'a str, SubscriptionOptions);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Walks [`Filters`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    reader: Reader<'a>,
    with_options: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, SubscriptionOptions);

    fn next(&mut self) -> Option<Self::Item> {
        // The bytes have been checked, so reading fails only at the end.
        let filter = self.reader.string().ok()?;
        let options = if self.with_options { self.reader.u8().ok()? } else { 0 };
        Some((filter, SubscriptionOptions::from_byte(options)?))
    }
}

impl SubscriptionOptions {
    /// The options of the byte of section 3.8.3.1; its two highest bits are ignored. `None` if Maximum QoS or Retain Handling is 3.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        let retain_handling = byte >> 4 & 0b11;
        let Some(qos) = QoS::from_bits(byte & 0b11) else { return None };
        if retain_handling == 3 {
            return None;
        }
        Some(Self { qos, no_local: byte & 0b100 != 0, retain_as_published: byte & 0b1000 != 0, retain_handling })
    }

    /// The byte of section 3.8.3.1.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling & 0b11) << 4
    }
}

/// Filters being built, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterBuf {
    bytes: Vec<u8>,
    with_options: bool,
}

impl FilterBuf {
    /// An empty list for a SUBSCRIBE.
    #[must_use]
    pub const fn for_subscribe() -> Self {
        Self { bytes: Vec::new(), with_options: true }
    }

    /// An empty list for an UNSUBSCRIBE, without options.
    #[must_use]
    pub const fn for_unsubscribe() -> Self {
        Self { bytes: Vec::new(), with_options: false }
    }

    /// Appends a filter. `false`, and left out, if it is longer than 65 535 bytes. [`super::topic::valid_filter`] checks the
    /// syntax.
    pub fn push(&mut self, filter: &str, options: SubscriptionOptions) -> bool {
        let said = wire::put_binary(filter.as_bytes(), &mut self.bytes);
        if said && self.with_options {
            self.bytes.push(options.to_byte());
        }
        said
    }

    /// Bytes of the filters pushed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The filters pushed so far.
    #[must_use]
    pub fn as_filters(&self) -> Filters<'_> {
        Filters { bytes: &self.bytes, with_options: self.with_options }
    }
}
