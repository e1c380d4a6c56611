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

    pub(super) fn bytes(&self, id: i16) -> Option<&'b [u8]> {
        match self.field(id)? {
            Thrift::Bytes(bytes) => Some(bytes),
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

/// The fields of one structure, each with its number, its kind and the bytes of its value.
pub(super) fn fields(bytes: &[u8]) -> Result<Vec<(i16, u8, &[u8])>, BadLog> {
    let mut reader = Reader { bytes, at: 0, items: 0 };
    let (mut fields, mut id) = (Vec::new(), 0i16);
    loop {
        let byte = reader.byte()?;
        if byte == 0 {
            return Ok(fields);
        }
        reader.count()?;
        id = reader.id(byte, id)?;
        let (kind, start) = (byte & 0x0f, reader.at);
        if !matches!(kind, 1 | 2) {
            reader.value(kind, 0)?;
        }
        fields.push((id, kind, &bytes[start..reader.at]));
    }
}

/// Writes structures; fields in rising order of their numbers.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    last: i16,
    outer: Vec<i16>,
}

impl Writer {
    /// The number and kind of a field; numbers are never more than 15 apart here.
    fn head(&mut self, id: i16, kind: u8) {
        debug_assert!(id > self.last && id - self.last < 16);
        self.bytes.push(((id - self.last) as u8) << 4 | kind);
        self.last = id;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn zigzag(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    pub(super) fn i32(&mut self, id: i16, value: i64) {
        self.head(id, 5);
        self.zigzag(value);
    }

    pub(super) fn i64(&mut self, id: i16, value: i64) {
        self.head(id, 6);
        self.zigzag(value);
    }

    pub(super) fn text(&mut self, id: i16, value: &[u8]) {
        self.head(id, 8);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A field whose value is written already.
    pub(super) fn raw(&mut self, id: i16, kind: u8, value: &[u8]) {
        self.head(id, kind);
        self.bytes.extend_from_slice(value);
    }

    pub(super) fn begin(&mut self, id: i16) {
        self.head(id, 12);
        self.enter();
    }

    /// A list of `len` structures, each between [`Writer::enter`] and [`Writer::end`].
    pub(super) fn structs(&mut self, id: i16, len: u8) {
        self.head(id, 9);
        self.bytes.push(len << 4 | 12);
    }

    /// A list of one number, or of one text.
    pub(super) fn one_i32(&mut self, id: i16, value: i64) {
        self.head(id, 9);
        self.bytes.push(1 << 4 | 5);
        self.zigzag(value);
    }

    pub(super) fn one_text(&mut self, id: i16, value: &[u8]) {
        self.head(id, 9);
        self.bytes.push(1 << 4 | 8);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(super) fn enter(&mut self) {
        self.outer.push(self.last);
        self.last = 0;
    }

    pub(super) fn end(&mut self) {
        self.bytes.push(0);
        self.last = self.outer.pop().unwrap_or_default();
    }
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

    /// The number of a field, by its first byte and the number before.
    fn id(&mut self, byte: u8, last: i16) -> Result<i16, BadLog> {
        match byte >> 4 {
            0 => i16::try_from(self.zigzag()?).map_err(|_| BadLog("a field number is none")),
            delta => last.checked_add(i16::from(delta)).ok_or(BadLog("a field number is none")),
        }
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
            id = self.id(byte, id)?;
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
