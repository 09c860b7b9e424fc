//! Reading segments on the ring: bytes that are not in memory are fetched, and no turn waits for the disk.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, next};
use super::keeper::{Ask, BOTH, Keeper, Told, content, keeper};
use crate::seam::Append;
use crate::{DiskFaults, evidence, segment_path};
use forebay_base::limits::{SEGMENT_WINDOW_BYTES, SEGMENT_WINDOWS_MAX};

const WINDOW: u64 = SEGMENT_WINDOW_BYTES as u64;

/// A folder with segment 1 from an earlier life.
fn earlier(bytes: u64) -> (tempfile::TempDir, Keeper) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(segment_path(dir.path(), 1), content(0, bytes as usize)).unwrap();
    let keeper = keeper(dir.path(), Append::Written, false);
    // The shard read all of the segment when it started.
    waited(&keeper);
    (dir, keeper)
}

fn waited(keeper: &Keeper) -> usize {
    match keeper.ask(Ask::Waited) {
        Told::Waited(count) => count,
        told => panic!("{told:?}"),
    }
}

#[test]
fn who_goes_on_forward_is_read_ahead_for() {
    let (_dir, keeper) = earlier(10 * WINDOW + 777);
    let read = |at: u64, length: usize| {
        assert_eq!(keeper.ask(Ask::Read(1, at, length)), Told::Bytes(Some(content(at, length))), "{at}");
    };
    read(5, 10);
    assert_eq!(waited(&keeper), 1, "the start's own reads are not kept");
    // Some of these reads straddle two windows.
    (0..10 * WINDOW / 5000).for_each(|step| read(step * 5000, 5000));
    let windows = waited(&keeper);
    assert!((1..=12).contains(&windows), "{windows}");
    read(10 * WINDOW, 777);
    (0..10 * WINDOW / 5000).for_each(|step| read(step * 5000, 5000));
    waited(&keeper);
    read(3 * WINDOW - 10, 20);
    assert_eq!(waited(&keeper), 0, "all of it is there still");
    assert_eq!(keeper.ask(Ask::Read(1, 10 * WINDOW, 778)), Told::Bytes(None), "beyond its end");
    assert_eq!(keeper.ask(Ask::Read(1, 7, 0)), Told::Bytes(Some(vec![])));
    keeper.stop();
}

/// Appended bytes can be read at once, while they are written, and after; also over a window that was read when fewer of them were
/// in the file.
#[test]
fn a_segment_is_read_while_it_is_appended_to() {
    const STEP: u64 = 10_000;
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        let bytes = 4 * WINDOW;
        assert_eq!(keeper.ask(Ask::CreateOf(1, bytes)), Told::Created(1, Ok(())));
        let (mut reads, mut synced, mut appended) = (Vec::new(), 0, 0);
        for step in 0..bytes / STEP {
            let at = step * STEP;
            keeper.tell(Ask::Append(1, at, STEP as usize));
            if step % 3 == 0 {
                keeper.tell(Ask::Sync(step, vec![1]));
                synced += 1;
            }
            let end = at + STEP;
            for (from, to) in [(at, end), (end - end.min(3 * STEP), end), (at / 2, end.min(at / 2 + 70_000))] {
                keeper.tell(Ask::Read(1, from, (to - from) as usize));
                reads.push(content(from, (to - from) as usize));
            }
        }
        for _ in 0..bytes / STEP + synced + reads.len() as u64 {
            match next(&keeper.told) {
                Told::Bytes(Some(bytes)) => {
                    let place = reads.iter().position(|read| *read == bytes).expect("the right bytes");
                    reads.swap_remove(place);
                }
                Told::Appended(true) => appended += 1,
                Told::Synced(_, Ok(())) => synced -= 1,
                told => panic!("{told:?}"),
            }
        }
        assert_eq!((reads.len(), synced, appended), (0, 0, bytes / STEP));
        // Never written: zeroes, and nothing waits for them.
        waited(&keeper);
        assert_eq!(keeper.ask(Ask::Read(1, bytes - 100, 100)), Told::Bytes(Some(vec![0; 100])));
        assert_eq!(waited(&keeper), 0);
        keeper.stop();
    }
}

/// The copy of the header at the very end is written first: the bytes before it are not in the file because of that, and a read of
/// the segment before they were appended does not hide them.
#[test]
fn what_stands_at_the_end_does_not_make_the_rest_old() {
    for append in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path(), append, false);
        let bytes = 2 * WINDOW;
        assert_eq!(keeper.ask(Ask::CreateOf(1, bytes)), Told::Created(1, Ok(())));
        let append_at =
            |at, length| assert_eq!(keeper.ask(Ask::Append(1, at, length)), Told::Appended(true), "{append:?}");
        append_at(0, 64);
        append_at(bytes - 64, 64);
        for at in (64..64 + 20_000).step_by(1000) {
            append_at(at, 1000);
            assert_eq!(keeper.ask(Ask::Sync(at, vec![1])), Told::Synced(at, Ok(())));
            let length = at as usize + 1000;
            assert!(keeper.ask(Ask::Read(1, 0, length)) == Told::Bytes(Some(content(0, length))), "{append:?} at {at}");
        }
        keeper.stop();
    }
}

/// Twice as many readers as there are windows, each with a request over two; and one with a request larger than all.
#[test]
fn more_readers_than_windows() {
    let places = 2 * SEGMENT_WINDOWS_MAX as u64;
    let (_dir, keeper) = earlier(2 * places * WINDOW);
    for round in 0..3 {
        for place in 0..places {
            keeper.tell(Ask::Read(1, (2 * place + 1) * WINDOW - 50 - round, 100));
        }
        let whole = (SEGMENT_WINDOWS_MAX + 5) * SEGMENT_WINDOW_BYTES;
        keeper.tell(Ask::Read(1, 3, whole));
        let mut expected: Vec<_> = (0..places).map(|place| ((2 * place + 1) * WINDOW - 50 - round, 100)).collect();
        expected.push((3, whole));
        for _ in 0..=places {
            let Told::Bytes(Some(bytes)) = next(&keeper.told) else { panic!("bytes") };
            let place =
                expected.iter().position(|(at, length)| content(*at, *length) == bytes).expect("the right bytes");
            expected.swap_remove(place);
        }
    }
    keeper.stop();
}

/// Reads until the answer is another than that the disk fails.
fn read_when_it_can(keeper: &Keeper, at: u64, length: usize) -> Told {
    let begun = Instant::now();
    loop {
        match keeper.ask(Ask::Read(1, at, length)) {
            Told::NotRead(None | Some(libc::EIO)) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(20)),
            told => return told,
        }
    }
}

#[test]
fn a_disk_that_fails_is_asked_again() {
    let (_dir, keeper) = earlier(3 * WINDOW);
    keeper.faults.fail_reads(libc::EIO);
    for _ in 0..3 {
        assert_eq!(keeper.ask(Ask::Read(1, WINDOW, 10)), Told::NotRead(Some(libc::EIO)));
    }
    keeper.faults.fail_reads(0);
    assert_eq!(read_when_it_can(&keeper, WINDOW, 10), Told::Bytes(Some(content(WINDOW, 10))));
    keeper.stop();
}

/// Sectors in the middle of a window: all bytes before and after them are read.
#[test]
fn an_unreadable_sector_fails_alone() {
    let failing = || Told::NotRead(None);
    for (from, bytes) in [(WINDOW + 8192 + 512, 512), (WINDOW, 512), (2 * WINDOW - 1024, 1024), (WINDOW + 512, 9000)] {
        let (_dir, keeper) = earlier(3 * WINDOW);
        keeper.faults.unreadable(from, bytes, libc::EIO);
        let (bad, end) = (from / 512 * 512, (from + bytes).next_multiple_of(512));
        assert_eq!(keeper.ask(Ask::Read(1, bad, 1)), failing(), "{from}");
        assert_eq!(keeper.ask(Ask::Read(1, end - 1, 2)), failing(), "{from}");
        assert_eq!(keeper.ask(Ask::Read(1, 3, (bad - 3) as usize)), Told::Bytes(Some(content(3, (bad - 3) as usize))));
        let rest = (3 * WINDOW - end) as usize;
        assert_eq!(keeper.ask(Ask::Read(1, end, rest)), Told::Bytes(Some(content(end, rest))));
        keeper.faults.unreadable(0, 0, 0);
        let all = 3 * SEGMENT_WINDOW_BYTES;
        assert_eq!(read_when_it_can(&keeper, 0, all), Told::Bytes(Some(content(0, all))));
        keeper.stop();
    }
}

/// Bytes close by may come from the page cache of a disk that is away: only reads from the disk itself count.
#[test]
fn bytes_beside_cached_ones_are_not_damaged_while_the_disk_is_away() {
    let (_dir, keeper) = earlier(3 * WINDOW);
    keeper.faults.cached_but(WINDOW + 8192, 512, libc::EIO);
    for _ in 0..3 {
        assert_eq!(keeper.ask(Ask::Read(1, WINDOW + 8192, 10)), Told::NotRead(Some(libc::EIO)));
        assert_eq!(keeper.ask(Ask::Read(1, WINDOW, 10)), Told::Bytes(Some(content(WINDOW, 10))));
    }
    keeper.stop();
}

/// A disk that is back when the bytes are read again has lost none of them.
#[test]
fn a_disk_that_comes_back_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    std::fs::write(&path, content(0, 3 * SEGMENT_WINDOW_BYTES)).unwrap();
    let file = std::fs::File::open(path).unwrap();
    let faults = DiskFaults::default();
    let mut bytes = [0; 512];
    let mut read = || evidence::read(&file, &mut bytes, 8192, Some(&faults)).map_err(|error| error.kind());
    faults.unreadable(8192, 512, libc::EIO);
    assert_eq!(read(), Err(std::io::ErrorKind::InvalidData));
    faults.cached_but(8192, 512, libc::EIO);
    assert!(read().is_err_and(|kind| kind != std::io::ErrorKind::InvalidData), "the disk gives nothing");
    faults.unreadable(8192, 512, libc::EIO);
    faults.come_back();
    assert_eq!(read(), Ok(()));
}

/// A reader that tries without pause does not make the disk try without pause.
#[test]
fn an_unreadable_sector_is_asked_for_once_a_second() {
    let (_dir, keeper) = earlier(3 * WINDOW);
    keeper.faults.unreadable(WINDOW + 8192, 512, libc::EIO);
    assert_eq!(keeper.ask(Ask::Read(1, WINDOW + 8192, 10)), Told::NotRead(None));
    let (once, begun) = (keeper.faults.reads(), Instant::now());
    assert!(once > 0);
    for _ in 0..500 {
        assert_eq!(keeper.ask(Ask::Read(1, WINDOW + 8192, 10)), Told::NotRead(None));
    }
    let seconds = begun.elapsed().as_secs() + 1;
    let asked = keeper.faults.reads() - once;
    assert!(asked <= seconds * once, "{asked} reads in {seconds} s, {once} for one try");
    keeper.stop();
}

/// A reader of a segment that is freed gets an answer; the helper closes the file last, when the ring is done with it.
#[test]
fn a_segment_is_freed_under_its_reads() {
    for _ in 0..20 {
        let (dir, keeper) = earlier(8 * WINDOW);
        keeper.tell(Ask::Read(1, 0, 8 * SEGMENT_WINDOW_BYTES));
        keeper.tell(Ask::Free(1));
        let two = [next(&keeper.told), next(&keeper.told)];
        assert!(two.contains(&Told::Freed(1, Ok(()))), "{two:?}");
        assert!(two.iter().any(|told| matches!(told, Told::Bytes(_))), "{two:?}");
        assert!(!segment_path(dir.path(), 1).exists());
        keeper.stop();
    }
}
