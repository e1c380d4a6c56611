//! `--help`: the table of flags for eyes.

use super::flags::{Flag, Kind, Meaning, SECTIONS};

/// The whole help.
pub(super) fn text(program: &str) -> String {
    let mut text = format!(
        "Usage:\n\n  {program} [flags]\n    Start a member that etcd's clients can use.\n\n  {program} --config-file FILE\n    \
         Read everything from a YAML or JSON file instead.\n\n  {program} --version\n    Show the version.\n\n\
         Every flag can be given with one dash or two, and as a variable: --data-dir is ETCD_DATA_DIR.\n\
         Flags of etcd that are not listed are accepted without effect, or refused with the reason;\n\
         docs/configuration.md has them all.\n"
    );
    for section in SECTIONS {
        let shown: Vec<_> = section.flags.iter().filter_map(|flag| shown(flag).map(|what| (flag, what))).collect();
        if shown.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}:\n", section.title));
        for (flag, what) in shown {
            text.push_str(&format!("  --{} {}\n    {}.\n", flag.name, default(flag), upper(what)));
        }
    }
    text
}

fn shown(flag: &Flag) -> Option<&'static str> {
    match flag.meaning {
        Meaning::Here(what) => Some(what),
        _ => None,
    }
}

fn default(flag: &Flag) -> String {
    match flag.kind {
        Kind::Bool | Kind::Int | Kind::Uint | Kind::Duration if !flag.default.is_empty() => flag.default.to_string(),
        _ => format!("'{}'", flag.default),
    }
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
