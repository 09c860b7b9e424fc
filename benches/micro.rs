//! Time of the hot path's pieces: `cargo bench --bench micro`.

mod cases;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn pieces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot path");
    const CALLS: u64 = 1_000;
    group.throughput(Throughput::Elements(CALLS));
    for name in cases::NAMES {
        let Some(mut work) = cases::case(name) else { continue };
        group.bench_function(name, |bencher| bencher.iter(|| work(CALLS)));
    }
    group.finish();
}

/// CRC-32C by length: once over a closed batch against once a record.
fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for bytes in [130_usize, 16 << 10, 256 << 10] {
        let data = vec![0x5a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &data, |bencher, data| {
            bencher.iter(|| crc32c::crc32c(data));
        });
    }
    group.finish();
}

/// Appending what a batch holds to a file, as the logs do: without a sync, which is the disk's time and not ours.
fn log_append(criterion: &mut Criterion) {
    use std::io::{Seek, Write};
    let mut group = criterion.benchmark_group("log append");
    for bytes in [16_usize << 10, 256 << 10] {
        let data = vec![0x5a; bytes];
        let mut file = tempfile::tempfile().unwrap();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &data, |bencher, data| {
            let mut written = 0;
            bencher.iter(|| {
                file.write_all(data).unwrap();
                written += data.len();
                // The page cache is not what is measured: the same 64 MiB again and again.
                if written > 64 << 20 {
                    file.rewind().unwrap();
                    written = 0;
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pieces, crc, log_append);
criterion_main!(benches);
