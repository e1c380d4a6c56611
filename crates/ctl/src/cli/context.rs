//! What a command gets: its arguments, and on demand a client and a printer.

use std::sync::Arc;
use std::time::Duration;

use eyrie_api::client::{Address, CallError, Client, Config, Deadline, Tls, TlsFiles, User};
use tokio::time::Instant;

use super::find::Found;
use super::flag::Parsed;
use super::globals;
use crate::Local;
use crate::commands::{password, watch_args};
use crate::exit::{self, Failure};
use crate::print::{self, Printer};
use crate::zaplog::Logger;

/// One invocation.
pub(crate) struct Context {
    /// How this program was called.
    pub(crate) program: String,
    /// Arguments and flags.
    pub(crate) parsed: Parsed,
    /// What this program can do with local files; see [`Local`].
    pub(crate) local: Local,
    /// Which command.
    pub(crate) found: Found,
}

/// What a command needs to talk.
pub(crate) struct Link {
    /// The client.
    pub(crate) client: Arc<Client>,
    /// How answers are shown.
    pub(crate) printer: Box<dyn Printer>,
    timeout: Duration,
}

impl Link {
    /// A deadline one command timeout from now.
    pub(crate) fn deadline(&self) -> Deadline {
        Some(Instant::now() + self.timeout)
    }
}

impl Context {
    /// Reads the environment, then makes a client and a printer.
    ///
    /// # Errors
    /// Bad flags, an unknown format, or a refused login.
    pub(crate) async fn connect(&mut self) -> Result<Link, Failure> {
        let config = self.config(Logger::ClientDefault)?;
        self.connect_with(config).await
    }

    /// The same with a configuration that was changed.
    ///
    /// # Errors
    /// An unknown format, or a refused login.
    pub(crate) async fn connect_with(&mut self, config: Config) -> Result<Link, Failure> {
        let printer = self.printer()?;
        if config.endpoints.is_empty() {
            return Err(Failure::new(exit::BAD_CONNECTION, "etcdclient: no available endpoints"));
        }
        let client = Client::new(config).await.map_err(refused)?;
        Ok(Link { client: Arc::new(client), printer, timeout: self.parsed.duration("command-timeout") })
    }

    /// The printer for the format asked for.
    ///
    /// # Errors
    /// There is no such format.
    pub(crate) fn printer(&self) -> Result<Box<dyn Printer>, Failure> {
        print::printer(&self.parsed.text("write-out"), self.parsed.bool("hex"))
            .ok_or_else(|| Failure::new(exit::BAD_FEATURE, "unsupported output format"))
    }

    /// Reads the environment and the flags that describe a client.
    ///
    /// # Errors
    /// Bad flags.
    pub(crate) fn config(&mut self, logger: Logger) -> Result<Config, Failure> {
        let expected = match self.found.command().name {
            "watch" => watch_args::VARIABLES.as_slice(),
            _ => &[],
        };
        globals::read_environment(&mut self.parsed, &self.found.inherited(), expected)?;
        let parsed = &self.parsed;
        let domain = parsed.text("discovery-srv");
        if !domain.is_empty() {
            return Err(Failure::error(format!(
                "--discovery-srv {domain}: DNS discovery is not supported; list the servers with --endpoints=host:port,host:port"
            )));
        }
        for name in ["cert", "key", "cacert"] {
            if parsed.changed(name) && parsed.bytes(name).is_empty() {
                return Err(Failure::args(format!("empty string is passed to --{name} option")));
            }
        }
        let tls = Tls::read(&TlsFiles {
            cacert: parsed.text("cacert"),
            cert: parsed.text("cert"),
            key: parsed.text("key"),
            insecure_transport: parsed.bool("insecure-transport"),
            insecure_skip_verify: parsed.bool("insecure-skip-tls-verify"),
        })
        .map_err(Failure::args)?;
        Ok(Config {
            endpoints: parsed.list("endpoints").into_iter().map(Address::new).collect(),
            dial_timeout: parsed.duration("dial-timeout"),
            keepalive_time: parsed.duration("keepalive-time"),
            keepalive_timeout: parsed.duration("keepalive-timeout"),
            tls,
            user: user(&parsed.text("user"), &parsed.text("password"), "Password: ")?,
            report: logger.report(),
        })
    }
}

/// Splits `name[:password]`; asks on the terminal for a password that is nowhere given.
///
/// # Errors
/// The terminal cannot be asked.
pub(crate) fn user(user: &str, password: &str, prompt: &str) -> Result<Option<User>, Failure> {
    if user.is_empty() {
        return Ok(None);
    }
    if !password.is_empty() {
        return Ok(Some(User { name: user.to_owned(), password: password.to_owned() }));
    }
    Ok(Some(match user.split_once(':') {
        Some((name, password)) => User { name: name.to_owned(), password: password.to_owned() },
        None => User {
            name: user.to_owned(),
            password: password::ask(prompt).map_err(|error| Failure::error(error.to_string()))?,
        },
    }))
}

fn refused(error: CallError) -> Failure {
    Failure::new(exit::BAD_CONNECTION, error.text())
}
