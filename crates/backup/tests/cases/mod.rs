//! What goes wrong, and what goes further: kills at every call, mistakes, envelopes, moves.

mod killed;
mod moved;
mod sealed;
mod wrong;
