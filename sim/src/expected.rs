//! Known faults that are not fixed yet: the scripts and seeds that show them, and the consequences that the judge of
//! hostile runs tolerates. A fix deletes its lines: a test fails when one of these passes, or never happens.

use crate::plan::Kind;

/// Scripts (`scenarios`), by name.
pub const RED_SCRIPTS: &[&str] = &[];

/// Seeds, each with the fault that it shows.
pub const RED_SEEDS: &[(Kind, u64, &str)] = &[];

/// Seeds that failed, each with the fault that it showed until the fault was fixed.
pub const CURED_SEEDS: &[(Kind, u64, &str)] = &[
    (Kind::Sources, 1_796_105_621_147, "an older record in memory alone, and younger ones in the log"),
    (Kind::All, 2698, "N5"),
    (Kind::Hostile, 2698, "N5"),
    (Kind::All, 5246, "N7"),
    (Kind::Memory, 3280, "N7"),
    (Kind::Hostile, 5246, "N7"),
    (Kind::All, 4483, "D14"),
    (Kind::All, 7380, "N6"),
    (Kind::Hostile, 4483, "D14"),
    (Kind::Hostile, 1282, "N4"),
    (Kind::Hostile, 1523, "N4"),
    (Kind::Hostile, 2282, "N4"),
    (Kind::Hostile, 2805, "N4"),
    (Kind::Hostile, 3243, "N4"),
    (Kind::Hostile, 7310, "N4"),
    (Kind::Hostile, 1031, "N3"),
    (Kind::Hostile, 5394, "N3"),
    (Kind::Hostile, 3105, "N3"),
    (Kind::Hostile, 152, "N8"),
    (Kind::Hostile, 1565, "a message lost to damage"),
    (Kind::Hostile, 3537, "N9"),
    (Kind::Hostile, 3236, "N11"),
    (Kind::Hostile, 4553, "N13"),
    (Kind::Hostile, 1317, "N14"),
    (Kind::Memory, 35_073, "a late request to a partition that had forgotten its producer"),
    (Kind::Hostile, 7085, "a client ID that was taken over too often"),
    (Kind::Hostile, 7200, "a client ID that was taken over too often"),
    (Kind::All, 30_917, "N15, a refusal that was lost"),
    (Kind::Hostile, 7_884, "N15, a refusal that was lost"),
    (Kind::All, 126_966, "N16, a refusal that was lost"),
    (Kind::All, 128_611, "N16, a refusal that was lost"),
    (Kind::Memory, 58_938, "N16, a refusal that was lost"),
    (Kind::Hostile, 15_984, "N16, a segment that nobody can know of"),
    (Kind::All, 74_181, "N17, wills that found no room"),
    (Kind::Hostile, 2_769, "a refusal of a 3.1.1 client's message that was lost"),
    (Kind::Subscribers, 442, "N19"),
    (Kind::Subscribers, 507, "N19"),
    (Kind::Subscribers, 708, "N19"),
    (Kind::Subscribers, 516, "N18"),
    (Kind::Subscribers, 12_411, "N20"),
    (Kind::All, 69_067, "N26"),
    (Kind::Shares, 132, "N27"),
    (Kind::Shares, 1740, "N27"),
    (Kind::HostileShares, 7487, "a message that lived up to a second longer after each start"),
    (Kind::HostileShares, 8164, "N28, a larger segment that was kept left messages no room"),
    (
        Kind::HostileSubscribers,
        16_355,
        "N28, a sink that became `disk`: a younger batch of memory alone was the leader's last",
    ),
    (Kind::HostileSubscribers, 14_829, "N28, judged too strictly: it was away, and had asked at QoS 0"),
    (Kind::HostileSubscribers, 17_501, "N28, judged too strictly: damage in two processes"),
    (Kind::HostileShares, 4741, "N28, judged too strictly: damage in two processes"),
    (Kind::HostileShares, 4767, "N28, judged too strictly: a message that waited in memory alone"),
    (Kind::HostileShares, 4781, "N28, judged too strictly: a message that waited in memory alone"),
    (Kind::HostileShares, 4239, "N28, a process that started as its machine did"),
    (Kind::HostileShares, 8449, "N28, a process that started as its machine did"),
    (Kind::HostileShares, 12_412, "judged too strictly: a late request of a sink that became `disk`"),
    (Kind::HostileShares, 21_800, "judged too strictly: rows that were to be dead letters when the process ended"),
    (Kind::HostileSubscribers, 23_175, "judged too strictly: a will of which the end was damaged"),
    (Kind::HostileSubscribers, 28_702, "judged too strictly: a session that was damaged while no process ran"),
    (Kind::HostileShares, 12_989, "judged too strictly: a dead letter that was lost with its process"),
    (Kind::Sources, 44, "a shard that turned without end at the time at which a record was to be released"),
    (Kind::Sources, 617, "the same, of a source that stops"),
    (Kind::Sources, 763, "a static member that was fenced by a coordinator that had just taken over"),
    (Kind::Sources, 861, "a static member that was fenced by a coordinator that had just taken over"),
    (Kind::Sources, 474, "a queue was full, its client gone, and the group moved past what only memory had of it"),
    (Kind::Broker, 0, "a shard that turned without end while no leader of its log of sessions was known"),
    (Kind::Broker, 30, "N29, a message too large for the log was not noted before it was sent"),
    (
        Kind::Broker,
        197,
        "judged too strictly: a process without anything to write learns of its successor a minute later",
    ),
    (Kind::Broker, 775, "N31, a member that was fenced by a process that had been replaced was over for good"),
    (Kind::Broker, 1791, "N31, a member that was fenced by a process that had been replaced was over for good"),
    (Kind::Broker, 260, "judged too strictly: a client of a process that stands still"),
    (Kind::Broker, 1066, "batches of producers without the epoch of their leader in the model"),
    (Kind::Broker, 361, "judged too strictly: a log of sessions that is cut during a start"),
    (Kind::Broker, 1652, "judged too strictly: a message that is too large for the log"),
    (Kind::Broker, 175, "judged too strictly: commits that go back with reading"),
    (Kind::Broker, 1167, "judged too strictly: a process that stood still commits as it reads again"),
    (Kind::Broker, 19_789, "held packet identifiers that a client forgot in the model when a log was cut"),
    (
        Kind::Broker,
        12_468,
        "an owner that went on when its term had been cut away, as its successor could not know of it",
    ),
    (Kind::Broker, 17_695, "judged too strictly: a packet identifier that was in use again after a log was cut"),
    (Kind::Broker, 1013, "N33, a retained message that went back while a start read again"),
    (
        Kind::HostileSubscribers,
        355,
        "a session without a record waited for its record once its queue had dropped what others have in the log",
    ),
    (Kind::HostileSubscribers, 5736, "larger segments that were kept for recovery left no segment to begin"),
    (Kind::HostileShares, 4725, "two lanes of one partition, of which a start took one"),
    (Kind::HostileSubscribers, 5043, "judged too strictly: a refusal for want of a sink's share that was lost"),
    (Kind::HostileShares, 304, "judged too strictly: a refusal for want of a sink's share that was lost"),
    (Kind::HostileSubscribers, 7215, "judged too strictly: a retained message's lifetime in whole seconds"),
    (Kind::HostileSubscribers, 11, "a message that had expired before a crash"),
    (Kind::HostileSubscribers, 884, "UNSUBACK before it was on the disk"),
    (Kind::HostileSubscribers, 2571, "a segment that was not emptied once the disk was back"),
    (Kind::HostileSubscribers, 3963, "groups behind a missing segment that were not taken up"),
    (Kind::HostileSubscribers, 1617, "larger segments that left room for small messages alone"),
    (Kind::Instances, 107, "an instance that had lost all slots looked after trouble of their logs without end"),
    (Kind::Instances, 224, "an instance that had lost all slots looked after trouble of their logs without end"),
    (Kind::Shares, 4464, "a CONNECT that was late between shards took over from a later one"),
    (Kind::HostileSubscribers, 17_255, "dropped rows that a process had not counted when it was killed"),
    (Kind::Broker, 662, "a frozen process whose clock went back when another machine was lost"),
    (Kind::Broker, 1720, "a frozen process whose clock went back when another machine was lost"),
];

/// A consequence of a known fault that a hostile run may show again and again. It is tolerated where its cause occurred,
/// so that the run continues and can show something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tolerated {
    /// D5: a process refuses to start as long as reads fail. The operator starts it again.
    StartUnreadable,
    /// N12: a sink holds a few records more than its share of the spool.
    ShareOverrun,
}

/// All tolerated consequences, each with a hostile seed that fails if it is not tolerated.
pub const TOLERATED: &[(Tolerated, u64)] = &[(Tolerated::StartUnreadable, 2), (Tolerated::ShareOverrun, 177)];

/// The fault that a seed is known to show.
#[must_use]
pub fn fault_of(kind: Kind, seed: u64) -> Option<&'static str> {
    RED_SEEDS.iter().find(|(of, known, _)| (*of, *known) == (kind, seed)).map(|(_, _, fault)| *fault)
}
