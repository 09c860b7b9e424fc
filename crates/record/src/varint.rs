//! Kafka's variable-length integers: zigzag, seven bits a byte, low bits first (as in Protocol Buffers).

/// Bytes that the longest 64-bit number takes.
pub const LEN_MAX: usize = 10;

#[inline]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `value` takes, 1 to 10.
#[inline]
#[must_use]
pub const fn len(value: i64) -> usize {
    // Seven bits a byte, rounded up; `| 1`: zero takes a byte too. A multiplication costs less than a division (up to 64 bits both give the
    // same result).
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    (9 * bits + 64) / 64
}

/// Appends `value`.
#[inline]
pub fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes a number from the front of `input`. `None`: the input ends early, or the number is longer than ten bytes.
#[inline]
pub fn get(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for i in 0..LEN_MAX {
        let byte = *input.get(i)?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            // The tenth byte holds one bit: higher bits would be lost silently.
            if i == LEN_MAX - 1 && byte > 1 {
                return None;
            }
            *input = &input[i + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Takes a 32-bit number from the front of `input`. `None`: as for [`get`], or the number does not fit.
#[inline]
pub fn get_i32(input: &mut &[u8]) -> Option<i32> {
    i32::try_from(get(input)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // KIP-98 uses Protocol Buffers' zigzag; values from Kafka's ByteUtilsTest.
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-8192, &[0xff, 0x7f]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn overlong_and_short_are_refused() {
        assert_eq!(get(&mut &[0x80, 0x80][..]), None);
        assert_eq!(get(&mut &[0xff; 11][..]), None);
        assert_eq!(get(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
        assert_eq!(get_i32(&mut &[0xfe, 0xff, 0xff, 0xff, 0x1f][..]), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, tail: [u8; 3]) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&tail);
            let mut input = &out[..];
            prop_assert_eq!(get(&mut input), Some(value));
            prop_assert_eq!(input, &tail[..]);
        }
    }
}
