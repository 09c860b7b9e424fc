use super::*;

const ALL: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn sample(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|i| if i % 7 == 0 { rng.u8(..) } else { (i / 50) as u8 }).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn encoder(codec: Codec, input_max: usize) -> Encoder {
    Encoder::new(codec, None, input_max).expect("a codec")
}

fn plain_of(codec: Codec, body: &[u8], len_max: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    decompress(codec, body, len_max, &mut plain).map(|()| plain)
}

#[test]
fn the_same_encoder_packs_batch_after_batch_and_takes_no_more_memory() {
    for codec in ALL {
        let mut encoder = encoder(codec, 300_000);
        let memory = encoder.memory();
        for (i, len) in [200usize, 32_768, 65_535, 65_536, 65_537, 131_073, 300_000, 300].into_iter().enumerate() {
            let plain = sample(len, i as u64);
            let packed = encoder.compress(&plain).expect("it shrinks").to_vec();
            assert_eq!(plain_of(codec, &packed, len).as_ref(), Some(&plain), "{codec:?} {len}");
            assert_eq!(plain_of(codec, &packed, len - 1), None, "{codec:?} {len}: bound");
        }
        assert_eq!(encoder.memory(), memory, "{codec:?}");
    }
}

#[test]
fn what_does_not_shrink_is_left_as_it_is() {
    for codec in ALL {
        for len in [1, 3, 20, 200_000] {
            let mut encoder = encoder(codec, len);
            let memory = encoder.memory();
            assert_eq!(encoder.compress(&noise(len)), None, "{codec:?} {len}");
            assert_eq!(encoder.memory(), memory, "{codec:?}: no growth");
            // The next input is not affected.
            let plain = vec![b'x'; 5000];
            let packed = encoder.compress(&plain).expect("it shrinks").to_vec();
            assert_eq!(plain_of(codec, &packed, 5000), Some(plain), "{codec:?}");
        }
    }
}

#[test]
fn every_level_can_be_read_and_its_memory_is_known_from_the_start() {
    let plain = sample(200_000, 1);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (min, max, usual) = codec.levels().expect("levels");
        assert!((min..=max).contains(&usual));
        for level in min..=max {
            let mut encoder = Encoder::new(codec, Some(level), plain.len()).expect("a codec");
            for len in [1000, 16_384, 100_000, 131_072, 150_000, 200_000] {
                let packed = encoder.compress(&plain[..len]).expect("it shrinks").to_vec();
                assert_eq!(plain_of(codec, &packed, len).as_deref(), Some(&plain[..len]), "{codec:?} {level}");
                if let Engine::Zstd(context) = &encoder.engine {
                    assert!(context.sizeof() <= encoder.engine_bytes, "{level} {len}");
                }
            }
        }
    }
    let at = |level| Encoder::new(Codec::Zstd, level, 200_000).and_then(|mut e| e.compress(&plain).map(<[u8]>::len));
    assert!(at(Some(15)) < at(None), "more effort, less left");
    assert_eq!((at(Some(99)), at(Some(-5))), (at(Some(19)), at(Some(1))), "clamped");
}

#[test]
fn the_lz4_frame_is_one_that_java_reads() {
    let mut lz4 = encoder(Codec::Lz4, 1000);
    lz4.compress(b"warm warm warm warm warm warm warm warm warm");
    let frame = lz4.compress(&sample(1000, 1)).expect("a frame");
    assert_eq!(&frame[..4], &0x184D_2204u32.to_le_bytes());
    // FLG: version 01, blocks independent, no block checksum, no content size, no content checksum, no dictionary.
    assert_eq!(frame[4], 0b0110_0000);
    // BD: 64 KiB.
    assert_eq!(frame[5], 0x40);
    assert_eq!(&frame[frame.len() - 4..], &[0; 4], "end mark");
}

#[test]
fn the_snappy_stream_is_xerials() {
    let plain = vec![b'a'; 40_000];
    let mut snappy = encoder(Codec::Snappy, plain.len());
    let stream = snappy.compress(&plain).expect("a stream").to_vec();
    assert_eq!(&stream[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let len = u32::from_be_bytes([stream[16], stream[17], stream[18], stream[19]]) as usize;
    let first = snap::raw::Decoder::new().decompress_vec(&stream[20..20 + len]).expect("a block");
    assert_eq!(first.len(), 32 * 1024);
    let second = snap::raw::Decoder::new().decompress_vec(&stream[24 + len..]).expect("a block");
    assert_eq!(first.len() + second.len(), plain.len());
    assert!(snap::raw::max_compress_len(32 * 1024) + 20 <= snappy::BLOCK_OUT_MAX);
}

#[test]
fn gzip_and_zstd_begin_as_their_standards_say() {
    let plain = sample(3000, 4);
    assert_eq!(encoder(Codec::Gzip, 3000).compress(&plain).expect("it shrinks")[..3], [0x1f, 0x8b, 8]);
    assert_eq!(encoder(Codec::Zstd, 3000).compress(&plain).expect("it shrinks")[..4], 0xFD2F_B528u32.to_le_bytes());
}

#[test]
fn garbage_is_refused_and_reserves_no_more_than_the_bound() {
    for codec in ALL {
        assert_eq!(plain_of(codec, b"not of any codec at all", 100), None, "{codec:?}");
        let mut encoder = encoder(codec, 500);
        let whole = encoder.compress(&sample(500, 2)).expect("it shrinks").to_vec();
        for cut in 1..whole.len() - 8 {
            assert_ne!(plain_of(codec, &whole[..cut], 500), Some(sample(500, 2)), "{codec:?} {cut}");
        }
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..300 {
            let mut bad = whole.clone();
            let at = rng.usize(..bad.len());
            bad[at] ^= rng.u8(1..);
            let mut plain = Vec::new();
            let _ = decompress(codec, &bad, 500, &mut plain);
            assert!(plain.capacity() <= 1100, "{codec:?} {}", plain.capacity());
        }
    }
    // A bomb: a megabyte of zeros in a few bytes.
    for codec in ALL {
        let bomb = encoder(codec, 1 << 20).compress(&vec![0; 1 << 20]).expect("it shrinks").to_vec();
        assert_eq!(plain_of(codec, &bomb, 10_000), None, "{codec:?}");
    }
}

#[test]
fn a_codec_and_level_has_one_encoder_however_many_ask() {
    let wanted = [(Codec::Lz4, None), (Codec::None, None), (Codec::Lz4, None), (Codec::Zstd, Some(1))];
    let mut codecs = Codecs::new(wanted.into_iter(), 1000);
    assert_eq!(codecs.encoders.len(), 2);
    assert_eq!(codecs.encoder(Codec::Zstd, Some(1)).map(|encoder| encoder.codec()), Some(Codec::Zstd));
    assert!(codecs.encoder(Codec::Zstd, None).is_none());
    assert!(codecs.encoder(Codec::None, None).is_none());
    assert!(Codecs::default().is_empty() && Codecs::default().memory() == 0);
}
