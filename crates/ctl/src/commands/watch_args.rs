//! The words of `watch`: which keys, and which command to run on each event.

use crate::cli::flag::Parsed;
use crate::exit::Failure;
use crate::go::quote::quote;

const COUNT: &str = "bad number of arguments";
const COUNT_ENV: &str = "bad number of arguments (found conflicting environment key)";
const COUNT_SEPARATOR: &str = "bad number of arguments (found separator --, but no commands)";

/// The variables of [`Environment`].
pub(crate) const VARIABLES: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// The key and range end that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `ETCDCTL_WATCH_KEY`
    pub(crate) key: String,
    /// `ETCDCTL_WATCH_RANGE_END`
    pub(crate) range_end: String,
}

impl Environment {
    /// Reads the two variables.
    ///
    /// # Errors
    /// An end without a key.
    pub(crate) fn read() -> Result<Environment, Failure> {
        let [key, range_end] = VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
        let environment = Environment { key, range_end };
        if environment.key.is_empty() && !environment.range_end.is_empty() {
            let end = quote(environment.range_end.as_bytes());
            return Err(Failure::args(format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}")));
        }
        Ok(environment)
    }
}

/// What one `watch` line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Key, and range end when there is one.
    pub(crate) keys: Vec<Vec<u8>>,
    /// Command and its arguments.
    pub(crate) exec: Vec<Vec<u8>>,
}

/// Separates keys from the command, and lets the environment stand in for the keys.
///
/// # Errors
/// The text for keys that are missing, or given twice.
pub(crate) fn split(parsed: &Parsed, environment: &Environment) -> Result<Words, Failure> {
    let dash = parsed.dash.unwrap_or(parsed.args.len());
    let (keys, exec) = parsed.args.split_at(dash);
    if parsed.dash.is_some() && exec.is_empty() {
        return Err(Failure::args(COUNT_SEPARATOR));
    }
    if environment.key.is_empty() {
        if keys.is_empty() {
            return Err(Failure::args(COUNT));
        }
        return Ok(Words { keys: keys.to_vec(), exec: exec.to_vec() });
    }
    if !keys.is_empty() {
        return Err(Failure::args(COUNT_ENV));
    }
    let mut keys = vec![environment.key.clone().into_bytes()];
    if !environment.range_end.is_empty() {
        keys.push(environment.range_end.clone().into_bytes());
    }
    Ok(Words { keys, exec: exec.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flag;

    fn read(line: &str, key: &str, range_end: &str) -> Result<Words, String> {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        let parsed = flag::parse(&[], &words).unwrap();
        let environment = Environment { key: key.into(), range_end: range_end.into() };
        split(&parsed, &environment).map_err(|failure| failure.text.unwrap())
    }

    fn words(keys: &[&str], exec: &[&str]) -> Words {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Words { keys: bytes(keys), exec: bytes(exec) }
    }

    #[test]
    fn keys_come_from_the_line_or_the_environment() {
        assert_eq!(read("foo bar -- echo hi", "", ""), Ok(words(&["foo", "bar"], &["echo", "hi"])));
        assert_eq!(read("foo", "", ""), Ok(words(&["foo"], &[])));
        assert_eq!(read("-- echo", "k", "end"), Ok(words(&["k", "end"], &["echo"])));
        assert_eq!(read("", "", ""), Err(COUNT.into()));
        assert_eq!(read("foo --", "", ""), Err(COUNT_SEPARATOR.into()));
        assert_eq!(read("foo", "k", ""), Err(COUNT_ENV.into()));
    }
}
