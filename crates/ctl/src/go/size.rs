//! Sizes and ages for people, as go-humanize words them.

use std::time::Duration;

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A size in decimal units: `9 B`, `20 kB`, `6.0 MB`.
pub(crate) fn bytes(size: u64) -> String {
    if size < 10 {
        return format!("{size} B");
    }
    let mut power = 0;
    let mut scale = 1u64;
    while power + 1 < UNITS.len() && size / scale >= 1000 {
        scale *= 1000;
        power += 1;
    }
    let value = (size as f64 / scale as f64 * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[power]) } else { format!("{value:.0} {}", UNITS[power]) }
}

/// How long ago something began: `now`, `1 second ago`, `5 minutes ago`.
pub(crate) fn ago(took: Duration) -> String {
    let secs = took.as_secs();
    match secs {
        0 => "now".into(),
        1 => "1 second ago".into(),
        2..=59 => format!("{secs} seconds ago"),
        60..=119 => "1 minute ago".into(),
        120..=3599 => format!("{} minutes ago", secs / 60),
        3600..=7199 => "1 hour ago".into(),
        _ => format!("{} hours ago", secs / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_and_short() {
        let told: Vec<String> =
            [0, 9, 10, 999, 1000, 9_999, 20_480, 25_000, 82_854_982, 6_000_000, 1_500_000_000].map(bytes).to_vec();
        assert_eq!(
            told,
            ["0 B", "9 B", "10 B", "999 B", "1.0 kB", "10 kB", "20 kB", "25 kB", "83 MB", "6.0 MB", "1.5 GB"]
        );
    }

    #[test]
    fn ages_round_down() {
        let told: Vec<String> =
            [0, 1, 2, 59, 60, 119, 120, 3600, 7300].map(|secs| ago(Duration::from_secs(secs))).to_vec();
        assert_eq!(
            told,
            [
                "now",
                "1 second ago",
                "2 seconds ago",
                "59 seconds ago",
                "1 minute ago",
                "1 minute ago",
                "2 minutes ago",
                "1 hour ago",
                "2 hours ago"
            ]
        );
    }
}
