//! Fixtures: the key space of a Milvus and its objects, as text.
//!
//! A key stands with its value behind a blank, as bytes (`\xNN` for what is no visible ASCII), or behind ` = ` as the
//! fields of a protobuf message by their numbers: `1:7 2:"text" 3:-1 4:{1:2} 5:x00ff`. So the numbers stand in the fixture
//! and not in what is tested.

mod escape;

use std::collections::BTreeMap;

use escape::unescape;
use eyrie_milvus::ObjectRoot;

pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) objects_at: ObjectRoot,
    pub(crate) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) objects: BTreeMap<String, u64>,
}

impl Fixture {
    #[allow(clippy::disallowed_methods, reason = "fixtures are files; the crate itself never opens one")]
    pub(crate) fn all() -> Vec<Fixture> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "txt"));
        files.sort();
        assert!(files.len() >= 4, "fixtures are missing: {files:?}");
        let read = |file: &std::path::PathBuf| {
            Fixture::parse(file.file_stem().unwrap().to_str().unwrap(), &std::fs::read_to_string(file).unwrap())
        };
        files.iter().map(read).collect()
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    fn parse(name: &str, text: &str) -> Fixture {
        let mut fixture = Fixture {
            name: name.into(),
            objects_at: ObjectRoot::bucket("files"),
            pairs: Vec::new(),
            objects: BTreeMap::new(),
        };
        let mut in_objects = false;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ') {
                Some(("folder", path)) => fixture.objects_at = ObjectRoot::folder(path),
                Some(("bucket", path)) => fixture.objects_at = ObjectRoot::bucket(path),
                Some((path, length)) if in_objects => {
                    fixture.objects.insert(path.into(), length.parse().unwrap());
                }
                Some((key, value)) => {
                    let value = value.strip_prefix("= ").map_or_else(|| unescape(value), numbered);
                    fixture.pairs.push((unescape(key), value));
                }
                None => in_objects = line == "objects",
            }
        }
        fixture.pairs.sort();
        fixture
    }
}

/// Fields by number, encoded.
fn numbered(text: &str) -> Vec<u8> {
    let mut rest = text.trim();
    let out = message(&mut rest);
    assert!(rest.is_empty(), "left over in `{text}`: `{rest}`");
    out
}

fn message(rest: &mut &str) -> Vec<u8> {
    let mut out = Vec::new();
    while !rest.is_empty() && !rest.starts_with('}') {
        let (number, after) = rest.split_once(':').unwrap_or_else(|| panic!("no field: `{rest}`"));
        let number: u64 = number.parse().unwrap_or_else(|_| panic!("no number: `{number}`"));
        let bytes = match after.as_bytes()[0] {
            b'"' => {
                let (inside, after) = after[1..].split_once('"').unwrap();
                *rest = after;
                Some(inside.as_bytes().to_vec())
            }
            b'\'' => {
                let (inside, after) = after[1..].split_once('\'').unwrap();
                *rest = after;
                Some(inside.as_bytes().to_vec())
            }
            b'{' => {
                *rest = &after[1..];
                let inside = message(rest);
                *rest = rest.strip_prefix('}').unwrap();
                Some(inside)
            }
            b'x' => {
                let word = word(after);
                *rest = &after[word.len()..];
                Some((1..word.len()).step_by(2).map(|i| u8::from_str_radix(&word[i..i + 2], 16).unwrap()).collect())
            }
            _ => None,
        };
        match bytes {
            Some(bytes) => {
                varint(&mut out, number << 3 | 2);
                varint(&mut out, bytes.len() as u64);
                out.extend(bytes);
            }
            None => {
                let word = word(after);
                *rest = &after[word.len()..];
                varint(&mut out, number << 3);
                varint(&mut out, word.parse::<i128>().unwrap_or_else(|_| panic!("no number: `{word}`")) as u64);
            }
        }
        *rest = rest.trim_start();
    }
    out
}

fn word(text: &str) -> &str {
    text.split([' ', '}']).next().unwrap()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
