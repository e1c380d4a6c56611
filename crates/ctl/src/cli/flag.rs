//! Flags: their declaration, and reading them from arguments the way pflag does.
//!
//! Knows nothing about particular commands.

use std::collections::HashMap;
use std::time::Duration;

use crate::go::{duration, number};

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Truth value; given without a value it is true.
    Bool,
    /// Signed number, any Go notation.
    Int,
    /// Any text.
    Text,
    /// Go duration.
    Duration,
    /// Comma separated list; a repeated flag appends.
    List,
}

/// One flag as it is declared.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Long name, without dashes.
    pub(crate) name: &'static str,
    /// One letter name.
    pub(crate) short: Option<char>,
    /// What its value is.
    pub(crate) kind: Kind,
    /// Value when it is not given.
    pub(crate) default: &'static str,
    /// One line for the help.
    pub(crate) usage: &'static str,
}

impl Flag {
    const fn new(name: &'static str, kind: Kind, default: &'static str, usage: &'static str) -> Flag {
        Flag { name, short: None, kind, default, usage }
    }

    /// A truth value that is false when not given.
    pub(crate) const fn bool(name: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", usage)
    }

    /// A truth value that is true when not given.
    pub(crate) const fn yes(name: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "true", usage)
    }

    /// A number.
    pub(crate) const fn int(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Int, default, usage)
    }

    /// A text.
    pub(crate) const fn text(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Text, default, usage)
    }

    /// A duration.
    pub(crate) const fn duration(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Duration, default, usage)
    }

    /// A list.
    pub(crate) const fn list(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::List, default, usage)
    }

    /// The same flag with a one letter name.
    pub(crate) const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    fn check(&self, value: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(value);
        match self.kind {
            Kind::Bool => number::parse_bool(&text).map(drop),
            Kind::Int => number::parse_int(&text, 0).map(drop),
            Kind::Duration => duration::parse(&text).map(drop),
            Kind::Text | Kind::List => Ok(()),
        }
    }
}

/// The help flag that every command has.
pub(crate) const HELP: Flag = Flag::bool("help", "").short('h');

/// What was read: the positional arguments and the flags' values.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Positional arguments in order.
    pub(crate) args: Vec<Vec<u8>>,
    /// How many arguments stood before `--`, when there was one.
    pub(crate) dash: Option<usize>,
    given: HashMap<&'static str, Vec<Vec<u8>>>,
    defaults: HashMap<&'static str, &'static str>,
}

/// Reads arguments against the flags that may appear.
///
/// # Errors
/// pflag's text for the first mistake.
pub(crate) fn parse(flags: &[&'static Flag], words: &[Vec<u8>]) -> Result<Parsed, String> {
    let defaults = flags.iter().map(|flag| (flag.name, flag.default)).collect();
    let mut parsed = Parsed { defaults, ..Parsed::default() };
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        if word == b"--" {
            parsed.dash = Some(parsed.args.len());
            parsed.args.extend_from_slice(rest);
            break;
        } else if let Some(long) = word.strip_prefix(b"--") {
            rest = parse_long(flags, long, rest, &mut parsed)?;
        } else if word.len() > 1 && word[0] == b'-' {
            rest = parse_short(flags, &word[1..], rest, &mut parsed)?;
        } else {
            parsed.args.push(word.clone());
        }
    }
    Ok(parsed)
}

fn parse_long<'a>(
    flags: &[&'static Flag],
    word: &[u8],
    rest: &'a [Vec<u8>],
    parsed: &mut Parsed,
) -> Result<&'a [Vec<u8>], String> {
    let (name, value) = match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(word[at + 1..].to_vec())),
        None => (word, None),
    };
    let name = String::from_utf8_lossy(name);
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: --{}", String::from_utf8_lossy(word)));
    }
    let flag = flags.iter().find(|flag| flag.name == name).ok_or_else(|| format!("unknown flag: --{name}"))?;
    let (value, rest) = match (value, rest.split_first()) {
        (Some(value), _) => (value, rest),
        (None, _) if flag.kind == Kind::Bool => (b"true".to_vec(), rest),
        (None, Some((value, rest))) => (value.clone(), rest),
        (None, None) => return Err(format!("flag needs an argument: --{name}")),
    };
    parsed.set(flag, value)?;
    Ok(rest)
}

fn parse_short<'a>(
    flags: &[&'static Flag],
    word: &[u8],
    mut rest: &'a [Vec<u8>],
    parsed: &mut Parsed,
) -> Result<&'a [Vec<u8>], String> {
    let mut letters = word;
    while let Some((letter, after)) = letters.split_first() {
        let letter = char::from(*letter);
        let whole = String::from_utf8_lossy(letters);
        let flag = flags
            .iter()
            .find(|flag| flag.short == Some(letter))
            .ok_or_else(|| format!("unknown shorthand flag: '{letter}' in -{whole}"))?;
        letters = &[];
        let value = if after.len() > 1 && after[0] == b'=' {
            after[1..].to_vec()
        } else if flag.kind == Kind::Bool {
            letters = after;
            b"true".to_vec()
        } else if !after.is_empty() {
            after.to_vec()
        } else if let Some((value, later)) = rest.split_first() {
            rest = later;
            value.clone()
        } else {
            return Err(format!("flag needs an argument: '{letter}' in -{whole}"));
        };
        parsed.set(flag, value)?;
    }
    Ok(rest)
}

impl Parsed {
    /// Gives a flag a value, as if it had been typed.
    ///
    /// # Errors
    /// pflag's text when the value does not fit.
    pub(crate) fn set(&mut self, flag: &Flag, value: Vec<u8>) -> Result<(), String> {
        flag.check(&value).map_err(|why| {
            let name = flag.short.map_or(format!("--{}", flag.name), |short| format!("-{short}, --{}", flag.name));
            format!("invalid argument {} for \"{name}\" flag: {why}", crate::go::quote::quote(&value))
        })?;
        self.given.entry(flag.name).or_default().push(value);
        Ok(())
    }

    /// Whether the flag was given.
    pub(crate) fn changed(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A flag's value as bytes.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        match self.given.get(name).and_then(|values| values.last()) {
            Some(value) => value.clone(),
            None => self.defaults.get(name).copied().unwrap_or_default().as_bytes().to_vec(),
        }
    }

    /// A flag's value as text.
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    /// A truth value.
    pub(crate) fn bool(&self, name: &str) -> bool {
        number::parse_bool(&self.text(name)).unwrap_or_default()
    }

    /// A number.
    pub(crate) fn int(&self, name: &str) -> i64 {
        number::parse_int(&self.text(name), 0).unwrap_or_default()
    }

    /// A duration.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        duration::parse(&self.text(name)).unwrap_or_default()
    }

    /// A list: all values given, split at commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let split = |text: &str| -> Vec<String> {
            if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
        };
        match self.given.get(name) {
            Some(values) => values.iter().flat_map(|value| split(&String::from_utf8_lossy(value))).collect(),
            None => split(self.defaults.get(name).copied().unwrap_or_default()),
        }
    }

    /// A positional argument as text.
    pub(crate) fn arg(&self, index: usize) -> String {
        self.args.get(index).map(|arg| String::from_utf8_lossy(arg).into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PREFIX: Flag = Flag::bool("prefix", "");
    static LIMIT: Flag = Flag::int("limit", "0", "");
    static FORMAT: Flag = Flag::text("write-out", "simple", "").short('w');
    static ENDPOINTS: Flag = Flag::list("endpoints", "127.0.0.1:2379", "");

    fn read(line: &str) -> Result<Parsed, String> {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        parse(&[&PREFIX, &LIMIT, &FORMAT, &ENDPOINTS, &HELP], &words)
    }

    #[test]
    fn flags_may_stand_anywhere_before_two_dashes() {
        let parsed = read("a --limit 3 b -wjson --prefix -- --x").unwrap();
        assert_eq!(parsed.args, [b"a".to_vec(), b"b".to_vec(), b"--x".to_vec()]);
        assert_eq!((parsed.dash, parsed.int("limit"), parsed.bool("prefix")), (Some(2), 3, true));
        assert_eq!(parsed.text("write-out"), "json");
        assert_eq!(read("-w=json").unwrap().text("write-out"), "json");
        assert_eq!(read("-w json --endpoints a,b --endpoints=c").unwrap().list("endpoints"), ["a", "b", "c"]);
        assert_eq!(read("").unwrap().list("endpoints"), ["127.0.0.1:2379"]);
    }

    #[test]
    fn mistakes_are_worded_as_pflag_words_them() {
        let told = |line: &str| read(line).unwrap_err();
        assert_eq!(told("--bogus"), "unknown flag: --bogus");
        assert_eq!(told("-x"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(told("--limit"), "flag needs an argument: --limit");
        assert_eq!(told("-w"), "flag needs an argument: 'w' in -w");
        assert_eq!(told("--=x"), "bad flag syntax: --=x");
        assert_eq!(
            told("--limit abc"),
            "invalid argument \"abc\" for \"--limit\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            told("--prefix=maybe"),
            "invalid argument \"maybe\" for \"--prefix\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
    }
}
