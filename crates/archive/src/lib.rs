//! Memory: what a backup consists of, which chain is whole, what retention keeps, what a restore needs.
//!
//! Values in, values out: no network, no clock, no cipher, and nothing of what is inside a record.
