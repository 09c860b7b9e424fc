//! The first packet of a connection: CONNECT of any version, and in which form its refusal would be told.
#![no_main]

use forebay_fuzz::mqtt::packet::Packet;
use forebay_fuzz::mqtt::{decode, encode, frame};
use forebay_fuzz::{MAXIMUM_PACKET_SIZE, ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(Some(frame)) = frame::next_connect(input, MAXIMUM_PACKET_SIZE) else { return };
    let answer = decode::answer_version(frame.body);
    let Ok(connect) = decode::connect(frame) else { return };
    assert_eq!(answer, Some(connect.version));
    let mut again = Vec::new();
    encode::connect(&connect, &mut again).expect("what was read can be said");
    let frame = frame::next_connect(&again, 2 * MAXIMUM_PACKET_SIZE).expect("a CONNECT").expect("whole");
    assert_eq!(decode::connect(frame).as_ref(), Ok(&connect));
    ask(&Packet::Connect(connect));
});
