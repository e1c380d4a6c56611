//! `auth enable`, `disable`, `status`.

use eyrie_api::client::{CallError, Client, Deadline, Repeat};
use eyrie_api::etcdserverpb::auth_client::AuthClient;
use eyrie_api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthUserGrantRoleRequest,
};

use crate::cli::context::{Context, Link};
use crate::exit::{Done, Failure};
use crate::screen::line;

const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";
const ROLE_EXISTS: &str = "etcdserver: role name already exists";

/// `auth enable`: also makes the role `root` and gives it to the user `root` when that is what is missing.
pub(crate) async fn enable(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("auth enable command does not accept any arguments"));
    }
    let link = context.connect().await?;
    let deadline = link.deadline();
    loop {
        match ask_enable(&link.client, deadline).await {
            Ok(()) => break,
            Err(error) if error.message() == NO_ROOT_ROLE => give_root_role(&link, deadline).await?,
            Err(error) => return Err(error.into()),
        }
    }
    line("Authentication Enabled");
    Ok(())
}

async fn ask_enable(client: &Client, deadline: Deadline) -> Result<(), CallError> {
    client
        .call(deadline, Repeat::Write, AuthEnableRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_enable(request).await
        })
        .await
        .map(drop)
}

async fn give_root_role(link: &Link, deadline: Deadline) -> Done {
    let request = AuthRoleAddRequest { name: "root".into() };
    let added = link
        .client
        .call(deadline, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).role_add(request).await
        })
        .await;
    match added {
        Ok(_) => {}
        Err(error) if error.message() == ROLE_EXISTS => {}
        Err(error) => return Err(error.into()),
    }
    let request = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    link.client
        .call(deadline, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_grant_role(request).await
        })
        .await?;
    Ok(())
}

/// `auth disable`
pub(crate) async fn disable(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("auth disable command does not accept any arguments"));
    }
    let link = context.connect().await?;
    link.client
        .call(link.deadline(), Repeat::Write, AuthDisableRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_disable(request).await
        })
        .await?;
    line("Authentication Disabled");
    Ok(())
}

/// `auth status`
pub(crate) async fn status(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("auth status command does not accept any arguments"));
    }
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Read, AuthStatusRequest {}, |channel, request| async move {
            AuthClient::new(channel).auth_status(request).await
        })
        .await?;
    link.printer.auth_status(&reply)
}
