//! Java's partitioner for keyed records: `toPositive(murmur2(key)) % partitions`
//! (`org.apache.kafka.common.utils.Utils.murmur2`, `BuiltInPartitioner.partitionForKey`).

/// Kafka's murmur2: 32 bits, seed 0x9747b28c, words little-endian.
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (i, byte) in tail.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * i);
        if i == 0 {
            hash = hash.wrapping_mul(M);
        }
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a key among `partitions`; 0 if there are none.
#[must_use]
pub fn partition(key: &[u8], partitions: usize) -> usize {
    partition_of(murmur2(key).cast_unsigned(), partitions)
}

/// Like [`partition`], for a known hash.
#[must_use]
pub fn partition_of(hash: u32, partitions: usize) -> usize {
    ((hash & (u32::MAX >> 1)) as usize).checked_rem(partitions).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_kafkas_utils_test() {
        for (key, hash) in [
            (&b"21"[..], -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn the_sign_is_masked_and_not_negated() {
        assert_eq!(partition(b"21", 12), ((-973_932_308i32 & 0x7fff_ffff) % 12) as usize);
        assert_eq!(partition(b"x", 1), 0);
        assert_eq!(partition(b"x", 0), 0);
    }
}
