//! Tables in memory: for tests, and for whoever wants a state without a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Bucket, Change, Records, TableFault, TableOp, Tables};
use crate::ids::{LogIndex, Position, Term};

/// Tables that live as long as the process. A clone is an independent copy, as a crash would leave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemTables {
    records: MemRecords,
    rows: BTreeMap<(Bucket, Bytes), Bytes>,
    applied: (LogIndex, Term),
}

/// A view of [`MemTables`]' history as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemRecords(Arc<BTreeMap<Position, (bool, Bytes)>>);

impl Tables for MemTables {
    type Records = MemRecords;

    fn records(&self) -> MemRecords {
        self.records.clone()
    }

    fn stage(&mut self, change: Change) -> Result<(), TableFault> {
        for op in change.ops {
            match op {
                TableOp::PutRecord { at, tombstone, record } => {
                    Arc::make_mut(&mut self.records.0).insert(at, (tombstone, record));
                }
                TableOp::DropRecord { at, .. } => {
                    Arc::make_mut(&mut self.records.0).remove(&at);
                }
                TableOp::Put { bucket, key, value } => {
                    self.rows.insert((bucket, key), value);
                }
                TableOp::Delete { bucket, key } => {
                    self.rows.remove(&(bucket, key));
                }
            }
        }
        self.applied = change.applied.unwrap_or(self.applied);
        Ok(())
    }

    fn load(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        let from = self.rows.range((bucket, Bytes::new())..);
        for ((_, key), value) in from.take_while(|((of, _), _)| *of == bucket) {
            visit(key, value);
        }
        Ok(())
    }

    fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }
}

impl Records for MemRecords {
    fn record(&self, at: Position) -> Result<Option<Bytes>, TableFault> {
        Ok(self.0.get(&at).filter(|(tombstone, _)| !tombstone).map(|(_, record)| record.clone()))
    }

    fn scan(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(Position, bool, &Bytes) -> bool,
    ) -> Result<(), TableFault> {
        if from < to {
            for (at, (tombstone, record)) in self.0.range(from..to) {
                if !visit(*at, *tombstone, record) {
                    break;
                }
            }
        }
        Ok(())
    }
}
