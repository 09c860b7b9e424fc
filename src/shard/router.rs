//! Client id to owning shard. The hash is part of the product: it must give the same answer in every version, on every
//! machine, because other shards, and later other instances, rely on it. The golden test below pins it.

use xxhash_rust::xxh3::xxh3_64;

/// The shard that owns a client id: xxh3 (64 bits, seed 0) of its UTF-8 bytes, modulo the number of shards.
#[must_use]
pub fn owner(client_id: &str, shards: usize) -> usize {
    let shards = shards.max(1) as u64;
    usize::try_from(xxh3_64(client_id.as_bytes()) % shards).unwrap_or(0)
}

/// Names a client that came without an id [MQTT-3.1.3-6], so that the shard that has its connection owns it: no socket moves for a name
/// that we choose ourselves. 96 random bits; after that many tries the last name is taken as it is.
pub fn name(shard: usize, shards: usize, mut random: impl FnMut() -> u64) -> String {
    let mut name = String::new();
    for _ in 0..64 * shards {
        name = format!("forebay-{:016x}{:08x}", random(), random() & 0xffff_ffff);
        if owner(&name, shards) == shard {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_pinned() {
        // xxh3 of the empty input, as the algorithm's own documents give it.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let golden = [("", 4), ("a", 1), ("dev-1", 6), ("sensor/berlin/42", 3), ("Grüße", 1), ("forebay", 3)];
        let at_7: Vec<_> = golden.iter().map(|(id, _)| (*id, owner(id, 7))).collect();
        assert_eq!(at_7, golden.to_vec());
    }

    #[test]
    fn one_shard_owns_everything_and_many_share_evenly() {
        assert_eq!(owner("anything", 1), 0);
        let mut counts = [0u32; 8];
        for i in 0..80_000 {
            counts[owner(&format!("device-{i}"), 8)] += 1;
        }
        assert!(counts.iter().all(|c| (9_400..10_600).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_name_we_choose_belongs_to_the_shard_that_chose_it() {
        let mut random = fastrand::Rng::with_seed(7);
        for shard in 0..5 {
            let name = name(shard, 5, || random.u64(..));
            assert_eq!(owner(&name, 5), shard);
            assert!(name.len() <= 40 && name.is_ascii());
        }
    }
}
