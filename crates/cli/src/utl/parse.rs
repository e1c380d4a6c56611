//! Flags and arguments of one command, read as pflag reads them.

use std::collections::BTreeMap;

use super::tree::{Flag, Kind, Path, WRITE_OUT};

/// What was typed behind a command.
#[derive(Debug)]
pub(super) struct Parsed {
    flags: &'static [Flag],
    set: BTreeMap<&'static str, String>,
    pub(super) args: Vec<String>,
}

impl Parsed {
    /// Reads flags wherever they stand, up to `--`. The error is pflag's.
    pub(super) fn read(path: &Path, words: &[String]) -> Result<Self, String> {
        let mut parsed = Self { flags: path.command().flags, set: BTreeMap::new(), args: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                parsed.args.extend(words.cloned());
                break;
            } else if let Some(long) = word.strip_prefix("--") {
                parsed.long(word, long, &mut words)?;
            } else if word.len() > 1 && word.starts_with('-') {
                parsed.shorts(&word[1..], &mut words)?;
            } else {
                parsed.args.push(word.clone());
            }
        }
        Ok(parsed)
    }

    /// The flag was typed.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The flag's text, or its default.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(text) => text,
            None => self.find(name).map_or("", |flag| flag.default),
        }
    }

    /// The flag's truth value.
    pub(super) fn truth(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// The flag's number.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Required flags that were not typed.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        self.flags.iter().filter(|flag| flag.required && !self.is_set(flag.name)).map(|flag| flag.name).collect()
    }

    fn find(&self, name: &str) -> Option<&'static Flag> {
        self.flags.iter().find(|flag| flag.name == name).or((name == WRITE_OUT.name).then_some(&WRITE_OUT))
    }

    fn long<'a>(&mut self, word: &str, body: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<(), String> {
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.starts_with('-') {
            return Err(format!("bad flag syntax: {word}"));
        }
        if name == "help" {
            self.set.insert("help", "true".into());
            return Ok(());
        }
        let flag = self.find(name).ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => words.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?.clone(),
        };
        self.put(flag, value)
    }

    fn shorts<'a>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            if letter == 'h' {
                self.set.insert("help", "true".into());
                continue;
            }
            if Some(letter) != WRITE_OUT.short {
                return Err(format!("unknown shorthand flag: {letter:?} in -{letters}"));
            }
            let tail = &letters[at + letter.len_utf8()..];
            let value = match tail.strip_prefix('=').or((!tail.is_empty()).then_some(tail)) {
                Some(value) => value.to_owned(),
                None => {
                    words.next().ok_or_else(|| format!("flag needs an argument: {letter:?} in -{letters}"))?.clone()
                }
            };
            return self.put(&WRITE_OUT, value);
        }
        Ok(())
    }

    fn put(&mut self, flag: &'static Flag, value: String) -> Result<(), String> {
        let refused = |function: &str, reason: &str| {
            let name = flag.short.map_or(format!("--{}", flag.name), |s| format!("-{s}, --{}", flag.name));
            Err(format!(
                "invalid argument \"{value}\" for \"{name}\" flag: strconv.{function}: parsing \"{value}\": {reason}"
            ))
        };
        match flag.kind {
            Kind::Bool if parse_bool(&value).is_none() => return refused("ParseBool", "invalid syntax"),
            Kind::Number if value.parse::<u64>().is_err() => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                return refused("ParseUint", if digits { "value out of range" } else { "invalid syntax" });
            }
            _ => {}
        }
        self.set.insert(flag.name, value);
        Ok(())
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
