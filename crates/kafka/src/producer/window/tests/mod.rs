mod explore;
mod log;
mod world;

use super::{NewBatch, PartitionWindow, Step, StepTerms, precedes, sequence_after};
use crate::producer::error::Verdict;
use crate::types::NodeId;
use forebay_base::rules::KEPT;
use forebay_record::Stamp;
use forebay_runtime::seam::{Monotonic, WallMs};

/// An orderly stop saves up to five batches with a cut, whatever the window is; the next process may have another
/// one.
#[test]
fn what_an_earlier_start_has_cut_is_sent_within_the_window_of_this_one() {
    let (now, wall, via) = (Monotonic(1), WallMs(1), (NodeId(0), false));
    for max_inflight in [1, 2, 5] {
        let mut window = PartitionWindow::default();
        for sequence in 0..5 {
            let new = NewBatch { serial: sequence as u64, count: 1, newest: 1, old: true, group: None };
            window.restored(new, Stamp { producer_id: 7, epoch: 0, sequence }, false);
        }
        let identity = None;
        let terms = StepTerms { rules: &KEPT, now, wall, acks: -1, identity, max_inflight, durable: 0, restored: 0 };
        assert_eq!(window.step(None, &terms), Some(Step::Send(0)));
        window.sent(0, via, wall, &KEPT);
        assert_eq!(window.step(None, &terms), None, "alone, until it is taken");
        window.answered(0, Verdict::Done, (false, false), now, &KEPT);
        let mut under_way = 0;
        while let Some(Step::Send(place)) = window.step(None, &terms) {
            window.sent(place, via, wall, &KEPT);
            under_way += 1;
        }
        assert_eq!(under_way, max_inflight.min(4));
    }
}

#[test]
fn sequences_go_round() {
    assert!(precedes(3, 4) && !precedes(4, 3) && !precedes(4, 4));
    assert!(precedes(i32::MAX, 0) && !precedes(0, i32::MAX));
    assert_eq!(sequence_after(0, 10), 10);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 3, 10), 6);
}
