//! A member's disk: a log whose end may be lost until it is synced, tables that are a moment old, and a transfer under way.

use eyrie_raft::{Entry, HardState, LogStart, SnapshotMark};
use eyrie_state::{MemTables, Tables};
use eyrie_tests::load::Dice;

/// One record of the log.
#[derive(Debug, Clone)]
enum Record {
    /// The log begins anew.
    Start(LogStart, HardState),
    Entry(Entry),
    Hard(HardState),
}

/// What a log holds.
#[derive(Debug, Clone)]
pub(crate) struct Recovered {
    pub(crate) start: LogStart,
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

impl Recovered {
    pub(crate) fn last_index(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }
}

/// The log can't be trusted any more: a record fails its checksum.
#[derive(Debug)]
pub(crate) struct Rotten;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    records: Vec<Record>,
    /// So many of them survive whatever happens.
    synced: usize,
    tables: MemTables,
    /// Whole tables that a leader sent, durable, and not yet in their place.
    incoming: Option<(SnapshotMark, MemTables)>,
    rotten: bool,
}

impl Disk {
    /// A disk as a first start leaves it.
    pub(crate) fn new(start: LogStart, tables: MemTables) -> Self {
        let hard_state = HardState { term: start.term, vote: 0, commit: start.index };
        Self { records: vec![Record::Start(start, hard_state)], synced: 1, tables, incoming: None, rotten: false }
    }

    /// Writes; durable only after [`Disk::sync`].
    pub(crate) fn append(&mut self, entries: &[Entry], hard_state: Option<HardState>) {
        self.records.extend(entries.iter().cloned().map(Record::Entry));
        self.records.extend(hard_state.map(Record::Hard));
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) {
        self.synced = self.records.len();
    }

    /// The log begins anew after a snapshot; durable at once, whole or not at all.
    pub(crate) fn restart_after(&mut self, start: LogStart, hard_state: HardState) {
        self.records = vec![Record::Start(start, hard_state)];
        self.synced = 1;
    }

    /// Forgets entries up to `start.index`, which the durable tables hold.
    pub(crate) fn release_before(&mut self, start: LogStart) {
        let Recovered { hard_state, entries, .. } = self.replay();
        self.records = vec![Record::Start(start.clone(), hard_state)];
        self.records.extend(entries.into_iter().filter(|entry| entry.index > start.index).map(Record::Entry));
        self.sync();
    }

    /// The tables as of now become durable, all at once.
    pub(crate) fn commit_tables(&mut self, tables: &MemTables) {
        self.tables = tables.clone();
    }

    /// Tables from a leader are whole and durable beside those in use.
    pub(crate) fn arrived(&mut self, mark: SnapshotMark, tables: MemTables) {
        self.incoming = Some((mark, tables));
    }

    /// They were not wanted, or have taken their place.
    pub(crate) fn discard_arrived(&mut self) {
        self.incoming = None;
    }

    /// The last entry that the durable tables hold.
    pub(crate) fn durable_applied(&self) -> u64 {
        self.tables.applied().0.0
    }

    /// Where the log begins.
    pub(crate) fn log_start(&self) -> u64 {
        self.replay().start.index
    }

    /// The power fails: any part of what was not synced is lost; what comes after a lost record is cut.
    pub(crate) fn power_cut(&mut self, dice: &mut Dice) {
        let at_risk = (self.records.len() - self.synced) as u64;
        self.records.truncate(self.synced + dice.below(at_risk + 1) as usize);
        self.sync();
    }

    /// A bit of the log turns.
    pub(crate) fn rot(&mut self) {
        self.rotten = true;
    }

    /// Reads it back as a start does: tables that arrived take their place where the log begins with them.
    pub(crate) fn open(&mut self) -> Result<(Recovered, MemTables), Rotten> {
        if self.rotten {
            return Err(Rotten);
        }
        let recovered = self.replay();
        if let Some((mark, tables)) = self.incoming.take()
            && mark.index == recovered.start.index
        {
            self.tables = tables;
        }
        Ok((recovered, self.tables.clone()))
    }

    fn replay(&self) -> Recovered {
        let mut recovered =
            Recovered { start: LogStart::default(), hard_state: HardState::default(), entries: Vec::new() };
        for record in &self.records {
            match record {
                Record::Start(start, hard_state) => {
                    recovered = Recovered { start: start.clone(), hard_state: *hard_state, entries: Vec::new() };
                }
                Record::Entry(entry) => {
                    let keep = entry.index.saturating_sub(recovered.start.index + 1);
                    recovered.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                    recovered.entries.push(entry.clone());
                }
                Record::Hard(hard_state) => recovered.hard_state = *hard_state,
            }
        }
        recovered
    }
}
