//! Numbers for people.

/// `1.23 M`, `45.6 k`, `789`.
pub(crate) fn count(value: f64) -> String {
    match value.abs() {
        size if size >= 9.995e8 => format!("{:.2} G", value / 1e9),
        size if size >= 999_500.0 => format!("{:.2} M", value / 1e6),
        size if size >= 9_999.5 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// `850 µs`, `1.25 ms`, `3.10 s`.
pub(crate) fn time_us(us: u64) -> String {
    match us {
        0..=999 => format!("{us} µs"),
        1_000..=999_999 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// `512 B`, `1.2 KiB`, `3.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..=1023 => format!("{count} B"),
        1024..=1_048_575 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", count as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 12.34, 999.0, 45_600.0, 1_230_000.0].map(count),
            ["0", "0.250", "12.3", "999", "45.6 k", "1.23 M"]
        );
        assert_eq!([850, 1_250, 3_100_000].map(time_us), ["850 µs", "1.25 ms", "3.10 s"]);
        assert_eq!([512, 1_229, 3_565_158].map(bytes), ["512 B", "1.2 KiB", "3.4 MiB"]);
    }
}
