//! Reading. The input may be anything.

use super::*;
use crate::limits::TXN_DEPTH_MAX;
use crate::record::varint;

/// Bytes that are no command of this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a command that this release can read: {what} (at byte {at})")]
pub struct DecodeError {
    /// Where reading stopped.
    pub at: usize,
    /// What was found there.
    pub what: &'static str,
}

/// The most elements that memory is taken for before they are seen.
const RESERVE_MAX: usize = 64;

pub(super) struct Reader {
    bytes: Bytes,
    at: usize,
    depth: usize,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    pub(super) fn wrong(&self, what: &'static str) -> DecodeError {
        DecodeError { at: self.at, what }
    }

    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("bytes after the end")) }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(self.wrong("it is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let (n, len) = varint(&self.bytes[self.at..]).ok_or(self.wrong("a number is cut off or too long"))?;
        self.at += len;
        Ok(n)
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        self.number().map(u64::cast_signed)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.number()?;
        let left = self.bytes.len() - self.at;
        let len = usize::try_from(len).ok().filter(|&len| len <= left).ok_or(self.wrong("it is cut off"))?;
        self.at += len;
        Ok(self.bytes.slice(self.at - len..self.at))
    }

    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.wrong("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        self.list(1, Self::text)
    }

    /// Reads a count and so many elements, each of at least `len_min` bytes.
    pub(super) fn list<E>(
        &mut self,
        len_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<E, DecodeError>,
    ) -> Result<Vec<E>, DecodeError> {
        let count = self.number()?;
        let room = (self.bytes.len() - self.at) / len_min;
        let count = usize::try_from(count).ok().filter(|&n| n <= room).ok_or(self.wrong("a list is cut off"))?;
        let mut list = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    pub(super) fn member_id(&mut self) -> Result<MemberId, DecodeError> {
        self.number().map(MemberId)
    }

    pub(super) fn alarm(&mut self) -> Result<AlarmKind, DecodeError> {
        match self.byte()? {
            1 => Ok(AlarmKind::NoSpace),
            2 => Ok(AlarmKind::Corrupt),
            _ => Err(self.wrong("an unknown alarm")),
        }
    }

    pub(super) fn member(&mut self) -> Result<Member, DecodeError> {
        let id = self.member_id()?;
        let [learner, ..] = self.flags(1)?;
        Ok(Member { id, learner, name: self.text()?, peer_urls: self.texts()?, client_urls: self.texts()? })
    }

    pub(super) fn put(&mut self) -> Result<Put, DecodeError> {
        let [prev_kv, ignore_value, ignore_lease, _] = self.flags(3)?;
        let lease = LeaseId(self.signed()?);
        Ok(Put { key: self.bytes()?, value: self.bytes()?, lease, prev_kv, ignore_value, ignore_lease })
    }

    pub(super) fn delete(&mut self) -> Result<DeleteRange, DecodeError> {
        let [prev_kv, ..] = self.flags(1)?;
        Ok(DeleteRange { keys: self.keys()?, prev_kv })
    }

    pub(super) fn txn(&mut self) -> Result<Txn, DecodeError> {
        if self.depth == TXN_DEPTH_MAX {
            return Err(self.wrong("transactions are nested too deep"));
        }
        self.depth += 1;
        let compare = self.list(4, Self::compare)?;
        let success = self.list(3, Self::op)?;
        let failure = self.list(3, Self::op)?;
        self.depth -= 1;
        Ok(Txn { compare, success, failure })
    }

    fn compare(&mut self) -> Result<Compare, DecodeError> {
        let result = match self.byte()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            255 => CompareResult::Unknown,
            _ => return Err(self.wrong("an unknown relation")),
        };
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.signed()?),
            1 => CompareTarget::Create(self.signed()?),
            2 => CompareTarget::Mod(self.signed()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.signed()?),
            255 => CompareTarget::Unknown,
            _ => return Err(self.wrong("an unknown compare target")),
        };
        Ok(Compare { keys: self.keys()?, result, target })
    }

    fn op(&mut self) -> Result<Op, DecodeError> {
        match self.byte()? {
            1 => self.range().map(Op::Range),
            2 => self.put().map(Op::Put),
            3 => self.delete().map(Op::DeleteRange),
            4 => self.txn().map(Op::Txn),
            _ => Err(self.wrong("an unknown operation")),
        }
    }

    fn range(&mut self) -> Result<Range, DecodeError> {
        let [keys_only, count_only, at_revision, bounded] = self.flags(4)?;
        let order = match self.byte()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(self.wrong("an unknown sort order")),
        };
        let target = match self.byte()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return Err(self.wrong("an unknown sort target")),
        };
        let limit = usize::try_from(self.number()?).map_err(|_| self.wrong("a limit is too large"))?;
        let revision = if at_revision { Some(Revision(self.signed()?)) } else { None };
        let mut bounds = [0; 4];
        if bounded {
            for bound in &mut bounds {
                *bound = self.signed()?;
            }
        }
        let [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] = bounds;
        Ok(Range {
            keys: self.keys()?,
            limit,
            revision,
            order,
            target,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        })
    }

    fn keys(&mut self) -> Result<KeyRange, DecodeError> {
        match self.byte()? {
            0 => self.bytes().map(KeyRange::One),
            1 => Ok(KeyRange::Span(self.bytes()?, self.bytes()?)),
            2 => self.bytes().map(KeyRange::From),
            _ => Err(self.wrong("an unknown kind of key range")),
        }
    }

    /// Reads a byte of flags, of which the first `known` may be set.
    pub(super) fn flags(&mut self, known: u32) -> Result<[bool; 4], DecodeError> {
        let byte = self.byte()?;
        if u32::from(byte) >> known != 0 {
            return Err(self.wrong("an unknown flag"));
        }
        Ok([0, 1, 2, 3].map(|bit| byte >> bit & 1 == 1))
    }
}
