//! Reads: choosing positions in the index (under the lock), then fetching, filtering and sorting (outside).

use std::cmp::Ordering;

use crate::answer::{KeyValue, RangeAnswer, Refusal};
use crate::command::{KeyRange, Range, SortOrder, SortTarget};
use crate::ids::{Position, Revision};
use crate::index::KeyIndex;
use crate::open::damaged_record;
use crate::record;
use crate::state::State;
use crate::tables::{Records, TableFault, Tables};

/// A read that knows what to fetch. It holds its own view of history, so that no later write or compaction disturbs it.
#[derive(Debug, Clone)]
pub struct RangePlan<R> {
    records: Option<R>,
    revision: Revision,
    chosen: Chosen,
    shape: Shape,
}

/// Where the wanted pairs stand, in key order.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    at: Places,
    count: i64,
}

#[derive(Debug, Clone)]
enum Places {
    None,
    One(Position),
    Many(Vec<Position>),
}

/// What to do with the pairs once they are fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    limit: usize,
    order: SortOrder,
    target: SortTarget,
    keys_only: bool,
    filters: Option<Filters>,
}

#[derive(Debug, Clone, Copy)]
struct Filters {
    mod_min: i64,
    mod_max: i64,
    create_min: i64,
    create_max: i64,
}

impl<T: Tables> State<T> {
    /// Decides what a read will fetch. Cheap: it touches the index only.
    ///
    /// # Errors
    /// The revision is compacted, or in the future.
    pub fn plan_range(&self, range: &Range) -> Result<RangePlan<T::Records>, Refusal> {
        let revision = self.readable(range.revision)?;
        let chosen = choose(&self.index, range, revision);
        let records = (!matches!(chosen.at, Places::None)).then(|| self.tables.records());
        Ok(RangePlan { records, revision: self.revision, chosen, shape: Shape::of(range) })
    }

    /// The revision that a request means, when it can be read. `None` and numbers below 1 mean the current one.
    pub(crate) fn readable(&self, revision: Option<Revision>) -> Result<Revision, Refusal> {
        match revision.filter(|revision| revision.0 > 0) {
            None => Ok(self.revision),
            Some(revision) if revision > self.revision => Err(Refusal::FutureRevision),
            Some(revision) if self.compacted().is_some_and(|line| revision < line) => Err(Refusal::Compacted),
            Some(revision) => Ok(revision),
        }
    }
}

impl<R: Records> RangePlan<R> {
    /// The store's revision when the plan was made: what the answer's header says.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Fetches the pairs.
    ///
    /// # Errors
    /// [`TableFault`] when a record is damaged or missing.
    pub fn run(self) -> Result<RangeAnswer, TableFault> {
        let Self { records, chosen, shape, .. } = self;
        match records {
            Some(records) => answer(chosen, shape, |at, keys_only| fetch(&records, at, keys_only)),
            None => Ok(RangeAnswer { kvs: Vec::new(), more: false, count: chosen.count }),
        }
    }
}

/// Reads one pair.
pub(crate) fn fetch(records: &impl Records, at: Position, keys_only: bool) -> Result<KeyValue, TableFault> {
    let record = records.record(at)?.ok_or_else(|| damaged_record(at, "the index knows it, but it is not there"))?;
    record::key_value(&record, keys_only).map_err(|what| damaged_record(at, what))
}

/// Finds the positions of a range as of a revision that the caller has checked.
pub(crate) fn choose(index: &KeyIndex, range: &Range, revision: Revision) -> Chosen {
    if let KeyRange::One(key) = &range.keys {
        let at = index.get(key).and_then(|history| history.at(revision.0));
        let place = at.filter(|_| !range.count_only).map_or(Places::None, Places::One);
        return Chosen { at: place, count: i64::from(at.is_some()) };
    }
    let found = index.range(&range.keys).filter_map(|(_, history)| history.at(revision.0));
    if range.count_only {
        return Chosen { at: Places::None, count: found.count() as i64 };
    }
    // As upstream: sorting by something else than the key does not see more than the limit unless asked by direction.
    let whole = range.limit == 0 || range.order != SortOrder::None || Filters::of(range).is_some();
    let fetch_max = if whole { usize::MAX } else { range.limit.saturating_add(1) };
    let mut places = Vec::new();
    let mut count = 0;
    for at in found {
        count += 1;
        if places.len() < fetch_max {
            places.push(at);
        }
    }
    Chosen { at: if places.is_empty() { Places::None } else { Places::Many(places) }, count }
}

/// Turns positions into an answer; `fetch` reads one pair.
pub(crate) fn answer(
    chosen: Chosen,
    shape: Shape,
    fetch: impl Fn(Position, bool) -> Result<KeyValue, TableFault>,
) -> Result<RangeAnswer, TableFault> {
    // Values are needed late only when something is sorted by them.
    let keys_only = shape.keys_only && shape.target != SortTarget::Value;
    let mut kvs = match chosen.at {
        Places::None => Vec::new(),
        Places::One(at) => vec![fetch(at, keys_only)?],
        Places::Many(places) => places.into_iter().map(|at| fetch(at, keys_only)).collect::<Result<_, _>>()?,
    };
    if let Some(filters) = shape.filters {
        kvs.retain(|kv| filters.let_pass(kv));
    }
    shape.sort(&mut kvs);
    let more = shape.limit > 0 && kvs.len() > shape.limit;
    if more {
        kvs.truncate(shape.limit);
    }
    if shape.keys_only && !keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    Ok(RangeAnswer { kvs, more, count: chosen.count })
}

impl Shape {
    pub(crate) fn of(range: &Range) -> Self {
        let Range { limit, order, target, keys_only, .. } = *range;
        Self { limit, order, target, keys_only, filters: Filters::of(range) }
    }

    fn sort(&self, kvs: &mut [KeyValue]) {
        let by = |a: &KeyValue, b: &KeyValue| match self.target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match (self.order, self.target) {
            (SortOrder::Descend, _) => kvs.sort_by(|a, b| by(b, a)),
            (_, SortTarget::Key) => debug_assert!(kvs.is_sorted_by(|a, b| by(a, b) != Ordering::Greater)),
            (SortOrder::None | SortOrder::Ascend, _) => kvs.sort_by(by),
        }
    }
}

impl Filters {
    fn of(range: &Range) -> Option<Self> {
        let filters = Self {
            mod_min: range.min_mod_revision,
            mod_max: range.max_mod_revision,
            create_min: range.min_create_revision,
            create_max: range.max_create_revision,
        };
        let off = [filters.mod_min, filters.mod_max, filters.create_min, filters.create_max] == [0; 4];
        (!off).then_some(filters)
    }

    fn let_pass(&self, kv: &KeyValue) -> bool {
        let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
        within(kv.mod_revision, self.mod_min, self.mod_max)
            && within(kv.create_revision, self.create_min, self.create_max)
    }
}
