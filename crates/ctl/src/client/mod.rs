//! The client: a connection to one of several endpoints, calls over it, and what went wrong in etcd's words.
//!
//! Reads are tried again when a server says it is unavailable; a write is sent at most once.

mod address;
mod connect;
mod failure;
mod login;
mod session;
mod tls;

use std::future::Future;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

pub(crate) use address::{Address, check_urls};
pub(crate) use failure::CallError;
pub(crate) use session::Session;
pub(crate) use tls::Tls;

use crate::zaplog::{self, Logger};

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
pub(crate) struct Config {
    /// Where the servers are.
    pub(crate) endpoints: Vec<Address>,
    /// Limit of one attempt to connect, and of the login.
    pub(crate) dial_timeout: Duration,
    /// Pause between keep-alive pings.
    pub(crate) keepalive_time: Duration,
    /// How long a ping may stay unanswered.
    pub(crate) keepalive_timeout: Duration,
    /// Certificates.
    pub(crate) tls: Tls,
    /// User name and password.
    pub(crate) user: Option<(String, String)>,
    /// Which logger reports failed attempts.
    pub(crate) logger: Logger,
}

/// Whether a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Read,
    /// It changes something: once it was sent, it is not sent again.
    Write,
}

/// When a call must be done; `None` waits for ever.
pub(crate) type Deadline = Option<Instant>;

/// A connected or connecting client.
pub(crate) struct Client {
    config: Config,
    channel: Mutex<Option<Channel>>,
    token: Option<AsciiMetadataValue>,
    target: String,
}

impl Client {
    /// Makes a client; logs in when a user is configured, otherwise no byte is sent yet.
    ///
    /// # Errors
    /// The login was refused or timed out.
    pub(crate) async fn new(config: Config) -> Result<Client, CallError> {
        let shown = config.endpoints.first().map(|address| address.shown().to_owned()).unwrap_or_default();
        let mut client = Client { channel: Mutex::new(None), token: None, target: String::new(), config };
        // Upstream shows the client's memory address here; ours is as good to tell clients apart.
        client.target = format!("etcd-endpoints://{:p}/{shown}", &raw const client.channel);
        client.token = login::token(&client).await?;
        Ok(client)
    }

    /// A client for one endpoint with the rest of the configuration as it is, and the same login.
    pub(crate) fn to_endpoint(&self, endpoint: Address) -> Client {
        Client {
            config: Config { endpoints: vec![endpoint], ..self.config.clone() },
            channel: Mutex::new(None),
            token: self.token.clone(),
            target: self.target.clone(),
        }
    }

    /// The configured endpoints.
    pub(crate) fn endpoints(&self) -> &[Address] {
        &self.config.endpoints
    }

    /// Makes one unary call; every failed attempt is reported on standard error.
    ///
    /// # Errors
    /// The server refused, or the deadline passed.
    pub(crate) async fn call<T, R, F, S>(
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
            zaplog::attempt_failed(self.config.logger, &self.target, attempt, &error.wire_text());
            attempt += 1;
            let again = repeat == Repeat::Read && error.code() == Some(Code::Unavailable);
            if !again || attempt >= READ_ATTEMPTS_MAX {
                return Err(error);
            }
            self.forget().await;
            tokio::time::sleep(READ_RETRY_PAUSE).await;
        }
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
    pub(crate) async fn channel(&self, deadline: Deadline) -> Result<Channel, CallError> {
        let mut place = self.channel.lock().await;
        if let Some(channel) = &*place {
            return Ok(channel.clone());
        }
        let channel = connect::any(&self.config, deadline).await?;
        *place = Some(channel.clone());
        Ok(channel)
    }

    /// Drops the connection, so that the next call chooses an endpoint anew.
    pub(crate) async fn forget(&self) {
        *self.channel.lock().await = None;
    }

    /// A request with the client's version and login.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("client-api-version", AsciiMetadataValue::from_static(API_VERSION));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// A request that a member without a leader refuses.
    pub(crate) fn request_with_leader<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
        request
    }
}
