//! What deletes leave of one segment's rows.
//!
//! A delete holds for the rows of its key that are older than it. A row of the same time stays: that is an upsert, which is
//! a delete and a row at once. So a key may have been deleted and be alive nevertheless, for it was written again; whoever
//! drops rows by their keys alone loses those.

use std::collections::BTreeMap;

use crate::binlog::{BadLog, Inflate, Log, Values};
use crate::salvage::{Key, Rows, delete};

/// The deletes that stand in a segment's logs: of each key the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletes {
    newest: BTreeMap<Key, u64>,
}

impl Deletes {
    /// One delete more.
    pub fn add(&mut self, key: Key, at: u64) {
        let newest = self.newest.entry(key).or_insert(at);
        *newest = at.max(*newest);
    }

    /// All deletes of one log.
    ///
    /// # Errors
    /// It is no log of deletes, or of a form that is not known; some of it may have been added.
    pub fn add_log(&mut self, bytes: &[u8], inflate: Inflate<'_>) -> Result<(), BadLog> {
        let Values::Texts(lines) = Log::read(bytes)?.values(inflate)? else {
            return Err(BadLog("it is no log of deletes"));
        };
        for line in &lines {
            let (key, at) = delete(line).ok_or(BadLog("a delete in it is neither of Milvus's forms"))?;
            self.add(key, at);
        }
        Ok(())
    }
}

/// The rows of one segment, in the order of its logs, and which of them are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// Which.
    pub rows: Rows,
    /// How many.
    pub alive: u64,
    /// Of these, rows whose key was deleted before they were written.
    pub again: u64,
    /// All rows, one number for each log.
    pub logs: Vec<u64>,
}

impl Living {
    /// All rows, deleted ones included.
    pub fn all(&self) -> u64 {
        self.logs.iter().sum()
    }

    /// The rows of the next log: their keys and times.
    ///
    /// # Errors
    /// Keys and times are not equally many numbers or texts; nothing was added.
    pub fn add_log(&mut self, deletes: &Deletes, keys: Values, times: &Values) -> Result<(), BadLog> {
        let Values::Numbers(times) = times else { return Err(BadLog("its times are no numbers")) };
        if keys.len() != times.len() {
            return Err(BadLog("keys and times are not equally many"));
        }
        let keys: Box<dyn Iterator<Item = Key>> = match keys {
            Values::Numbers(numbers) => Box::new(numbers.into_iter().map(Key::Number)),
            Values::Texts(texts) => Box::new(texts.into_iter().map(|text| Key::Text(text.into()))),
            Values::Fixed(..) => return Err(BadLog("its keys are neither numbers nor texts")),
        };
        let mut place = self.all();
        for (key, at) in keys.zip(times) {
            let deleted = deletes.newest.get(&key);
            if deleted.is_none_or(|deleted| *deleted <= *at as u64) {
                self.rows.add(place);
                self.alive += 1;
                self.again += u64::from(deleted.is_some());
            }
            place += 1;
        }
        self.logs.push(times.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[i64]) -> Values {
        Values::Numbers(values.to_vec())
    }

    #[test]
    fn a_row_that_was_written_again_is_alive() {
        let mut deletes = Deletes::default();
        for (key, at) in [(1, 20), (1, 10), (2, 20), (9, 99)] {
            deletes.add(Key::Number(key), at);
        }
        let mut living = Living::default();
        // Deleted; written again after its delete; upserted at its very time; never deleted.
        living.add_log(&deletes, numbers(&[1, 1, 2, 3]), &numbers(&[19, 21, 20, 5])).unwrap();
        living.add_log(&deletes, numbers(&[2]), &numbers(&[1])).unwrap();
        assert_eq!((living.all(), living.alive, living.again, &living.logs[..]), (5, 3, 2, &[4, 1][..]));
        assert_eq!((0..5).map(|place| living.rows.has(place)).collect::<Vec<_>>(), [false, true, true, true, false]);
        let texts = Values::Texts(vec![b"a".to_vec()]);
        assert!(living.add_log(&deletes, texts, &numbers(&[1, 2])).is_err());
        assert_eq!(living.all(), 5, "what could not be added was added");
    }
}
