//! Passwords: hashed and compared off the edges, a few at a time, since each takes a core for tens of milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bcrypt::Version;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::errors::ServeError;
use crate::limits::{PASSWORDS_AT_ONCE_MAX, PASSWORDS_WAITING_MAX};

/// What bcrypt looks at.
const PASSWORD_BYTES_MAX: usize = 72;

/// Where passwords are worked on.
#[derive(Debug)]
pub(super) struct Passwords {
    cost: u32,
    at_once: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Self {
        Self { cost, at_once: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE_MAX)), waiting: AtomicUsize::new(0) }
    }

    /// The hash of a new password, as etcd writes it.
    ///
    /// # Errors
    /// bcrypt looks at 72 bytes only: a longer password is refused rather than cut. [`ServeError::TooManyRequests`] when
    /// too many wait.
    pub(super) async fn hash(&self, password: String) -> Result<String, ServeError> {
        if password.len() > PASSWORD_BYTES_MAX {
            let text = "etcdserver: bcrypt: password length exceeds 72 bytes";
            return Err(ServeError::other(Code::InvalidArgument, text));
        }
        let cost = self.cost;
        let failed = |_| ServeError::other(Code::Internal, "etcdserver: the password could not be hashed");
        let parts = self.work(move || bcrypt::hash_with_result(password, cost)).await?.map_err(failed)?;
        Ok(parts.format_for_version(Version::TwoA))
    }

    /// Whether this is the password that was hashed.
    ///
    /// # Errors
    /// [`ServeError::TooManyRequests`] when too many wait.
    pub(super) async fn matches(&self, password: String, hash: String) -> Result<bool, ServeError> {
        Ok(self.work(move || bcrypt::verify(password, &hash)).await?.unwrap_or(false))
    }

    async fn work<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, ServeError> {
        let _place = Place::take(&self.waiting).ok_or(ServeError::TooManyRequests)?;
        let turn = self.at_once.clone().acquire_owned().await.map_err(|_| ServeError::Stopped)?;
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.map_err(|_| ServeError::Stopped)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < PASSWORDS_WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_gos_and_fits_its_password_only() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".into()).await.expect("a hash");
        assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "{hash}");
        assert!(passwords.matches("secret".into(), hash.clone()).await.expect("an answer"));
        assert!(!passwords.matches("Secret".into(), hash).await.expect("an answer"));
        assert!(!passwords.matches(String::new(), String::new()).await.expect("an answer"));
        let long = passwords.hash("x".repeat(73)).await.expect_err("too long");
        assert!(long.to_string().contains("72 bytes"), "{long}");
        assert!(passwords.hash("x".repeat(72)).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_in_an_endless_queue() {
        let passwords = Arc::new(Passwords::new(4));
        let all: Vec<_> = (0..PASSWORDS_WAITING_MAX + 20)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.hash("p".into()).await.is_ok() })
            })
            .collect();
        let mut refused = 0;
        for one in all {
            refused += usize::from(!one.await.expect("it ends"));
        }
        assert_eq!(refused, 20);
        assert!(passwords.hash("p".into()).await.is_ok(), "places are given back");
    }
}
