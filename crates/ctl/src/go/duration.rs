//! Durations as Go writes (`2.344209ms`) and reads (`1h2m3.5s`) them.

use std::time::Duration;

use super::quote::quote;

/// The text of a duration: the largest unit first, no trailing zeros, `0s` for none.
pub(crate) fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            let minutes = nanos / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Reads a duration; a negative one counts as none.
///
/// # Errors
/// The text of Go's `time.ParseDuration` error.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text.as_bytes()));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..number_len];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        rest = &rest[number_len..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        rest = &rest[unit_len..];
        let scale = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quote(text.as_bytes()))),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(unit.as_bytes()),
                    quote(text.as_bytes())
                ));
            }
        };
        nanos += number.parse::<f64>().map_err(|_| invalid())? * scale;
        if nanos > i64::MAX as f64 {
            return Err(invalid());
        }
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanos.round() as u64) })
}

/// `value / unit` in decimals without trailing zeros.
fn decimal(value: u128, unit: u128) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let width = unit.to_string().len() - 1;
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", value / unit, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let told: Vec<String> = [
            0,
            7,
            1_500,
            872_324,
            2_344_209,
            5_000_577_420,
            1_000_000_000,
            61_500_000_000,
            3_600_000_000_000,
            3_723_000_000_000,
        ]
        .map(|nanos| text(Duration::from_nanos(nanos)))
        .to_vec();
        assert_eq!(
            told,
            ["0s", "7ns", "1.5µs", "872.324µs", "2.344209ms", "5.00057742s", "1s", "1m1.5s", "1h0m0s", "1h2m3s"]
        );
    }

    #[test]
    fn durations_are_read_as_go_does() {
        assert_eq!(parse("1h2m3.5s"), Ok(Duration::from_millis(3_723_500)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("-1s"), Ok(Duration::ZERO));
        assert_eq!(parse("1"), Err("time: missing unit in duration \"1\"".into()));
        assert_eq!(parse("xx"), Err("time: invalid duration \"xx\"".into()));
        assert_eq!(parse("1q"), Err("time: unknown unit \"q\" in duration \"1q\"".into()));
        assert_eq!(parse(""), Err("time: invalid duration \"\"".into()));
    }
}
