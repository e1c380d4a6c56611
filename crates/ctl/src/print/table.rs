//! The table format: boxes drawn in ASCII, numbers to the right, headings in capitals.

use eyrie_api::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};

use super::{Health, Printer, rows};
use crate::exit::Done;
use crate::screen;

/// See the module.
pub(super) struct Table;

impl Printer for Table {
    fn format(&self) -> &'static str {
        "table"
    }

    fn member_list(&self, reply: &MemberListResponse) -> Done {
        show(&rows::MEMBER_HEAD, &rows::members(reply))
    }

    fn health(&self, healths: &[Health]) -> Done {
        show(&rows::HEALTH_HEAD, &rows::healths(healths))
    }

    fn status(&self, statuses: &[(String, StatusResponse)]) -> Done {
        show(&rows::STATUS_HEAD, &rows::statuses(statuses))
    }

    fn hash_kv(&self, hashes: &[(String, HashKvResponse)]) -> Done {
        show(&rows::HASH_HEAD, &rows::hashes(hashes))
    }
}

fn show(head: &[&str], rows: &[Vec<String>]) -> Done {
    screen::out(draw(head, rows));
    Ok(())
}

/// Draws a table.
fn draw(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| width(&row[column])).chain([width(head[column])]).max().unwrap_or(0))
        .collect();
    let mut rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    rule.push_str("+\n");
    let mut drawn = rule.clone();
    for (title, width) in head.iter().zip(&widths) {
        let spare = width - title.chars().count();
        // An odd blank goes to the right.
        let left = spare / 2;
        drawn.push_str(&format!("| {}{}{} ", " ".repeat(left), title.to_uppercase(), " ".repeat(spare - left)));
    }
    drawn.push_str("|\n");
    drawn.push_str(&rule);
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            drawn.push_str(&format!("| {cell:>width$} "));
        }
        drawn.push_str("|\n");
    }
    if !rows.is_empty() {
        drawn.push_str(&rule);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_as_operators_know_it() {
        let drawn = draw(
            &["endpoint", "health", "took", "error"],
            &[vec!["127.0.0.1:23710".into(), "true".into(), "3.081356ms".into(), String::new()]],
        );
        assert_eq!(
            drawn,
            "\
+-----------------+--------+------------+-------+
|    ENDPOINT     | HEALTH |    TOOK    | ERROR |
+-----------------+--------+------------+-------+
| 127.0.0.1:23710 |   true | 3.081356ms |       |
+-----------------+--------+------------+-------+
"
        );
    }
}
