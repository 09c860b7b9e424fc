//! What comes before the first packet on a listener behind a proxy: the verdict keeps to its bounds, stands when more
//! comes, and is the same for a listener that takes only the version that came.
#![no_main]

use forebay_fuzz::limits::PROXY_V2_BYTES_MAX;
use forebay_fuzz::proxy::{Expect, V1_BYTES_MAX, V2_SIGNATURE, look};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    // Half of them get over the signature, which a fuzzer finds only slowly.
    let (signed, rest) = input;
    let start: &[u8] = if signed { V2_SIGNATURE } else { b"" };
    let bytes = [start, rest].concat();
    let verdict = look(Expect::Any, &bytes);
    match verdict {
        Ok(Some(header)) => {
            let (only, most) =
                if bytes[0] == b'P' { (Expect::V1, V1_BYTES_MAX) } else { (Expect::V2, PROXY_V2_BYTES_MAX) };
            assert!(header.len <= bytes.len().min(most));
            assert_eq!(look(only, &bytes), verdict);
            assert_eq!(look(Expect::Any, &bytes[..header.len]), verdict);
            assert_eq!(look(Expect::Any, &bytes[..header.len - 1]), Ok(None));
        }
        Ok(None) => assert!(bytes.len() < PROXY_V2_BYTES_MAX),
        Err(_) => assert_eq!(look(Expect::Any, &[&bytes[..], b"x"].concat()), verdict),
    }
});
