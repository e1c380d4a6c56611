//! The guard: what credentials are worth now, and how one gets a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eyrie_state::{Answer, Auth, AuthChange, Author, Command, Refusal};
use http::Extensions;
use parking_lot::RwLock;
use tonic::Code;

use super::credentials::{self, Credentials};
use super::jwt::Jwt;
use super::password::Passwords;
use super::settings::{AuthSettings, TokenKind};
use super::simple::{self, Shown, SimpleTokens};
use crate::errors::ServeError;
use crate::limits::{LOGIN_RETRIES_MAX, TOKEN_WAIT};
use crate::log_warn;
use crate::node::{DurableState, Fatal};
use crate::store::Store;
use crate::tls::ClientIdentity;

/// What a member knows about tokens and passwords.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Follows the state, a moment behind. Only for not asking where there is nothing to ask: who is let pass because
    /// of it is nobody, and the state refuses nobody.
    on: AtomicBool,
    tokens: Tokens,
    passwords: Passwords,
    certificate_names: bool,
}

#[derive(Debug)]
enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
}

impl Guard {
    /// # Errors
    /// Keys that can't be read or don't belong together.
    pub(crate) fn new(settings: &AuthSettings, enabled: bool) -> Result<Self, Fatal> {
        let tokens = match &settings.token {
            TokenKind::Simple => Tokens::Simple(SimpleTokens::new(settings.simple_token_ttl)),
            TokenKind::Jwt(jwt) => {
                let jwt = Jwt::open(jwt).map_err(|why| Fatal::Other(format!("--auth-token=jwt: {why}")))?;
                Tokens::Jwt(Box::new(jwt))
            }
        };
        Ok(Self {
            on: AtomicBool::new(enabled),
            tokens,
            passwords: Passwords::new(settings.bcrypt_cost),
            certificate_names: settings.certificate_names,
        })
    }

    /// Users may be enforced: ask the state.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The state's users are others now.
    pub(crate) fn follow(&self, auth: &Auth) {
        self.on.store(auth.enabled(), Ordering::Relaxed);
        if let Tokens::Simple(tokens) = &self.tokens
            && !auth.enabled()
        {
            tokens.forget_all();
        }
    }

    /// Hears what was applied, before whoever asked for it does.
    pub(crate) fn heard(&self, answer: &Answer, state: &RwLock<DurableState>) {
        match answer {
            Answer::Auth => self.follow(state.read().auth()),
            Answer::Token { user, fingerprint, issued_millis, .. } => {
                let Tokens::Simple(tokens) = &self.tokens else { return };
                // A user that is gone by now gets no token; a password that is new by now must be given again.
                if let Some(known) = state.read().auth().user(user) {
                    tokens.learn(*fingerprint, user, &known.password_hash, *issued_millis);
                }
            }
            _ => {}
        }
    }

    /// What a request brings. A simple token that this member has yet to hear of is waited for, briefly.
    pub(super) async fn credentials(
        &self,
        store: &Store,
        headers: &http::HeaderMap,
        extensions: &Extensions,
    ) -> Credentials {
        let Some(token) = credentials::token(headers) else {
            let name = self.certificate_names.then(|| certificate_name(extensions)).flatten();
            return name.map_or(Credentials::None, Credentials::Certificate);
        };
        match &self.tokens {
            Tokens::Simple(tokens) => {
                let Some(shown) = Shown::read(token) else { return Credentials::Bad };
                if !tokens.knows(&shown.fingerprint) && shown.index > store.applied() {
                    let applied = store.applied_up_to(shown.index);
                    let _ = tokio::time::timeout(TOKEN_WAIT, applied).await;
                }
                Credentials::Simple(shown.fingerprint)
            }
            Tokens::Jwt(jwt) => match jwt.verify(token) {
                Some(claims) => {
                    let revision = eyrie_state::AuthRevision(claims.revision);
                    // Signed by a member that is ahead of this one.
                    if store.read(|state| state.auth().revision() < revision) {
                        let _ = store.linearize().await;
                    }
                    Credentials::Claims { user: claims.username.into(), revision, expires_secs: claims.exp }
                }
                None => Credentials::Bad,
            },
        }
    }

    /// Who that is now.
    ///
    /// # Errors
    /// The token is not good, or not any more.
    pub(crate) fn author(&self, credentials: &Credentials, auth: &Auth) -> Result<Author, ServeError> {
        let of = |name: &Arc<str>| Author::User { name: name.clone(), revision: auth.revision() };
        match credentials {
            Credentials::None => Ok(Author::Nobody),
            Credentials::Bad => Err(invalid_token()),
            Credentials::Certificate(name) => Ok(of(name)),
            Credentials::Simple(fingerprint) => {
                let Tokens::Simple(tokens) = &self.tokens else { return Err(invalid_token()) };
                let fits = |user: &str, hash: &str| auth.user(user).is_some_and(|user| user.password_hash == hash);
                tokens.user(fingerprint, fits).map(|name| of(&name)).ok_or_else(invalid_token)
            }
            Credentials::Claims { user, revision, expires_secs } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::MAX).as_secs();
                let author = Author::User { name: user.clone(), revision: *revision };
                if now < *expires_secs { Ok(author) } else { Err(invalid_token()) }
            }
        }
    }

    /// Changes a name and a password for a token.
    ///
    /// # Errors
    /// Users are not enforced, or the two don't belong together.
    pub(crate) async fn log_in(&self, store: &Store, name: &str, password: &str) -> Result<String, ServeError> {
        store.linearize().await?;
        for _ in 0..LOGIN_RETRIES_MAX {
            let (revision, user) = store.read(|state| {
                let auth = state.auth();
                if auth.enabled() {
                    Ok((auth.revision(), auth.user(name).cloned()))
                } else {
                    Err(Refusal::AuthNotEnabled)
                }
            })?;
            let user = user.ok_or(Refusal::AuthFailed)?;
            if user.no_password {
                let text = "auth: authentication failed, password was given for no password user";
                return Err(ServeError::other(Code::Unknown, text));
            }
            if !self.passwords.matches(password.to_owned(), user.password_hash).await? {
                log_warn!("invalid password", "user-name" = name);
                return Err(Refusal::AuthFailed.into());
            }
            match &self.tokens {
                Tokens::Simple(_) => match self.give_out(store, name, revision).await {
                    // Something about users changed while the password was looked at: look again.
                    Err(ServeError::Refused(Refusal::AuthOldRevision)) => {}
                    done => return done,
                },
                Tokens::Jwt(jwt) => {
                    if store.read(|state| state.auth().revision()) == revision {
                        let unsigned = |text: String| ServeError::other(Code::Unknown, text);
                        return jwt.sign(name, revision.0).map_err(unsigned);
                    }
                }
            }
        }
        Err(Refusal::AuthOldRevision.into())
    }

    async fn give_out(
        &self,
        store: &Store,
        name: &str,
        revision: eyrie_state::AuthRevision,
    ) -> Result<String, ServeError> {
        let letters = simple::letters().map_err(|why| ServeError::other(Code::Internal, why))?;
        let change = AuthChange::Token {
            user: name.to_owned(),
            revision,
            fingerprint: simple::fingerprint(&letters),
            issued_millis: simple::millis_now(),
        };
        match store.itself().propose_now(Command::Auth(change)).await? {
            (_, Answer::Token { index, .. }) => Ok(format!("{letters}.{index}")),
            _ => Err(ServeError::other(Code::Internal, "etcdserver: a login was answered with something else")),
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// It is too long, or too many wait.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ServeError> {
        self.passwords.hash(password).await
    }
}

/// The common name of the client's certificate; there is none for calls of the JSON gateway.
fn certificate_name(extensions: &Extensions) -> Option<Arc<str>> {
    extensions.get::<ClientIdentity>().map(|identity| identity.common_name.clone())
}

fn invalid_token() -> ServeError {
    ServeError::other(Code::Unauthenticated, "etcdserver: invalid auth token")
}
