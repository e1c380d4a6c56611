//! Logging in: a name and a password are changed for a token.

use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;

use crate::etcdserverpb::AuthenticateRequest;
use crate::etcdserverpb::auth_client::AuthClient;

use super::{CallError, Client, User};

/// What a server says whose authentication is off; then no login is needed.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// Gets a token for the configured user, if one is configured and the server wants one.
pub(super) async fn token(client: &Client) -> Result<Option<AsciiMetadataValue>, CallError> {
    let Some(User { name, password }) =
        client.config.user.clone().filter(|user| !user.name.is_empty() && !user.password.is_empty())
    else {
        return Ok(None);
    };
    let deadline = Some(Instant::now() + client.config.dial_timeout);
    let request = AuthenticateRequest { name, password };
    let send = |channel, request| async move { AuthClient::new(channel).authenticate(request).await };
    let reply = client.attempt(deadline, request, &send).await.inspect_err(|error| client.failed(0, error));
    match reply {
        Ok(reply) => AsciiMetadataValue::try_from(reply.token).map(Some).map_err(|_| {
            CallError::Local("the server's login token is not printable; check that the endpoint is etcd".into())
        }),
        Err(error) if error.message() == NOT_ENABLED => Ok(None),
        Err(error) => Err(error),
    }
}
