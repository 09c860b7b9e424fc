//! Tests of the disk buffer: the place of rows, and the division of the room.

use super::*;

const SINK: &str = "[[sink]]\nname = 'a'\nfilters = '#'\ntopic = 't'\n";

fn kept(keys: &str) -> (Buffer, Acknowledge) {
    let sink = good(&format!("{SINK}{keys}\n")).sinks.remove(0);
    (sink.buffer, sink.acknowledge)
}

#[test]
fn a_spool_changes_what_holds_by_default() {
    assert_eq!(kept(""), (Buffer::Memory, Acknowledge::Replicated));
    for (keys, buffer, acknowledge) in [
        ("", Buffer::Disk, Acknowledge::Stored),
        ("acknowledge = 'replicated'", Buffer::Disk, Acknowledge::Replicated),
        ("acknowledge = 'leader'", Buffer::Memory, Acknowledge::Leader),
        ("acknowledge = 'received'\nacks = '0'", Buffer::Memory, Acknowledge::Received),
        ("buffer = 'memory'", Buffer::Memory, Acknowledge::Replicated),
        ("buffer = 'hybrid'", Buffer::Hybrid, Acknowledge::Replicated),
        ("buffer = 'hybrid-saved'\nacknowledge = 'received'", Buffer::HybridSaved, Acknowledge::Received),
        ("buffer = 'disk'\nacks = 'all'", Buffer::Disk, Acknowledge::Stored),
    ] {
        assert_eq!(kept(&format!("{keys}\n[spool]")), (buffer, acknowledge), "{keys}");
    }
    let none = good("[spool]");
    assert_eq!((none.sinks[0].buffer, none.sinks[0].acks), (Buffer::Disk, -1), "the sink that is there by default");
    assert!(good("").spool.is_none());
}

#[test]
fn the_room_is_shared_out() {
    let mib = |n: u64| n << 20;
    let spool = good("[spool]").spool.unwrap();
    assert_eq!((spool.segment_bytes, spool.segments_max), (mib(64), 64), "8 GiB on two shards");
    assert_eq!((spool.sink_bytes_max, spool.when_full), (mib(60 * 64), WhenFull::Backpressure), "alone: all of it");
    let two = format!("{SINK}{}[spool]\nbytes_max = '512MiB'\nwhen_full = 'drop-oldest'", SINK.replace("'a'", "'b'"));
    let spool = good(&two).spool.unwrap();
    assert_eq!((spool.segment_bytes, spool.segments_max), (mib(16), 16), "smaller segments, not fewer");
    assert_eq!((spool.sink_bytes_max, spool.when_full), (mib(12 * 16 / 2), WhenFull::DropOldest));
    let spool = good(&format!("{two}\nspool_share = 1")).spool.unwrap();
    assert_eq!(spool.sink_bytes_max, mib(12 * 16));
    let other = format!("{SINK}{}buffer = 'memory'\n[spool]\nwhen_full = 'refuse'", SINK.replace("'a'", "'b'"));
    let spool = good(&other).spool.unwrap();
    assert_eq!((spool.sink_bytes_max, spool.when_full), (mib(60 * 64), WhenFull::Refuse), "one keeps rows there");
    let append = |keys: &str| good(&format!("[spool]\n{keys}")).spool.unwrap().append;
    assert_eq!((append(""), append("append = 'mapped'")), (Append::Written, Append::Mapped));
    // Segments are no smaller than the largest batch of their sinks.
    let large = format!("{SINK}record_bytes_max = '15MiB'\n[kafka.m]\nbootstrap = 'k:1'\n[spool]\nbytes_max = '2GiB'");
    assert_eq!(good(&large).spool.unwrap().segment_bytes, mib(121));
}

#[test]
fn memory_before_the_disk_alone() {
    let spill = |keys: &str| good(&format!("[spool]\n{SINK}{keys}")).sinks.remove(0).spill_after;
    assert_eq!(spill(""), 64 << 20, "a quarter of buffer_bytes");
    assert_eq!(spill("spill_after = '3MiB'"), 3 << 20);
    assert_eq!(spill("buffer = 'memory'"), 0);
    assert_eq!(spill("[embedded]\nbuffer_bytes = '4MiB'"), 2 * 1_256 * 1_024, "never less than a batch and a record");
    assert_eq!(good(SINK).sinks[0].spill_after, 0);
}

#[test]
fn it_is_below_the_data_directory() {
    let config = good("[service]\ndata_dir = '/d'\n[spool]\n[[listener]]\nbind = '127.0.0.1:1'\nreceipts = true");
    assert_eq!(config.spool_dir(), Path::new("/d/spool"));
    assert!(config.listeners[0].receipts && !good("").listeners[0].receipts);
}

#[test]
fn finding_f5_drop_oldest_is_refused_where_batches_could_fill_the_room() {
    let sinks = |count: usize| -> String {
        let sink = |n| {
            format!("[[sink]]\nname='s{n}'\nfilters='#'\ntopic='t{n}'\nbatch_bytes='64KiB'\nrecord_bytes_max='64KiB'\n")
        };
        (0..count).map(sink).collect()
    };
    let text = |count, keys: &str| {
        format!("[service]\nshards=1\n[embedded]\n{}[spool]\nbytes_max='8MiB'\n{keys}", sinks(count))
    };
    let drops = "when_full='drop-oldest'";
    assert_eq!(good(&text(16, drops)).spool.unwrap().room(), 4 << 20);
    good(&text(17, ""));
    let problems = parse(&text(17, drops), "test").unwrap_err().to_string();
    let why = "spool.when_full: with \"drop-oldest\" the largest batches of all sinks (2176KiB) may take half of a shard's room (4MiB)";
    assert!(problems.contains(why) && problems.contains("raise bytes_max"), "{problems}");
    // Sinks in memory take no room.
    good(&text(17, drops).replacen("batch_bytes", "buffer='memory'\nbatch_bytes", 1));
}
