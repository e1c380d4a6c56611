//! Help pages, laid out as cobra does.

use super::tree::{Flag, Kind, Path, WRITE_OUT};

/// The page of a command: usage, subcommands, flags.
pub(super) fn page(program: &str, path: &Path) -> String {
    let command = path.command();
    let full_name = format!("{program}{}", path.names());
    let mut page = "Usage:\n".to_owned();
    if command.commands.is_empty() {
        let flags = if command.hidden { "" } else { " [flags]" };
        page += &format!("  {full_name}{}{flags}\n", command.usage);
    } else {
        page += &format!("  {full_name} [command]\n\nAvailable Commands:\n");
        for sub in command.commands.iter().filter(|sub| !sub.hidden) {
            page += &format!("  {:11} {}\n", sub.name, sub.short);
        }
    }
    let name = command.name;
    let help_usage = if path.is_root() { format!("help for {program}") } else { format!("help for {name}") };
    let mut lines: Vec<(String, String, &str)> = Vec::new();
    for flag in command.flags.iter().filter(|flag| !flag.hidden) {
        lines.push((left(flag), right(flag), flag.name));
    }
    lines.push(("  -h, --help".into(), help_usage, "help"));
    if path.is_root() {
        lines.push((left(&WRITE_OUT), right(&WRITE_OUT), WRITE_OUT.name));
    }
    lines.sort_by_key(|(_, _, name)| *name);
    page += &format!("\nFlags:\n{}", table(&lines));
    if !path.is_root() {
        page += &format!("\nGlobal Flags:\n{}", table(&[(left(&WRITE_OUT), right(&WRITE_OUT), WRITE_OUT.name)]));
    }
    if !command.commands.is_empty() {
        page += &format!("\nUse \"{full_name} [command] --help\" for more information about a command.\n");
    }
    page
}

fn left(flag: &Flag) -> String {
    let short = flag.short.map_or("      ".to_owned(), |short| format!("  -{short}, "));
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Text => " string",
        Kind::Number => " uint",
    };
    format!("{short}--{}{kind}", flag.name)
}

fn right(flag: &Flag) -> String {
    let default = match flag.kind {
        Kind::Text if !flag.default.is_empty() => format!(" (default {:?})", flag.default),
        Kind::Bool if flag.default == "true" => " (default true)".to_owned(),
        _ => String::new(),
    };
    format!("{}{default}", flag.usage)
}

fn table(lines: &[(String, String, &str)]) -> String {
    let width = lines.iter().map(|(left, ..)| left.len()).max().unwrap_or(0);
    lines.iter().map(|(left, right, _)| format!("{left:width$}   {right}\n")).collect()
}
