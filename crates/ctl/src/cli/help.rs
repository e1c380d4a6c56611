//! Help pages, laid out in tabs as etcdctl prints them.

use super::find::Found;
use super::flag::{Flag, HELP, Kind};
use super::tree::Command;

/// The version whose behaviour this program has: the server's.
pub(crate) const VERSION: &str = "3.5.21";
/// The version of the API it speaks.
pub(crate) const API_VERSION: &str = "3.5";

/// The help page of a command.
pub(crate) fn page(found: &Found) -> String {
    let command = found.command();
    let is_root = found.path.len() == 1;
    let name = names(&found.path[usize::from(!is_root)..]);
    let mut page = format!("NAME:\n\t{name} - {}\n\n", command.short);
    page.push_str(&format!("USAGE:\n\t{}\n\n", usage(found)));
    if is_root {
        page.push_str(&format!("VERSION:\n\t{VERSION}\n\n"));
    }
    if !command.children.is_empty() {
        page.push_str(&format!("API VERSION:\n\t{API_VERSION}\n\n\nCOMMANDS:\n"));
        let listed = leaves(command, "");
        page.push_str(&columns(listed.iter().map(|(name, short)| (format!("\t{name}"), *short))));
        page.push('\n');
    }
    if !command.long.is_empty() {
        page.push_str("DESCRIPTION:\n");
        for line in command.long.lines() {
            page.push_str(&format!("\t{line}\n"));
        }
        page.push('\n');
    }
    let own = command.flags.iter().chain(command.persistent).collect();
    page.push_str("OPTIONS:\n");
    page.push_str(&options(own, Some(command.name)));
    page.push('\n');
    if !is_root {
        page.push_str("GLOBAL OPTIONS:\n");
        page.push_str(&options(found.inherited(), None));
        page.push('\n');
    }
    page
}

fn usage(found: &Found) -> String {
    let mut line = names(&found.path);
    let arguments = found.command().arguments;
    if !arguments.is_empty() {
        line.push_str(&format!(" {arguments}"));
    }
    line.push_str(" [flags]");
    line
}

fn names(path: &[&Command]) -> String {
    path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// The commands below, those that do something, by their whole names.
fn leaves(command: &'static Command, above: &str) -> Vec<(String, &'static str)> {
    let mut children: Vec<&Command> = command.children.iter().collect();
    children.sort_by_key(|child| child.name);
    children
        .into_iter()
        .flat_map(|child| {
            let name = format!("{above}{}", child.name);
            if child.children.is_empty() { vec![(name, child.short)] } else { leaves(child, &format!("{name} ")) }
        })
        .collect()
}

fn options(mut flags: Vec<&Flag>, help_of: Option<&str>) -> String {
    let help_usage = help_of.map(|name| format!("help for {name}"));
    if help_of.is_some() {
        flags.push(&HELP);
    }
    flags.sort_by_key(|flag| flag.name);
    columns(flags.into_iter().map(|flag| {
        let usage = if flag.name == HELP.name { help_usage.as_deref().unwrap_or_default() } else { flag.usage };
        let short = flag.short.map_or("    ".into(), |short| format!("-{short}, "));
        (format!("  {short}--{}{}", flag.name, default(flag)), usage)
    }))
}

fn default(flag: &Flag) -> String {
    match flag.kind {
        Kind::Bool => format!("[={}]", flag.default),
        Kind::Text => format!("=\"{}\"", flag.default),
        Kind::List => format!("=[{}]", flag.default),
        Kind::Int | Kind::Duration => format!("={}", flag.default),
    }
}

/// Two columns, the second aligned with tabs of eight; a leading tab of the first is a column of its own.
fn columns<'a>(rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let rows: Vec<(String, &str)> = rows.collect();
    let width = |first: &str| first.trim_start_matches('\t').chars().count();
    let column = rows.iter().map(|(first, _)| width(first) + 1).max().unwrap_or(0).div_ceil(8) * 8;
    rows.iter()
        .map(|(first, second)| {
            let tabs = "\t".repeat((column - width(first)).div_ceil(8));
            format!("{first}{tabs}{second}\n")
        })
        .collect()
}
