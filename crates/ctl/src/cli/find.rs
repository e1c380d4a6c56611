//! Which command was meant: names, unique prefixes, and advice when there is none.

use super::flag::{Flag, Kind};
use super::tree::Command;

/// A command with all that stands above it, and the words that are left for it.
pub(crate) struct Found {
    /// From the program itself down to the command.
    pub(crate) path: Vec<&'static Command>,
    /// The arguments, flags included.
    pub(crate) words: Vec<Vec<u8>>,
}

impl Found {
    /// The command itself.
    pub(crate) fn command(&self) -> &'static Command {
        self.path[self.path.len() - 1]
    }

    /// The flags it inherits: those of its ancestors that reach down.
    pub(crate) fn inherited(&self) -> Vec<&'static Flag> {
        inherited(&self.path)
    }

    /// All flags it understands.
    pub(crate) fn flags(&self) -> Vec<&'static Flag> {
        let own = self.command();
        let mut flags: Vec<_> = own.flags.iter().chain(own.persistent).chain([&super::flag::HELP]).collect();
        flags.extend(self.inherited());
        flags
    }
}

fn inherited(path: &[&'static Command]) -> Vec<&'static Flag> {
    path[..path.len() - 1].iter().flat_map(|above| above.persistent).collect()
}

/// Walks down the tree as far as the words name commands.
///
/// # Errors
/// cobra's text when the first word is no command.
pub(crate) fn find(root: &'static Command, words: &[Vec<u8>]) -> Result<Found, String> {
    let mut found = Found { path: vec![root], words: words.to_vec() };
    loop {
        let command = found.command();
        let flags = found.flags();
        let Some(at) = first_plain(&found.words, &flags) else { return Ok(found) };
        let word = String::from_utf8_lossy(&found.words[at]).into_owned();
        match child(command, &word) {
            Some(next) => {
                found.words.remove(at);
                found.path.push(next);
            }
            None if found.path.len() == 1 => return Err(unknown(root, &word)),
            None => return Ok(found),
        }
    }
}

/// The sub-command of that name, or the only one whose name begins so.
fn child(command: &'static Command, word: &str) -> Option<&'static Command> {
    if let Some(exact) = command.children.iter().find(|child| child.name == word) {
        return Some(exact);
    }
    let mut alike = command.children.iter().filter(|child| child.name.starts_with(word));
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Where the first word stands that is neither a flag nor a flag's value.
fn first_plain(words: &[Vec<u8>], flags: &[&'static Flag]) -> Option<usize> {
    let takes_value = |matches: &dyn Fn(&Flag) -> bool| {
        flags.iter().find(|flag| matches(flag)).is_none_or(|flag| flag.kind != Kind::Bool)
    };
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == b"--" {
            return None;
        } else if let Some(long) = word.strip_prefix(b"--") {
            let skips = !long.contains(&b'=') && takes_value(&|flag: &Flag| flag.name.as_bytes() == long);
            at += if skips { 2 } else { 1 };
        } else if word.len() > 1 && word[0] == b'-' {
            let skips = word.len() == 2 && takes_value(&|flag: &Flag| flag.short == Some(char::from(word[1])));
            at += if skips { 2 } else { 1 };
        } else if word.is_empty() {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

/// The text for a word that names no command, with the commands it may have meant.
fn unknown(root: &Command, word: &str) -> String {
    let mut text = format!("unknown command {} for \"{}\"", crate::go::quote::quote(word.as_bytes()), root.name);
    let alike: Vec<&str> = root
        .children
        .iter()
        .map(|child| child.name)
        .filter(|name| distance(word, name) <= 2 || name.to_lowercase().starts_with(&word.to_lowercase()))
        .collect();
    if !alike.is_empty() {
        text.push_str("\n\nDid you mean this?\n");
        for name in alike {
            text.push_str(&format!("\t{name}\n"));
        }
    }
    text
}

/// How many letters must be added, dropped or changed to make one word the other, letter case aside.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.chars().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tree::ROOT;

    fn names(line: &str) -> Result<(String, Vec<String>), String> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let found = find(&ROOT, &words)?;
        let path = found.path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
        Ok((path, found.words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()))
    }

    #[test]
    fn flags_and_their_values_are_passed_over() {
        let found = names("--endpoints x --hex get --prefix a").unwrap();
        assert_eq!(found.0, "etcdctl get");
        assert_eq!(found.1, ["--endpoints", "x", "--hex", "--prefix", "a"]);
        assert_eq!(names("mem li -w json").unwrap().0, "etcdctl member list");
        assert_eq!(names("member bogus").unwrap(), ("etcdctl member".into(), vec!["bogus".into()]));
    }

    #[test]
    fn an_unknown_command_gets_advice() {
        assert_eq!(names("bogus").unwrap_err(), "unknown command \"bogus\" for \"etcdctl\"");
        assert_eq!(
            names("gets").unwrap_err(),
            "unknown command \"gets\" for \"etcdctl\"\n\nDid you mean this?\n\tdel\n\tget\n\tput\n"
                .replace("\tdel\n", "")
                .replace("\tput\n", "")
        );
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
