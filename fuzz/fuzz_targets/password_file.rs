//! A password file: what is read of it can be found again, and a password never fits because its line is broken.
#![no_main]

use forebay_fuzz::auth::Users;
use forebay_fuzz::auth::password::Stored;
use forebay_fuzz::edits::edited;
use forebay_fuzz::secure::is_identity;
use libfuzzer_sys::fuzz_target;

/// The password of each is `one`, but for those that no password fits.
const VALID: &str = "# devices\n\
    quick:$6$c2FsdHNhbHRzYWx0$\
    AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ==\n\
    old:$7$101$MavqqpE2gfo1n4VR$\
    mFZAp2VWQiGPhWi5JVfWIO8jRCut00T8eF251/SdScO4dk/xcz7flBXITHlVto72EjtnJqkUjxLraPTZd3WTaA==\n\
    new:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n\
    device:SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0$\
    AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n";
const WORDS: &[&[u8]] =
    &[b"$", b":", b"\n", b"$6$", b"$7$", b"4294967296", b"m=65536,t=10,p=16", b"=", b"\r", b"\0", b"user:", b"-1"];

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let bytes = if first % 4 == 0 { rest.to_vec() } else { edited(VALID.as_bytes(), rest, WORDS) };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    let Ok(users) = Users::parse_alone(text) else { return };
    let mut count = 0;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, hash) = line.split_once(':').expect("each line is read");
        let user = users.get(name).expect("each user is found");
        assert!(is_identity(name));
        assert!(Stored::parse(hash).is_ok_and(|stored| stored == *user.stored));
        assert!(!user.stored.is_quick() || !user.stored.matches(b"") && !user.stored.decoy().matches(b""));
        assert!(!format!("{user:?}").contains(hash.rsplit(['$', ':']).next().expect("some")));
        count += 1;
    }
    assert_eq!(users.len(), count, "none twice, none lost");
});
