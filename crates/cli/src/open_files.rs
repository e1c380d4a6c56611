//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is assumed where the system does not say: what it gives by custom.
const CUSTOMARY: u64 = 1024;

/// Raises the limit as far as it may be raised, as Go programs do, and says what it is then.
pub(crate) fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = setrlimit(Resource::Nofile, raised).map_or(limit, |()| raised);
    usize::try_from(limit.current.unwrap_or(CUSTOMARY)).unwrap_or(usize::MAX)
}
