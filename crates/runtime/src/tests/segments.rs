//! Segment files through the seam, both ways of appending.

use std::path::Path;
use std::time::{Duration, Instant};

use super::harness::{eventually, next};
use super::keeper::{Ask, BOTH, SEGMENT, Told, content, keeper};
use crate::seam::Append;
use crate::{segment_path, segments_in};

#[test]
fn what_is_appended_is_read_back_synced_and_found_again() {
    for (append, zeroed) in [(Append::Written, false), (Append::Written, true), (Append::Mapped, false)] {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, zeroed);
        assert_eq!(keeper.ask(Ask::Append(1, 0, 1)), Told::Appended(false), "not there");
        assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
        assert!(matches!(keeper.ask(Ask::Create(1)), Told::Created(1, Err(_))), "twice");
        assert_eq!(keeper.ask(Ask::Append(1, 0, 1000)), Told::Appended(true));
        assert_eq!(keeper.ask(Ask::Append(1, 1000, 5000)), Told::Appended(true));
        // A gap reads as zeroes, as do bytes that were never written.
        assert_eq!(keeper.ask(Ask::Append(1, 6008, 100)), Told::Appended(true));
        let expected = Told::Bytes(Some([content(900, 5100), vec![0; 8], content(6008, 100), vec![0; 50]].concat()));
        assert_eq!(keeper.ask(Ask::Read(1, 900, 5258)), expected);
        assert_eq!(keeper.ask(Ask::Sync(7, vec![1])), Told::Synced(7, Ok(())));
        assert_eq!(keeper.ask(Ask::Read(1, 900, 5258)), expected);
        assert_eq!(keeper.ask(Ask::Read(1, SEGMENT - 1, 2)), Told::Bytes(None), "beyond its end");
        let file = std::fs::read(segment_path(dir.path(), 1)).unwrap();
        assert_eq!(file.len() as u64, SEGMENT);
        assert_eq!(file[..6000], content(0, 6000));
        assert_eq!(file[6008..6108], content(6008, 100));
        keeper.stop();
        again(dir.path(), append);
    }
}

/// Several megabytes in one group, and groups with nothing in them.
#[test]
fn groups_may_be_large_or_empty() {
    const BYTES: usize = 5_000_000;
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        assert_eq!(keeper.ask(Ask::CreateOf(1, 8 << 20)), Told::Created(1, Ok(())));
        assert_eq!(keeper.ask(Ask::Sync(1, vec![1])), Told::Synced(1, Ok(())));
        assert_eq!(keeper.ask(Ask::Append(1, 0, 10)), Told::Appended(true));
        assert_eq!(keeper.ask(Ask::Append(1, 10, BYTES)), Told::Appended(true));
        for token in 2..5 {
            assert_eq!(keeper.ask(Ask::Sync(token, vec![1])), Told::Synced(token, Ok(())));
        }
        keeper.stop();
        let file = std::fs::read(segment_path(dir.path(), 1)).unwrap();
        assert!(file[..10 + BYTES] == content(0, 10 + BYTES) && file[10 + BYTES..].iter().all(|byte| *byte == 0));
    }
}

/// A segment's beginning, the copy of its header at its end, then the rest of its first group.
#[test]
fn what_belongs_at_the_end_does_not_stand_in_the_way() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
        for (at, bytes) in [(0, 64), (SEGMENT - 64, 64), (64, 1000)] {
            assert_eq!(keeper.ask(Ask::Append(1, at, bytes)), Told::Appended(true), "{append:?} at {at}");
        }
        assert_eq!(keeper.ask(Ask::Sync(7, vec![1])), Told::Synced(7, Ok(())));
        keeper.stop();
        let file = std::fs::read(segment_path(dir.path(), 1)).unwrap();
        assert_eq!(file[..1064], content(0, 1064));
        assert_eq!(file[SEGMENT as usize - 64..], content(SEGMENT - 64, 64));
        assert!(file[1064..SEGMENT as usize - 64].iter().all(|byte| *byte == 0));
    }
}

/// The next process of the shard: existing segments can be read and freed, and take nothing more.
fn again(folder: &Path, append: Append) {
    let keeper = keeper(folder, append, false);
    assert_eq!(keeper.ask(Ask::Existing), Told::Existing(vec![(1, SEGMENT)]));
    assert_eq!(keeper.ask(Ask::Read(1, 10, 20)), Told::Bytes(Some(content(10, 20))));
    assert_eq!(keeper.ask(Ask::Append(1, 7000, 1)), Told::Appended(false));
    assert_eq!(keeper.ask(Ask::Free(1)), Told::Freed(1, Ok(())));
    assert!(segments_in(folder).unwrap().is_empty());
    keeper.stop();
}

/// Group after group over several segments, each synced while the shard sleeps: every answer wakes it, in order.
#[test]
fn many_syncs_come_in_order_and_wake_a_sleeping_shard() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        let heartbeat = keeper.house.threads[0].heartbeat();
        let mut token = 0;
        for segment in 0..3 {
            assert_eq!(keeper.ask(Ask::Create(segment)), Told::Created(segment, Ok(())));
            for at in (0..SEGMENT).step_by(4096) {
                assert_eq!(keeper.ask(Ask::Append(segment, at, 4096)), Told::Appended(true));
                // The end of one segment and the beginning of the next: a sync without new bytes in the earlier one is no error.
                let which = if segment > 0 { vec![segment - 1, segment] } else { vec![segment] };
                token += 1;
                assert_eq!(keeper.ask(Ask::Sync(token, which)), Told::Synced(token, Ok(())));
                if token % 50 == 0 {
                    eventually("the shard sleeps", || heartbeat.parked());
                }
            }
            assert_eq!(keeper.ask(Ask::Append(segment, SEGMENT, 1)), Told::Appended(false), "full");
        }
        assert_eq!(keeper.ask(Ask::Read(1, 0, SEGMENT as usize)), Told::Bytes(Some(content(0, SEGMENT as usize))));
        keeper.stop();
    }
}

/// Syncs that are requested faster than the disk answers: each covers the appends before it, none is forgotten.
#[test]
fn syncs_of_one_segment_follow_each_other() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
        for token in 0..40 {
            keeper.tell(Ask::Append(1, token * 1000, 1000));
            keeper.tell(Ask::Sync(token, vec![1]));
        }
        let all: Vec<_> = (0..80).map(|_| next(&keeper.told)).collect();
        let synced = all.iter().filter(|told| matches!(told, Told::Synced(..)));
        assert!(synced.eq((0..40).map(|token| Told::Synced(token, Ok(()))).collect::<Vec<_>>().iter()));
        assert_eq!(all.iter().filter(|told| **told == Told::Appended(true)).count(), 40);
        assert_eq!(std::fs::read(segment_path(dir.path(), 1)).unwrap()[..40_000], content(0, 40_000));
        keeper.stop();
    }
}

#[test]
fn a_failed_sync_is_final_for_its_segment_alone() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        for segment in [1, 2] {
            assert_eq!(keeper.ask(Ask::Create(segment)), Told::Created(segment, Ok(())));
        }
        assert_eq!(keeper.ask(Ask::Append(1, 0, 10)), Told::Appended(true));
        keeper.faults.fail_syncs(libc::EIO);
        assert_eq!(keeper.ask(Ask::Sync(1, vec![1])), Told::Synced(1, Err(Some(libc::EIO))));
        keeper.faults.fail_syncs(0);
        // The disk works again: too late.
        assert_eq!(keeper.ask(Ask::Append(1, 10, 10)), Told::Appended(false));
        assert_eq!(keeper.ask(Ask::Sync(2, vec![1])), Told::Synced(2, Err(None)));
        assert_eq!(keeper.ask(Ask::Append(2, 0, 10)), Told::Appended(true));
        assert_eq!(keeper.ask(Ask::Sync(3, vec![2])), Told::Synced(3, Ok(())));
        assert_eq!(keeper.ask(Ask::Sync(4, vec![9])), Told::Synced(4, Err(None)), "no such segment");
        assert_eq!(keeper.ask(Ask::Sync(5, vec![])), Told::Synced(5, Ok(())));
        keeper.stop();
    }
}

#[test]
fn a_full_disk_and_short_writes() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    keeper.faults.fail_creates(libc::ENOSPC);
    assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Err(Some(libc::ENOSPC))));
    assert!(segments_in(dir.path()).unwrap().is_empty(), "nothing half made is left");
    keeper.faults.fail_creates(0);
    assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
    keeper.faults.shorten_writes(700);
    assert_eq!(keeper.ask(Ask::Append(1, 0, 5000)), Told::Appended(true));
    assert_eq!(keeper.ask(Ask::Sync(1, vec![1])), Told::Synced(1, Ok(())));
    assert_eq!(std::fs::read(segment_path(dir.path(), 1)).unwrap()[..5000], content(0, 5000));
    keeper.faults.fail_appends(libc::ENOSPC);
    assert_eq!(keeper.ask(Ask::Append(1, 5000, 10)), Told::Appended(false));
    keeper.stop();
}

/// A slow disk answers late and never early, also to a shard that has fallen asleep in the executor in the meantime.
#[test]
fn a_slow_sync_comes_late() {
    const DELAY: Duration = Duration::from_millis(60);
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
    keeper.faults.delay_syncs(DELAY);
    for token in 0..3 {
        assert_eq!(keeper.ask(Ask::Append(1, token * 10, 10)), Told::Appended(true));
        let start = std::time::Instant::now();
        assert_eq!(keeper.ask(Ask::Sync(token, vec![1])), Told::Synced(token, Ok(())));
        assert!(start.elapsed() >= DELAY);
    }
    keeper.stop();
}

/// The helper is slow, so the shard has long fallen asleep in the executor: the result wakes it.
#[test]
fn a_made_segment_wakes_a_sleeping_shard() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    keeper.faults.delay_creates(Duration::from_millis(300));
    for segment in 0..3 {
        assert_eq!(keeper.ask(Ask::Create(segment)), Told::Created(segment, Ok(())));
    }
    keeper.stop();
}

/// Freed while mapped, and in the very turn in which its sync is under way: both are answered, and its room is given back.
#[test]
fn a_segment_is_freed_under_its_sync() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        for segment in 0..20 {
            assert_eq!(keeper.ask(Ask::Create(segment)), Told::Created(segment, Ok(())));
            assert_eq!(keeper.ask(Ask::Append(segment, 0, 100_000)), Told::Appended(true));
            keeper.tell(Ask::Sync(segment, vec![segment]));
            keeper.tell(Ask::Free(segment));
            let two = [next(&keeper.told), next(&keeper.told)];
            assert!(two.contains(&Told::Freed(segment, Ok(()))), "{two:?}");
            assert!(two.contains(&Told::Synced(segment, Ok(()))), "{two:?}");
            assert!(!segment_path(dir.path(), segment).exists());
        }
        assert_eq!(keeper.ask(Ask::Existing), Told::Existing(vec![]));
        assert_eq!(keeper.ask(Ask::Free(99)), Told::Freed(99, Ok(())), "no such segment");
        keeper.stop();
    }
}

/// A freed segment need not survive: a sync of it and of others is as good as the others.
#[test]
fn a_segment_is_freed_in_the_turn_of_its_sync() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
        assert_eq!(keeper.ask(Ask::Append(1, 0, 100)), Told::Appended(true));
        keeper.tell(Ask::SyncAndFree(1, 7));
        let two = [next(&keeper.told), next(&keeper.told)];
        assert!(two.contains(&Told::Synced(7, Ok(()))) && two.contains(&Told::Freed(1, Ok(()))), "{two:?}");
        keeper.stop();
    }
}

/// A file that cannot be deleted is tried again, while other work goes on; then the failure is reported.
#[test]
fn a_file_that_cannot_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    for segment in [1, 2] {
        assert_eq!(keeper.ask(Ask::Create(segment)), Told::Created(segment, Ok(())));
    }
    keeper.faults.fail_deletes(libc::EIO);
    keeper.tell(Ask::Free(1));
    assert_eq!(keeper.ask(Ask::Create(3)), Told::Created(3, Ok(())));
    assert_eq!(next(&keeper.told), Told::Freed(1, Err(Some(libc::EIO))));
    assert!(segment_path(dir.path(), 1).exists());
    keeper.tell(Ask::Free(2));
    assert_eq!(keeper.ask(Ask::Create(4)), Told::Created(4, Ok(())));
    keeper.faults.fail_deletes(0);
    assert_eq!(next(&keeper.told), Told::Freed(2, Ok(())));
    assert!(!segment_path(dir.path(), 2).exists());
    keeper.stop();
}

#[test]
fn a_withheld_sync_leaves_what_was_written_and_answers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
    keeper.faults.withhold_syncs(true);
    assert_eq!(keeper.ask(Ask::Append(1, 0, 64)), Told::Appended(true));
    keeper.tell(Ask::Sync(7, vec![1]));
    eventually("it is in the file", || std::fs::read(segment_path(dir.path(), 1)).unwrap()[..64] == content(0, 64));
    assert_eq!(keeper.ask(Ask::Existing), Told::Existing(vec![(1, SEGMENT)]), "and no answer before this one");
    keeper.stop();
}

#[test]
fn what_is_held_is_not_in_the_file_before_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    assert_eq!(keeper.ask(Ask::Create(1)), Told::Created(1, Ok(())));
    let file = || std::fs::read(segment_path(dir.path(), 1)).unwrap()[..64].to_vec();
    keeper.faults.hold_writes(Duration::from_millis(300));
    assert_eq!(keeper.ask(Ask::Append(1, 0, 64)), Told::Appended(true));
    let begin = Instant::now();
    keeper.tell(Ask::Sync(7, vec![1]));
    assert_eq!(keeper.ask(Ask::Read(1, 0, 64)), Told::Bytes(Some(content(0, 64))), "it can be read");
    assert!(file() == [0; 64] || begin.elapsed() > Duration::from_millis(300));
    assert_eq!(next(&keeper.told), Told::Synced(7, Ok(())));
    assert!(begin.elapsed() >= Duration::from_millis(290), "the turn's clock is a little old");
    assert_eq!(file(), content(0, 64));
    keeper.faults.hold_writes(Duration::ZERO);
    assert_eq!(keeper.ask(Ask::Sync(8, vec![1])), Told::Synced(8, Ok(())));
    keeper.stop();
}
