mod explore;
mod log;
mod world;

use super::{precedes, sequence_after};

#[test]
fn sequences_go_round() {
    assert!(precedes(3, 4) && !precedes(4, 3) && !precedes(4, 4));
    assert!(precedes(i32::MAX, 0) && !precedes(0, i32::MAX));
    assert_eq!(sequence_after(0, 10), 10);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 3, 10), 6);
}
