//! The protobuf format: an answer's bytes as they came, without a line end.

use super::{Printer, Reply};
use crate::exit::Done;
use crate::screen;

/// See the module.
pub(super) struct Protobuf;

impl Printer for Protobuf {
    fn format(&self) -> &'static str {
        "protobuf"
    }

    fn reply(&self, reply: &dyn Reply) -> Done {
        screen::out(reply.bytes());
        Ok(())
    }
}
