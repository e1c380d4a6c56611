//! The command line: what may be typed, how it is read, and how help is laid out.
//!
//! It copies the manners of the Go libraries cobra and pflag, whose words operators and scripts know.

pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod find;
pub(crate) mod flag;
pub(crate) mod globals;
pub(crate) mod help;
pub(crate) mod tree;
