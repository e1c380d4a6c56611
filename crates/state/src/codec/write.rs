//! Writing.

use super::*;
use crate::record::put_varint;

pub(super) struct Writer {
    pub(super) out: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(len: usize) -> Self {
        Self { out: Vec::with_capacity(len) }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(super) fn kind(&mut self, kind: u8) -> &mut Self {
        self.out.push(kind);
        self
    }

    pub(super) fn number(&mut self, n: u64) {
        put_varint(&mut self.out, n);
    }

    pub(super) fn signed(&mut self, n: i64) {
        self.number(n.cast_unsigned());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.bytes(text.as_bytes()));
    }

    pub(super) fn put(&mut self, put: &Put) {
        let Put { key, value, lease, prev_kv, ignore_value, ignore_lease } = put;
        self.byte(flags([*prev_kv, *ignore_value, *ignore_lease, false]));
        self.signed(lease.0);
        self.bytes(key);
        self.bytes(value);
    }

    pub(super) fn delete(&mut self, delete: &DeleteRange) {
        self.byte(flags([delete.prev_kv, false, false, false]));
        self.keys(&delete.keys);
    }

    pub(super) fn alarm(&mut self, member: MemberId, kind: AlarmKind) {
        self.number(member.0);
        self.byte(kind as u8);
    }

    pub(super) fn member(&mut self, member: &Member) {
        let Member { id, name, peer_urls, client_urls, learner } = member;
        self.number(id.0);
        self.byte(flags([*learner, false, false, false]));
        self.bytes(name.as_bytes());
        self.texts(peer_urls);
        self.texts(client_urls);
    }

    pub(super) fn txn(&mut self, txn: &Txn) {
        self.number(txn.compare.len() as u64);
        txn.compare.iter().for_each(|compare| self.compare(compare));
        for ops in [&txn.success, &txn.failure] {
            self.number(ops.len() as u64);
            ops.iter().for_each(|op| self.op(op));
        }
    }

    fn compare(&mut self, compare: &Compare) {
        self.byte(match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
            CompareResult::Unknown => 255,
        });
        match &compare.target {
            CompareTarget::Version(n) => self.kind(0).signed(*n),
            CompareTarget::Create(n) => self.kind(1).signed(*n),
            CompareTarget::Mod(n) => self.kind(2).signed(*n),
            CompareTarget::Value(value) => self.kind(3).bytes(value),
            CompareTarget::Lease(n) => self.kind(4).signed(*n),
            CompareTarget::Unknown => self.byte(255),
        }
        self.keys(&compare.keys);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Range(range) => self.kind(1).range(range),
            Op::Put(put) => self.kind(2).put(put),
            Op::DeleteRange(delete) => self.kind(3).delete(delete),
            Op::Txn(txn) => self.kind(4).txn(txn),
        }
    }

    fn range(&mut self, range: &Range) {
        let bounds =
            [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
        let bounded = bounds != [0; 4];
        self.byte(flags([range.keys_only, range.count_only, range.revision.is_some(), bounded]));
        self.byte(match range.order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        });
        self.byte(match range.target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        });
        self.number(range.limit as u64);
        if let Some(revision) = range.revision {
            self.signed(revision.0);
        }
        if bounded {
            bounds.into_iter().for_each(|bound| self.signed(bound));
        }
        self.keys(&range.keys);
    }

    fn keys(&mut self, keys: &KeyRange) {
        match keys {
            KeyRange::One(key) => self.kind(0).bytes(key),
            KeyRange::Span(from, to) => {
                self.kind(1).bytes(from);
                self.bytes(to);
            }
            KeyRange::From(from) => self.kind(2).bytes(from),
        }
    }
}

fn flags(bits: [bool; 4]) -> u8 {
    bits.into_iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(bit))
}
