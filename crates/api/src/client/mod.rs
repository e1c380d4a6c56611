//! The client: a connection to one of several endpoints, calls over it, and what went wrong in etcd's words.
//!
//! Reads are tried again when a server says it is unavailable; a write is sent at most once. A login that the server no
//! longer knows is renewed once per call: what was refused for it was not done.

mod address;
mod connect;
mod failure;
mod login;
mod page;
mod session;
mod tls;

use std::future::Future;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

pub use address::Address;
pub use connect::dial;
pub use failure::{CallError, os_error};
pub use page::{Page, page};
pub use session::Session;
pub use tls::{Tls, TlsFiles};

/// How often a read is sent before the client gives up.
const READ_ATTEMPTS_MAX: u32 = 100;
/// Pause before a read is sent again.
const READ_RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Pause after a connection broke under a read.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);
/// The client version that servers count (`client-api-version`).
const API_VERSION: &str = "3.5";

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the servers are.
    pub endpoints: Vec<Address>,
    /// Limit of one attempt to connect, and of the login.
    pub dial_timeout: Duration,
    /// Pause between keep-alive pings.
    pub keepalive_time: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// Certificates.
    pub tls: Tls,
    /// Who logs in, if anybody does.
    pub user: Option<User>,
    /// Hears of every failed attempt of a unary call.
    pub report: fn(&FailedAttempt<'_>),
}

impl Config {
    /// etcdctl's own figures: two seconds to connect, a ping every two, no login, and failed attempts go unheard.
    pub fn new(endpoints: Vec<Address>, tls: Tls) -> Config {
        Config {
            endpoints,
            dial_timeout: Duration::from_secs(2),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            tls,
            user: None,
            report: |_| {},
        }
    }
}

/// A name and its password, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub name: String,
    /// The secret.
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("password", &"***").finish()
    }
}

/// One attempt of a unary call that brought no answer.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// Which client, and its first endpoint.
    pub target: &'a str,
    /// Counted from 0.
    pub attempt: u32,
    /// The error as it came over the wire, in gRPC's words.
    pub error: &'a str,
}

/// Whether a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Read,
    /// It changes something: once it was sent, it is not sent again.
    Write,
}

/// When a call must be done; `None` waits for ever.
pub type Deadline = Option<Instant>;

/// A connected or connecting client.
pub struct Client {
    config: Config,
    channel: Mutex<Option<Channel>>,
    token: std::sync::Mutex<Option<AsciiMetadataValue>>,
    target: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; logs in when a user is configured, otherwise no byte is sent yet.
    ///
    /// # Errors
    /// The login was refused or timed out.
    pub async fn new(config: Config) -> Result<Client, CallError> {
        let shown = config.endpoints.first().map(|address| address.shown().to_owned()).unwrap_or_default();
        let mut client = Client { channel: Mutex::new(None), token: None.into(), target: String::new(), config };
        // Upstream shows the client's memory address here; ours is as good to tell clients apart.
        client.target = format!("etcd-endpoints://{:p}/{shown}", &raw const client.channel);
        client.log_in().await?;
        Ok(client)
    }

    /// Changes name and password for a fresh token, where the server wants one. Unary calls do so by themselves; for
    /// streams, whoever opened them does when the server says `invalid auth token`.
    ///
    /// # Errors
    /// The login was refused or timed out.
    pub async fn log_in(&self) -> Result<(), CallError> {
        let token = login::token(self).await?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(())
    }

    fn token(&self) -> Option<AsciiMetadataValue> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same client, with the same login and no connection yet.
    pub fn apart(&self) -> Client {
        Client {
            config: self.config.clone(),
            channel: Mutex::new(None),
            token: self.token().into(),
            target: self.target.clone(),
        }
    }

    /// A client for one endpoint with the rest of the configuration as it is, and the same login.
    pub fn to_endpoint(&self, endpoint: Address) -> Client {
        let mut client = self.apart();
        client.config.endpoints = vec![endpoint];
        client
    }

    /// The configured endpoints.
    pub fn endpoints(&self) -> &[Address] {
        &self.config.endpoints
    }

    /// Makes one unary call; every failed attempt is reported.
    ///
    /// # Errors
    /// The server refused, or the deadline passed.
    pub async fn call<T, R, F, S>(
        &self,
        deadline: Deadline,
        repeat: Repeat,
        message: T,
        send: S,
    ) -> Result<R, CallError>
    where
        T: Clone,
        S: Fn(Channel, Request<T>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempt = 0;
        let mut trouble = None;
        let mut renewed = self.config.user.is_none();
        loop {
            let error = match self.attempt(deadline, message.clone(), &send).await {
                Ok(reply) => return Ok(reply),
                // To a read, a connection that breaks is the same as none: it waits for a better one.
                Err(CallError::Broken(why)) if repeat == Repeat::Read => {
                    trouble = Some(why);
                    self.forget().await;
                    tokio::time::sleep(BROKEN_PAUSE).await;
                    continue;
                }
                Err(CallError::Deadline(why)) => CallError::Deadline(why.or(trouble.take())),
                Err(error) => error,
            };
            self.failed(attempt, &error);
            attempt += 1;
            if !renewed && error.is_old_login() {
                renewed = true;
                self.log_in().await?;
                continue;
            }
            let again = repeat == Repeat::Read && error.code() == Some(Code::Unavailable);
            if !again || attempt >= READ_ATTEMPTS_MAX {
                return Err(error);
            }
            self.forget().await;
            tokio::time::sleep(READ_RETRY_PAUSE).await;
        }
    }

    fn failed(&self, attempt: u32, error: &CallError) {
        let failed = FailedAttempt { target: &self.target, attempt, error: &error.wire_text() };
        (self.config.report)(&failed);
    }

    async fn attempt<T, R, F, S>(&self, deadline: Deadline, message: T, send: &S) -> Result<R, CallError>
    where
        S: Fn(Channel, Request<T>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let channel = self.channel(deadline).await?;
        let call = send(channel, self.request(message));
        let reply = match deadline {
            None => call.await,
            Some(at) => tokio::time::timeout_at(at, call).await.map_err(|_| CallError::Deadline(None))?,
        };
        reply.map(Response::into_inner).map_err(CallError::from)
    }

    /// The connection, made on first use. Waits until some endpoint answers.
    ///
    /// # Errors
    /// The deadline passed first.
    pub async fn channel(&self, deadline: Deadline) -> Result<Channel, CallError> {
        let mut place = self.channel.lock().await;
        if let Some(channel) = &*place {
            return Ok(channel.clone());
        }
        let channel = connect::any(&self.config, deadline).await?;
        *place = Some(channel.clone());
        Ok(channel)
    }

    /// Drops the connection, so that the next call chooses an endpoint anew.
    pub async fn forget(&self) {
        *self.channel.lock().await = None;
    }

    /// A request with the client's version and login.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("client-api-version", AsciiMetadataValue::from_static(API_VERSION));
        if let Some(token) = self.token() {
            request.metadata_mut().insert("token", token);
        }
        request
    }

    /// A request that a member without a leader refuses.
    pub fn request_with_leader<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
        request
    }
}
