//! What a test returns: an error whose text is for people, also where backtraces are switched on.

/// The result of a test.
pub type Verdict = Result<(), Failure>;

/// Any error, shown as its chain of causes.
pub struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.into())
    }
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
