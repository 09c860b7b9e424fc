//! What has been read means the same after it has been written and read again, and is written the same from then on.
#![no_main]

use forebay_fuzz::mqtt::encode;
use forebay_fuzz::{connection, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let (version, sender) = connection(first);
    let Some((packet, _)) = read(version, sender, bytes) else { return };
    let mut written = Vec::new();
    encode::packet(version, &packet, &mut written).expect("what was read can be said");
    let (second, len) = read(version, sender, &written).expect("well formed");
    assert_eq!(second, packet);
    assert_eq!(len, written.len());
    let mut again = Vec::new();
    encode::packet(version, &second, &mut again).expect("what was read can be said");
    assert_eq!(again, written);
});
