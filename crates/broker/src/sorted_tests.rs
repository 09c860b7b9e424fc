//! Tests of each kind of record: whole, damaged, cut off, of an unknown kind.

use super::*;
use crate::queues::ForShare;

/// A PUBLISH of 5.0 at QoS 1 on `t`, with RETAIN.
const PUBLISH: [u8; 9] = [0x33, 7, 0, 1, b't', 0, 1, 0, b'x'];

fn session(client_id: &str, expiry_s: u32) -> Vec<u8> {
    let mut connect = vec![0x10, 12 + client_id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0];
    connect.push(client_id.len() as u8);
    let head = [&[1][..], &expiry_s.to_be_bytes(), &[0; 4]].concat();
    [&head[..], &connect, client_id.as_bytes()].concat()
}

fn retained() -> Vec<u8> {
    [&[0x80][..], &[0; 16], &PUBLISH].concat()
}

fn message(to: &[(u64, u64)]) -> Vec<u8> {
    let to: Vec<u8> = to.iter().flat_map(|of| [&of.0.to_be_bytes()[..], &of.1.to_be_bytes(), &[1]].concat()).collect();
    [&[0x81][..], &[0; 16], &(to.len() as u32 / 17).to_be_bytes(), &to, &PUBLISH].concat()
}

/// A queue in which all copies below this one are over.
fn queue(session: u64, first: u64) -> Vec<u8> {
    [&[0x82][..], &session.to_be_bytes(), &(first + 5).to_be_bytes(), &first.to_be_bytes(), &[0; 4]].concat()
}

fn exchange(session: u64) -> Vec<u8> {
    [&[0x83, 0, 0][..], &session.to_be_bytes(), &[0, 7]].concat()
}

/// A session, and one record of each kind that belongs to it or to no session.
fn records() -> Vec<Vec<u8>> {
    let share = ForShare::example("$share/g/t", None);
    vec![session("client", 9), retained(), message(&[(0, 3)]), queue(0, 2), share, exchange(0)]
}

const KINDS: [RecordKind; 6] = [
    RecordKind::Session,
    RecordKind::Retained,
    RecordKind::Queued,
    RecordKind::Queue,
    RecordKind::Shared,
    RecordKind::Exchange,
];

fn sorted(records: &[Vec<u8>]) -> Sorted {
    let mut sorter = Sorter::default();
    for (number, payload) in (0..).zip(records) {
        sorter.add(number, Ok(payload), Some((1, number * 8)));
    }
    sorter.sorted(false)
}

fn lost(sorted: &Sorted) -> Vec<(u64, RecordKind, u64)> {
    sorted.unread.iter().map(|one| (one.number, one.kind, one.count)).collect()
}

#[test]
fn whole_records_are_taken_up() {
    let sorted = sorted(&records());
    assert!(KINDS.iter().all(|kind| sorted.kept.of(*kind) == 1), "{}", sorted.kept);
    assert!(sorted.unread.is_empty() && sorted.ends().next().is_none());
}

/// Findings D1, L4 and L7: a malformed record of any kind is lost, counted as its kind, and stops no other.
#[test]
fn finding_l4_each_kind_of_record_cut_off_or_damaged_is_lost_alone() {
    for (at, kind) in KINDS.into_iter().enumerate() {
        let whole = records()[at].clone();
        for len in 0..whole.len() {
            let mut records = records();
            records[at].truncate(len);
            let sorted = sorted(&records);
            let kind = if len == 0 { RecordKind::Unknown } else { kind };
            let own = sorted.unread.iter().find(|one| one.number == at as u64);
            assert!(own.is_some_and(|one| one.kind == kind && one.place == Some((1, 8 * at as u64))), "{kind:?} {len}");
            // Messages that wait for a lost session are lost with it.
            let others = if at == 0 { vec![(2, RecordKind::Queued, 1)] } else { vec![] };
            let rest: Vec<_> = lost(&sorted).into_iter().filter(|one| one.0 != at as u64).collect();
            assert_eq!(rest, others, "{kind:?} cut at {len}");
            assert!(!sorted.takes_up(at as u64) && sorted.ends().any(|end| end == (at as u64, true)));
        }
        for bit in 0..whole.len() * 8 {
            let mut records = records();
            records[at][bit / 8] ^= 1 << (bit % 8);
            // The record is counted as taken up, lost or ended.
            let sorted = sorted(&records);
            let said = sorted.kept.total() + sorted.unread.iter().map(|one| one.count).sum::<u64>();
            let ended = sorted.ends().filter(|(_, is_damaged)| !is_damaged).count() as u64;
            assert!(said + ended >= KINDS.len() as u64, "{kind:?}, bit {bit}: {:?}", sorted.unread);
        }
    }
}

#[test]
fn finding_l4_a_record_of_a_kind_that_nobody_knows_is_lost_alone() {
    for format in [0, 5, 0x7f, 0x87, 0xff] {
        let mut records = records();
        records.push(vec![format; 30]);
        let sorted = sorted(&records);
        assert_eq!(lost(&sorted), [(6, RecordKind::Unknown, 1)], "{format:#x}");
        assert!(KINDS.iter().all(|kind| sorted.kept.of(*kind) == 1));
    }
}

/// Finding D1: sessions that ended with their connection, which earlier builds left, are no damage.
#[test]
fn finding_d1_a_session_that_has_ended_ends_and_nothing_is_lost() {
    let sorted = sorted(&[session("client", 0), message(&[(0, 1)])]);
    assert!(sorted.unread.is_empty() && sorted.kept.total() == 0);
    assert_eq!(sorted.ends().collect::<Vec<_>>(), [(0, false), (1, false)]);
}

/// Finding L7: messages are counted for each session that does not get them, and those that are over for none.
#[test]
fn finding_l7_messages_of_lost_sessions_are_counted() {
    let lost_record = |number| LostRecord { number, segment: 4, position: 128, format: Some(3), has_older: false };
    let mut sorter = Sorter::default();
    sorter.add(0, Err(lost_record(0)), None);
    sorter.add(1, Ok(&session("other", 5)), None);
    sorter.add(2, Ok(&queue(0, 10)), None);
    for (number, to) in [(3, &[(0, 9), (1, 1)][..]), (4, &[(0, 10), (1, 2)]), (5, &[(0, 11), (0, 12)]), (6, &[(8, 1)])]
    {
        sorter.add(number, Ok(&message(to)), None);
    }
    let sorted = sorter.sorted(false);
    let session = (0, RecordKind::Session, 1);
    assert_eq!(lost(&sorted), [session, (4, RecordKind::Queued, 1), (5, RecordKind::Queued, 2)]);
    assert_eq!((sorted.kept.of(RecordKind::Session), sorted.kept.of(RecordKind::Queued)), (1, 2));
    // Record 6 is of a session that has ended.
    assert_eq!(sorted.ends().map(|(number, _)| number).collect::<Vec<_>>(), [0, 5, 6]);
}

/// Where damage may have taken sessions without a trace, messages for unknown sessions are lost, too.
#[test]
fn finding_l7_messages_without_a_session_are_lost_where_something_is_missing() {
    let mut sorter = Sorter::default();
    sorter.add(6, Ok(&message(&[(8, 1)])), None);
    let sorted = sorter.sorted(true);
    assert_eq!(lost(&sorted), [(6, RecordKind::Queued, 1)]);
    // An older version of a record counts where its latest is damaged, and that is reported.
    let mut sorter = Sorter::default();
    let newer = LostRecord { number: 1, segment: 4, position: 128, format: Some(1), has_older: true };
    sorter.add(1, Err(newer), None);
    sorter.add(1, Ok(&session("client", 5)), None);
    let sorted = sorter.sorted(false);
    assert_eq!((lost(&sorted), sorted.kept.of(RecordKind::Session)), (vec![(1, RecordKind::Session, 1)], 1));
    assert!(sorted.takes_up(1));
}
