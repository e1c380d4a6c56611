//! The output formats: one row of named figures, in the five ways of `--write-out`.

use super::failure::Failure;
use super::parse::Parsed;
use crate::screen::out;

/// A figure with its name in each format.
pub(super) struct Figure {
    /// In a table's head.
    pub(super) head: &'static str,
    /// In `fields`.
    pub(super) field: &'static str,
    /// In `json`.
    pub(super) json: &'static str,
    /// As a number.
    pub(super) number: i128,
    /// For people.
    pub(super) text: String,
}

/// Which format was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Fields,
    Json,
    Table,
    Protobuf,
}

impl Format {
    pub(super) fn of(parsed: &Parsed) -> Result<Self, Failure> {
        match parsed.text("write-out") {
            "simple" => Ok(Self::Simple),
            "fields" => Ok(Self::Fields),
            "json" => Ok(Self::Json),
            "table" => Ok(Self::Table),
            "protobuf" => Ok(Self::Protobuf),
            _ => Err(Failure::feature("unsupported output format")),
        }
    }

    /// Prints the figures.
    pub(super) fn print(self, figures: &[Figure]) -> Result<(), Failure> {
        let text = match self {
            Self::Simple => join(figures, ", ", |f| f.text.clone()),
            Self::Fields => join(figures, "\n", |f| format!("\"{}\" : {}", f.field, f.number)),
            Self::Json => format!("{{{}}}", join(figures, ",", |f| format!("\"{}\":{}", f.json, f.number))),
            Self::Table => table(figures),
            Self::Protobuf => return Err(Failure::feature("protobuf not supported as output format")),
        };
        out(&format!("{text}\n"));
        Ok(())
    }
}

fn table(figures: &[Figure]) -> String {
    let widths: Vec<usize> = figures.iter().map(|f| f.head.len().max(f.text.len())).collect();
    let line = format!("+{}+", widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("+"));
    let row = |cell: &dyn Fn(&Figure, usize) -> String| {
        let cells: Vec<String> = figures.iter().zip(&widths).map(|(figure, width)| cell(figure, *width)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let head = row(&|figure, width| {
        let gap = width - figure.head.len();
        format!("{}{}{}", " ".repeat(gap.div_ceil(2)), figure.head, " ".repeat(gap / 2))
    });
    format!("{line}\n{head}\n{line}\n{}\n{line}", row(&|figure, width| format!("{:>width$}", figure.text)))
}

fn join(figures: &[Figure], between: &str, text: impl Fn(&Figure) -> String) -> String {
    figures.iter().map(text).collect::<Vec<_>>().join(between)
}

/// A size as go-humanize words it: `20 kB`, `1.2 MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let unit = (bytes as f64).log(1000.0).floor();
    let value = (bytes as f64 / 1000f64.powf(unit) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[(unit as usize).min(UNITS.len() - 1)];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_worded_as_upstream_words_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (20_480, "20 kB"),
            (1_234_567, "1.2 MB"),
            (28_377_088, "28 MB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
