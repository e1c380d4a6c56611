//! Retention: what stays, what goes, and why. A function of catalogue, policy and time; it deletes nothing.
//!
//! ```text
//! plan(catalog, policy, now) ─▶ ExpirePlan: an item and a reason for each file
//!      └─▶ objects(plan, index, references) ─▶ objects that no kept revision needs
//! Expired record ─▶ files are deleted ─▶ Swept record        killed in between: the next run deletes the rest
//! ```
//! Order comes from the records, never from a clock. Ages are counted in the archive's own life ([`LivedMillis`]): a
//! clock that jumps a year ahead ages nothing by more than two days, and one that goes back ages nothing. Whatever the
//! policy says, three things hold: the last verified chain stays, the newest chain stays, and nothing is removed that
//! no verified chain has come after. The catalogue refuses an expiry that breaks the first two.

mod objects;
mod orphans;
mod plan;
mod policy;

pub use self::{
    objects::{ByUse, Kept, Listed, ObjectPlan, References, plan_objects},
    orphans::{IndexIncomplete, orphans},
    plan::{ExpirePlan, Fate, Item, Thing, Why, WhyGone, plan},
    policy::{Period, Policy, PolicyError, Rule},
};
