//! Thrift's compact protocol, as far as Parquet's own descriptions need it: read into a tree, with limits.

use std::collections::BTreeMap;

use super::BadLog;
use crate::limits::{THRIFT_DEPTH_MAX, THRIFT_ITEMS_MAX};

/// A value of any kind. Which field means what is the caller's knowledge.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Thrift<'b> {
    Bool(bool),
    Int(i64),
    Double,
    Bytes(&'b [u8]),
    List(Vec<Thrift<'b>>),
    Struct(BTreeMap<i16, Thrift<'b>>),
}

impl<'b> Thrift<'b> {
    pub(super) fn field(&self, id: i16) -> Option<&Thrift<'b>> {
        match self {
            Thrift::Struct(fields) => fields.get(&id),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: i16) -> Option<i64> {
        match self.field(id)? {
            Thrift::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn list(&self, id: i16) -> &[Thrift<'b>] {
        match self.field(id) {
            Some(Thrift::List(items)) => items,
            _ => &[],
        }
    }
}

/// Reads one structure; and how many bytes it took.
pub(super) fn read(bytes: &[u8]) -> Result<(Thrift<'_>, usize), BadLog> {
    let mut reader = Reader { bytes, at: 0, items: 0 };
    let value = reader.structure(0)?;
    Ok((value, reader.at))
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    items: usize,
}

const CUT: BadLog = BadLog("a description is cut off");

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Result<u8, BadLog> {
        let byte = *self.bytes.get(self.at).ok_or(CUT)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, BadLog> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BadLog("a number in a description is too long"))
    }

    fn zigzag(&mut self) -> Result<i64, BadLog> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn take(&mut self, len: u64) -> Result<&'b [u8], BadLog> {
        let len = usize::try_from(len).map_err(|_| CUT)?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(CUT)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn count(&mut self) -> Result<(), BadLog> {
        self.items += 1;
        if self.items > THRIFT_ITEMS_MAX { Err(BadLog("a description has too many parts")) } else { Ok(()) }
    }

    fn structure(&mut self, depth: usize) -> Result<Thrift<'b>, BadLog> {
        if depth > THRIFT_DEPTH_MAX {
            return Err(BadLog("a description is nested too deep"));
        }
        let mut fields = BTreeMap::new();
        let mut id = 0i16;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(Thrift::Struct(fields));
            }
            self.count()?;
            id = match byte >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| BadLog("a field number is none"))?,
                delta => id.checked_add(i16::from(delta)).ok_or(BadLog("a field number is none"))?,
            };
            let value = match byte & 0x0f {
                1 => Thrift::Bool(true),
                2 => Thrift::Bool(false),
                kind => self.value(kind, depth)?,
            };
            fields.insert(id, value);
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Thrift<'b>, BadLog> {
        self.count()?;
        match kind {
            // In a list, a truth is a byte of its own.
            1 | 2 => Ok(Thrift::Bool(self.byte()? == 1)),
            3 => Ok(Thrift::Int(i64::from(self.byte()? as i8))),
            4..=6 => self.zigzag().map(Thrift::Int),
            7 => self.take(8).map(|_| Thrift::Double),
            8 => {
                let len = self.varint()?;
                self.take(len).map(Thrift::Bytes)
            }
            9 | 10 => {
                let head = self.byte()?;
                let len = match head >> 4 {
                    15 => self.varint()?,
                    len => u64::from(len),
                };
                let mut items = Vec::new();
                for _ in 0..len {
                    items.push(if head & 0x0f == 12 {
                        self.structure(depth + 1)?
                    } else {
                        self.value(head & 0x0f, depth + 1)?
                    });
                }
                Ok(Thrift::List(items))
            }
            12 => self.structure(depth + 1),
            _ => Err(BadLog("a description has a part of unknown kind")),
        }
    }
}
