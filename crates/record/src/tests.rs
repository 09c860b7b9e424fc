//! Builder and reader against kafka-protocol's encoder and decoder, against each other, and against damage.

use bytes::{Bytes, BytesMut};
use indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use proptest::prelude::*;

use super::*;
use crate::compression::{Codec, Codecs, Encoder};
use forebay_runtime::seam::WallMs;

/// A row that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    timestamp: i64,
}

fn append(builder: &mut Builder, row: &Owned) {
    let row = Row {
        key: row.key.as_deref(),
        value: row.value.as_deref(),
        headers: row.headers.iter().map(|(k, v)| (&k[..], &v[..])),
        timestamp: WallMs(row.timestamp),
    };
    let tail = row.measure();
    let len = builder.next(row.timestamp.0, tail.len).len;
    let before = builder.len();
    builder.append(&row, tail);
    assert_eq!(builder.len() - before, len, "record_len is exact");
}

fn encoder(codec: Codec) -> Encoder {
    Encoder::new(codec, None, 1 << 16).expect("a codec")
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])
}

const STAMP: Stamp = Stamp { producer_id: 77, epoch: 3, sequence: 40 };

fn build(rows: &[Owned], encoder: Option<&mut Encoder>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    rows.iter().for_each(|row| append(&mut builder, row));
    let mut bytes = builder.close(encoder);
    stamp(&mut bytes, STAMP);
    bytes
}

fn read(batch: &[u8]) -> Result<Vec<Owned>, BatchError> {
    let (view, rest) = BatchView::parse(batch)?;
    assert!(rest.is_empty());
    view.check_crc()?;
    let mut codecs = Codecs::default();
    let body = match view.codec()? {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), 1 << 20).ok_or(BatchError::Compression)?,
    };
    Records::new(body, view.header().records_count, view.header().base_timestamp)
        .map(|record| record.map(own))
        .collect()
}

fn own(record: Record<'_>) -> Owned {
    Owned {
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.map(|(k, v)| (k.to_vec(), v.unwrap_or_default().to_vec())).collect(),
        timestamp: record.timestamp,
    }
}

fn row() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let header = (proptest::collection::vec(any::<u8>(), 0..9), proptest::collection::vec(any::<u8>(), 0..70));
    (
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        proptest::collection::vec(header, 0..5),
        prop_oneof![Just(-1i64), 1_700_000_000_000..1_800_000_000_000i64, any::<i64>()],
    )
        .prop_map(|(key, value, headers, timestamp)| Owned { key, value, headers, timestamp })
}

fn as_theirs(row: &Owned, index: usize) -> theirs::Record {
    let mut headers = IndexMap::new();
    for (key, value) in &row.headers {
        let key = StrBytes::from_string(String::from_utf8(key.clone()).expect("text"));
        headers.insert(key, Some(Bytes::from(value.clone())));
    }
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: STAMP.producer_id,
        producer_epoch: STAMP.epoch,
        timestamp_type: theirs::TimestampType::Creation,
        offset: index as i64,
        sequence: STAMP.sequence + index as i32,
        timestamp: row.timestamp,
        key: row.key.clone().map(Bytes::from),
        value: row.value.clone().map(Bytes::from),
        headers,
    }
}

/// Rows that kafka-protocol can represent: text header keys, without duplicates, and with timestamps that do not
/// decrease.
fn plain_rows(count: usize, seed: u64) -> Vec<Owned> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut timestamp = 1_750_000_000_000;
    let bytes = |rng: &mut fastrand::Rng, max| (0..rng.usize(..max)).map(|_| rng.u8(b'a'..b'e')).collect::<Vec<_>>();
    (0..count)
        .map(|_| {
            timestamp += rng.i64(0..300);
            Owned {
                key: rng.bool().then(|| bytes(&mut rng, 40)),
                value: rng.u8(..8).ne(&0).then(|| bytes(&mut rng, 400)),
                headers: (0..rng.usize(..4)).map(|i| (format!("h{i}").into_bytes(), bytes(&mut rng, 90))).collect(),
                timestamp,
            }
        })
        .collect()
}

#[test]
fn the_same_bytes_as_kafka_protocol_writes() {
    for seed in 0..50 {
        let rows = plain_rows(1 + seed as usize * 4, seed);
        let records: Vec<_> = rows.iter().enumerate().map(|(i, row)| as_theirs(row, i)).collect();
        let mut expected = BytesMut::new();
        let options = theirs::RecordEncodeOptions { version: 2, compression: theirs::Compression::None };
        theirs::RecordBatchEncoder::encode(&mut expected, &records, &options).expect("encodes");
        assert_eq!(build(&rows, None), expected, "seed {seed}");
    }
}

#[test]
fn kafka_protocol_reads_what_we_write() {
    let mut ours = encoder(Codec::Lz4);
    let theirs_lz4 = |bytes: &mut Bytes, compression| match compression {
        theirs::Compression::None => Ok(bytes.clone()),
        theirs::Compression::Lz4 => {
            let plain = Codecs::default().decompress(Codec::Lz4, bytes, 1 << 20).expect("a frame").to_vec();
            Ok(Bytes::from(plain))
        }
        other => anyhow::bail!("{other:?}"),
    };
    for (seed, compress) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let rows = plain_rows(1 + seed as usize * 4, seed);
        let mut bytes = Bytes::from(build(&rows, compress.then_some(&mut ours)));
        let set =
            theirs::RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(theirs_lz4)).expect("decodes");
        let expected: Vec<_> = rows.iter().enumerate().map(|(i, row)| as_theirs(row, i)).collect();
        assert_eq!(set.records, expected, "seed {seed}, lz4 {compress}");
        if compress && rows.len() > 20 {
            assert_eq!(set.compression, theirs::Compression::Lz4);
        }
    }
}

#[test]
fn headers_keep_duplicates_order_and_bytes() {
    let rows = [Owned {
        key: None,
        value: Some(b"v".to_vec()),
        headers: vec![
            (b"a".to_vec(), b"1".to_vec()),
            (b"a".to_vec(), b"2".to_vec()),
            (vec![0xff, 0], vec![0, 0xfe]),
            (b"a".to_vec(), b"1".to_vec()),
            (Vec::new(), Vec::new()),
        ],
        timestamp: 5,
    }];
    assert_eq!(read(&build(&rows, None)).as_deref(), Ok(&rows[..]));
}

#[test]
fn a_tail_moves_into_another_batch() {
    let rows = plain_rows(300, 9);
    let whole = build(&rows, None);
    let (view, _) = BatchView::parse(&whole).expect("a batch");
    let mut second = Builder::new(Vec::new());
    for record in view.records().expect("plain").skip(150) {
        let record = record.expect("a record");
        second.append_tail(record.timestamp, record.tail);
    }
    let mut second = second.close(None);
    stamp(&mut second, STAMP);
    assert_eq!(second, build(&rows[150..], None));
}

#[test]
fn noise_is_not_made_longer_by_compression() {
    let mut rng = fastrand::Rng::with_seed(3);
    let noise =
        Owned { key: None, value: Some((0..3000).map(|_| rng.u8(..)).collect()), headers: Vec::new(), timestamp: 1 };
    let rows = [noise];
    assert_eq!(build(&rows, Some(&mut encoder(Codec::Lz4))), build(&rows, None));
}

#[test]
fn a_count_that_lies_reserves_nothing_and_is_an_error() {
    let mut bytes = build(&plain_rows(3, 1), None);
    bytes[at::COUNT..at::COUNT + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    stamp(&mut bytes, STAMP);
    assert_eq!(read(&bytes), Err(BatchError::Record));
    bytes[at::COUNT..at::COUNT + 4].copy_from_slice(&2i32.to_be_bytes());
    stamp(&mut bytes, STAMP);
    assert_eq!(read(&bytes), Err(BatchError::Record), "bytes behind the last record");
    bytes[at::COUNT..at::COUNT + 4].copy_from_slice(&(-5i32).to_be_bytes());
    stamp(&mut bytes, STAMP);
    assert_eq!(read(&bytes), Err(BatchError::Record));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn round_trip(rows in proptest::collection::vec(row(), 1..40), compress: bool, codec in codec()) {
        let mut encoder = encoder(codec);
        let bytes = build(&rows, compress.then_some(&mut encoder));
        prop_assert_eq!(read(&bytes), Ok(rows.clone()));
        let (view, _) = BatchView::parse(&bytes).unwrap();
        prop_assert_eq!(view.header().records_count, rows.len() as i32);
        prop_assert_eq!(view.header().last_offset_delta, rows.len() as i32 - 1);
        prop_assert_eq!(view.header().base_timestamp, rows[0].timestamp);
        prop_assert_eq!(view.header().max_timestamp, rows.iter().map(|r| r.timestamp).max().unwrap().max(-1));
        prop_assert_eq!((view.header().producer_id, view.header().producer_epoch, view.header().base_sequence), (77, 3, 40));
        prop_assert_eq!((view.header().base_offset, view.header().leader_epoch), (0, -1));
    }

    /// The checksum detects damage; if the checksum is made to match, the reader may return anything but must not
    /// panic.
    #[test]
    fn damage_never_panics(
        rows in proptest::collection::vec(row(), 1..10),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..6),
        cut in any::<prop::sample::Index>(),
        compress: bool,
        codec in codec(),
    ) {
        let mut encoder = encoder(codec);
        let whole = build(&rows, compress.then_some(&mut encoder));
        prop_assert!(BatchView::parse(&whole[..cut.index(whole.len())]).is_err());
        let mut bytes = whole.clone();
        for (at, flip) in hits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let _ = BatchView::parse(&bytes).map(|(view, _)| {
            let changed = whole.len() != view.as_bytes().len() || whole[at::CRC..] != view.as_bytes()[at::CRC..];
            assert_eq!(view.check_crc().is_err(), changed);
            walk(&view);
        });
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), count: i32) {
        Records::new(&bytes, count, 0).for_each(|record| { let _ = record.map(own); });
        let mut framed = bytes;
        if framed.len() > HEADER_LEN {
            framed[at::MAGIC] = 2;
            let length = framed.len() as i32 - 12;
            framed[at::BATCH_LENGTH..at::BATCH_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
            walk(&BatchView::parse(&framed).unwrap().0);
        }
    }
}

fn walk(view: &BatchView<'_>) {
    let mut codecs = Codecs::default();
    let body = match view.codec() {
        Ok(Codec::None) | Err(_) => view.body(),
        Ok(codec) => codecs.decompress(codec, view.body(), 1 << 20).unwrap_or_default(),
    };
    for record in Records::new(body, view.header().records_count, view.header().base_timestamp) {
        let _ = record.map(own);
    }
}
