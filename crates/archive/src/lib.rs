//! Memory: what a backup consists of, which chain is whole, what retention keeps, what a restore needs.
//!
//! ```text
//! records ─▶ catalog ─▶ spans, resolve ─▶ restore plan
//!               │            verify plan
//!               └─▶ retention ─▶ expiry: first a record, then deletions
//! ```
//! Values in, values out: no network, no clock, no cipher, and nothing of what is inside a file. The formats are in
//! docs/format/archive.md.

pub mod catalog;
pub mod codec;
pub mod ids;
pub mod index;
pub mod limits;
pub mod load;
pub mod merge;
pub mod names;
pub mod record;
pub mod resolve;
pub mod restore;
pub mod retention;
pub mod spans;
pub mod verify;
pub mod view;

pub use self::{
    catalog::{Catalog, Damage, Draft, Fault, Reading, Refused, Start, Timeline, Unreadable},
    ids::{
        ArchiveId, BadName, LivedMillis, Revision, Seq, Sha256, SourcePath, StoredPath, TimelineId, UnixMillis,
        WriterId,
    },
    index::{Entry, Index, IndexError, Line, Use},
    load::{Load, Step},
    record::{Kind, Link, Record},
    resolve::{Ask, At, Scope, Stop, Target, WhyNot},
    retention::{ExpirePlan, Period, Policy, PolicyError, References},
    spans::{Break, Cause, Lack, Point, Span, Spans, Stretch},
};
