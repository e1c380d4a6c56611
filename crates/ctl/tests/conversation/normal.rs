//! Making two conversations comparable: ids, addresses in memory, times and log lines' places.

/// The text with everything that differs from run to run replaced; `loose` replaces all numbers.
pub(crate) fn text(text: &str, loose: bool) -> String {
    let mut lines: Vec<String> = text.lines().map(|text| line(text, loose)).collect();
    // Log lines of parallel work have no order.
    if lines.iter().all(|line| line.starts_with("{\"level\"")) {
        lines.sort();
    }
    let mut text = lines.join("\n");
    if loose {
        text = text.replace("µs", "ms");
        while text.contains("  ") || text.contains("--") {
            text = text.replace("  ", " ").replace("--", "-");
        }
    }
    text
}

fn line(text: &str, loose: bool) -> String {
    let mut text = if text.starts_with("{\"level\"") { log_line(text) } else { text.to_owned() };
    // As for help pages: our version is a later one.
    text = text.replace("3.5.21", "3.5.1");
    for (before, end) in [("took = ", ""), ("\"took\":\"", "\""), ("\"Took\" : ", "")] {
        text = replace_after(&text, before, end);
    }
    ids(&text, loose)
}

/// A log line without its time, its memory address, and its stack.
fn log_line(text: &str) -> String {
    let mut text = replace_after(text, "\"ts\":", ",");
    text = replace_after(&text, "etcd-endpoints://0x", "/");
    text = replace_after(&text, "\"took\":\"", "\"");
    match text.find(",\"stacktrace\":") {
        Some(at) => text[..at].to_owned() + "}",
        None => text,
    }
}

/// Replaces what stands between `before` and `end` (or the end of the line).
fn replace_after(text: &str, before: &str, end: &str) -> String {
    let Some(at) = text.find(before) else { return text.to_owned() };
    let from = at + before.len();
    let len = if end.is_empty() { text[from..].len() } else { text[from..].find(end).unwrap_or(text[from..].len()) };
    format!("{}*{}", &text[..from], &text[from + len..])
}

/// Replaces long numbers, decimal or hexadecimal: lease ids.
fn ids(text: &str, loose: bool) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        let digits = run.chars().all(|c| c.is_ascii_digit());
        match run.len() {
            13.. => out.push_str("ID"),
            1.. if loose && digits => out.push('N'),
            _ => out.push_str(&run),
        }
        run.clear();
        if c != '\0' || !text.is_empty() {
            out.push(c);
        }
    }
    out.pop();
    out
}
