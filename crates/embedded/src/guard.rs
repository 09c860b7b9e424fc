//! Walks a request before kafka-protocol decodes it, so that no count from the wire is trusted.
//!
//! The generated decoders reserve a vector for whatever count an array states: a request of ten bytes may ask for
//! hundreds of gigabytes. This walk follows the same schema over the same bytes and lets a request through only if each
//! array's elements are really there and all of them together are at most [`ELEMENTS_MAX`].

/// The most array elements and tagged fields in one request, all arrays together: ten times those of a client that has
/// every partition of a full log.
pub(crate) const ELEMENTS_MAX: usize = 200_000;

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A fixed number of bytes: integers, booleans, UUIDs.
    Fixed(usize),
    /// A string, nullable or not.
    Text,
    /// A byte string with a 32-bit length, nullable or not.
    Blob,
    /// An array of values with a fixed number of bytes each.
    Scalars(usize),
    /// An array of strings.
    Texts,
    /// An array of structs.
    Structs(&'static [Field]),
}

/// A field and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

pub(super) const fn field(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

pub(super) const fn since(from: i16, kind: Kind) -> Field {
    Field { from, to: i16::MAX, kind }
}

pub(super) const fn until(to: i16, kind: Kind) -> Field {
    Field { from: 0, to, kind }
}

pub(super) const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

/// A request's schema, from Kafka's `common/message/*Request.json`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// First version with compact lengths and tagged fields (KIP-482).
    pub(crate) flexible_from: i16,
    /// Tags that the decoder interprets are those below this number. They are meant for followers and voters, which
    /// never connect here; refusing them keeps this walk and the decoder on the same bytes.
    known_tags: u32,
    /// Whether bytes after the last field are accepted, as Kafka does.
    loose_end: bool,
    fields: &'static [Field],
}

impl Shape {
    /// A schema in which the decoder interprets no tag.
    pub(super) const fn untagged(flexible_from: i16, fields: &'static [Field]) -> Shape {
        Shape { flexible_from, known_tags: 0, loose_end: false, fields }
    }
}

use Kind::{Blob, Fixed, Scalars, Structs, Text, Texts};

/// Produce (0).
pub(crate) const PRODUCE: Shape = Shape {
    flexible_from: 9,
    known_tags: 0,
    loose_end: false,
    fields: &[
        field(Text),     // transactional_id
        field(Fixed(2)), // acks
        field(Fixed(4)), // timeout_ms
        field(Structs(&[
            until(12, Text),                                 // name
            since(13, Fixed(16)),                            // topic_id
            field(Structs(&[field(Fixed(4)), field(Blob)])), // index, records
        ])),
    ],
};

/// Fetch (1).
pub(crate) const FETCH: Shape = Shape {
    flexible_from: 12,
    known_tags: 2,
    loose_end: false,
    fields: &[
        until(14, Fixed(4)), // replica_id
        field(Fixed(4)),     // max_wait_ms
        field(Fixed(4)),     // min_bytes
        field(Fixed(4)),     // max_bytes
        field(Fixed(1)),     // isolation_level
        since(7, Fixed(4)),  // session_id
        since(7, Fixed(4)),  // session_epoch
        field(Structs(&[
            until(12, Text),      // topic
            since(13, Fixed(16)), // topic_id
            field(Structs(&[
                field(Fixed(4)),     // partition
                since(9, Fixed(4)),  // current_leader_epoch
                field(Fixed(8)),     // fetch_offset
                since(12, Fixed(4)), // last_fetched_epoch
                since(5, Fixed(8)),  // log_start_offset
                field(Fixed(4)),     // partition_max_bytes
            ])),
        ])),
        // forgotten_topics_data
        since(7, Structs(&[until(12, Text), since(13, Fixed(16)), field(Scalars(4))])),
        since(11, Text), // rack_id
    ],
};

/// ListOffsets (2).
pub(crate) const LIST_OFFSETS: Shape = Shape {
    flexible_from: 6,
    known_tags: 0,
    loose_end: false,
    fields: &[
        field(Fixed(4)),    // replica_id
        since(2, Fixed(1)), // isolation_level
        field(Structs(&[
            field(Text), // name
            // partition_index, current_leader_epoch, timestamp
            field(Structs(&[field(Fixed(4)), since(4, Fixed(4)), field(Fixed(8))])),
        ])),
        since(10, Fixed(4)), // timeout_ms
    ],
};

/// Metadata (3).
pub(crate) const METADATA: Shape = Shape {
    flexible_from: 9,
    known_tags: 0,
    // librdkafka 2.16 writes "all topics" as four bytes instead of one; read in order, they have the intended meaning.
    loose_end: true,
    fields: &[
        field(Structs(&[since(10, Fixed(16)), field(Text)])), // topic_id, name
        since(4, Fixed(1)),                                   // allow_auto_topic_creation
        between(8, 10, Fixed(1)),                             // include_cluster_authorized_operations
        since(8, Fixed(1)),                                   // include_topic_authorized_operations
    ],
};

/// FindCoordinator (10).
pub(crate) const FIND_COORDINATOR: Shape = Shape {
    flexible_from: 3,
    known_tags: 0,
    loose_end: false,
    fields: &[until(3, Text), since(1, Fixed(1)), since(4, Texts)],
};

/// ApiVersions (18).
pub(crate) const API_VERSIONS: Shape =
    Shape { flexible_from: 3, known_tags: 0, loose_end: false, fields: &[since(3, Text), since(3, Text)] };

/// CreateTopics (19).
pub(crate) const CREATE_TOPICS: Shape = Shape {
    flexible_from: 5,
    known_tags: 0,
    loose_end: false,
    fields: &[
        field(Structs(&[
            field(Text),                                           // name
            field(Fixed(4)),                                       // num_partitions
            field(Fixed(2)),                                       // replication_factor
            field(Structs(&[field(Fixed(4)), field(Scalars(4))])), // assignments
            field(Structs(&[field(Text), field(Text)])),           // configs
        ])),
        field(Fixed(4)), // timeout_ms
        field(Fixed(1)), // validate_only
    ],
};

/// InitProducerId (22).
pub(crate) const INIT_PRODUCER_ID: Shape = Shape {
    flexible_from: 2,
    known_tags: 0,
    loose_end: false,
    fields: &[
        field(Text),        // transactional_id
        field(Fixed(4)),    // transaction_timeout_ms
        since(3, Fixed(8)), // producer_id
        since(3, Fixed(2)), // producer_epoch
    ],
};

/// A request with bytes that do not follow its schema. The connection is closed: nothing after the request can be
/// trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(
    /// The reason.
    pub &'static str,
);

/// The fixed part before every request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The request's API key.
    pub(crate) api_key: i16,
    /// The request's version.
    pub(crate) version: i16,
    /// Correlation id, which the answer repeats.
    pub(crate) correlation_id: i32,
}

/// Bytes of [`Head`].
pub(crate) const HEAD_BYTES: usize = 8;

impl Head {
    /// Reads the head, which is the same in all versions.
    pub(crate) fn read(frame: &[u8]) -> Result<Head, Malformed> {
        let mut walk = Walk { rest: frame, version: 0, flexible: false, known_tags: 0, elements: 0 };
        let (api_key, version) = (walk.i16()?, walk.i16()?);
        Ok(Head { api_key, version, correlation_id: walk.i32()? })
    }
}

/// The client's id, from a frame that [`check`] let through.
pub(crate) fn client_id(frame: &[u8]) -> &str {
    let text = frame.get(HEAD_BYTES..).and_then(|rest| {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        rest.get(..usize::try_from(i16::from_be_bytes(*length)).ok()?)
    });
    text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// Checks header and body of a request; returns where the body begins.
pub(crate) fn check(frame: &[u8], shape: &Shape, version: i16) -> Result<usize, Malformed> {
    let (body, left) = walk(frame, shape, version)?;
    if left == 0 || shape.loose_end { Ok(body) } else { Err(Malformed("bytes after the end of the request")) }
}

/// Walks header and body of a request; returns where the body begins, and how many bytes follow its end.
pub(crate) fn walk(frame: &[u8], shape: &Shape, version: i16) -> Result<(usize, usize), Malformed> {
    let rest = frame.get(HEAD_BYTES..).ok_or(Malformed("no whole header"))?;
    let flexible = version >= shape.flexible_from;
    // The client id is never compact, its tagged fields exist in the flexible versions; no tag of the header is known.
    let mut walk = Walk { rest, version, flexible: false, known_tags: 0, elements: 0 };
    walk.value(&Text)?;
    walk.flexible = flexible;
    walk.tags()?;
    let body = frame.len() - walk.rest.len();
    walk.known_tags = shape.known_tags;
    walk.fields(shape.fields)?;
    Ok((body, walk.rest.len()))
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    known_tags: u32,
    elements: usize,
}

impl Walk<'_> {
    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(count..).ok_or(Malformed("it ends within a field"))?;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("it ends within a field"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Reads a varint as kafka-protocol does: at most five bytes, excess bits are dropped.
    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// Reads a length or count; `None` is null.
    fn count(&mut self, narrow: bool) -> Result<Option<usize>, Malformed> {
        let count = match (self.flexible, narrow) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        match count {
            -1 => Ok(None),
            count => usize::try_from(count).map(Some).map_err(|_| Malformed("a negative length")),
        }
    }

    fn elements(&mut self) -> Result<usize, Malformed> {
        let count = self.count(false)?.unwrap_or(0);
        self.spend(count)?;
        Ok(count)
    }

    /// Accounts for `count` elements. Every element takes at least a byte, so a count beyond the bytes left is wrong.
    fn spend(&mut self, count: usize) -> Result<(), Malformed> {
        self.elements = self.elements.saturating_add(count);
        if count > self.rest.len() || self.elements > ELEMENTS_MAX {
            return Err(Malformed("an array longer than the request can hold, or than is taken"));
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match *kind {
            Fixed(count) => self.skip(count),
            Text => self.count(true)?.map_or(Ok(()), |count| self.skip(count)),
            Blob => self.count(false)?.map_or(Ok(()), |count| self.skip(count)),
            Scalars(size) => {
                let count = self.elements()?;
                self.skip(count * size)
            }
            Texts => (0..self.elements()?).try_for_each(|_| self.value(&Text)),
            Structs(fields) => (0..self.elements()?).try_for_each(|_| self.fields(fields)),
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.value(&field.kind)?;
            }
        }
        self.tags()
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()? as usize;
        self.spend(count)?;
        for _ in 0..count {
            if self.varint()? < self.known_tags {
                return Err(Malformed("a tagged field that only brokers send"));
            }
            let size = self.varint()? as usize;
            self.skip(size)?;
        }
        Ok(())
    }
}
