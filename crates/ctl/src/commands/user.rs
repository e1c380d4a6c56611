//! `user add`, `delete`, `get`, `list`, `passwd`, `grant-role`, `revoke-role`.

use eyrie_api::authpb::UserAddOptions;
use eyrie_api::client::Repeat;
use eyrie_api::etcdserverpb::auth_client::AuthClient;
use eyrie_api::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use super::{password, role};
use crate::cli::context::Context;
use crate::exit::{Done, Failure};
use crate::screen::{line, out};

/// `user add NAME[:PASSWORD]`
pub(crate) async fn add(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("user add command requires user name as its argument"));
    }
    let (name, password) = name_and_password(&context)?;
    let link = context.connect().await?;
    let options = Some(UserAddOptions { no_password: context.parsed.bool("no-password") });
    let request = AuthUserAddRequest { name: name.clone(), password, options, hashed_password: String::new() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_add(request).await
        })
        .await?;
    link.printer.user_add(&name, &reply)
}

fn name_and_password(context: &Context) -> Result<(String, String), Failure> {
    let parsed = &context.parsed;
    let typed = parsed.arg(0);
    let from_flag = parsed.text("new-user-password");
    if parsed.bool("no-password") {
        return Ok((typed, String::new()));
    }
    if !from_flag.is_empty() {
        return Ok((typed, from_flag));
    }
    match typed.split_once(':') {
        Some(("", _)) => Err(Failure::args("empty user name is not allowed")),
        Some((name, password)) => Ok((name.into(), password.into())),
        None if parsed.bool("interactive") => {
            let password = password::ask_twice(&typed)?;
            Ok((typed, password))
        }
        None => Ok((typed, password::word_from_stdin())),
    }
}

/// `user delete NAME`
pub(crate) async fn delete(mut context: Context) -> Done {
    let name = one_name(&context, "user delete command requires user name as its argument")?;
    let link = context.connect().await?;
    let request = AuthUserDeleteRequest { name: name.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_delete(request).await
        })
        .await?;
    link.printer.user_delete(&name, &reply)
}

/// `user get NAME`
pub(crate) async fn get(mut context: Context) -> Done {
    let name = one_name(&context, "user get command requires user name as its argument")?;
    let link = context.connect().await?;
    let request = AuthUserGetRequest { name: name.clone() };
    let reply = link
        .client
        .call(None, Repeat::Read, request, |channel, request| async move {
            AuthClient::new(channel).user_get(request).await
        })
        .await?;
    if !context.parsed.bool("detail") {
        return link.printer.user_get(&name, &reply);
    }
    line(format!("User: {name}"));
    for name in &reply.roles {
        out("\n");
        link.printer.role_get(name, &role::ask_role(&link.client, name).await?)?;
    }
    Ok(())
}

/// `user list`
pub(crate) async fn list(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("user list command requires no arguments"));
    }
    let link = context.connect().await?;
    let reply = link
        .client
        .call(None, Repeat::Read, AuthUserListRequest {}, |channel, request| async move {
            AuthClient::new(channel).user_list(request).await
        })
        .await?;
    link.printer.user_list(&reply)
}

/// `user passwd NAME`
pub(crate) async fn passwd(mut context: Context) -> Done {
    let name = one_name(&context, "user passwd command requires user name as its argument")?;
    let password = match context.parsed.bool("interactive") {
        true => password::ask_twice(&name)?,
        false => password::word_from_stdin(),
    };
    let link = context.connect().await?;
    let request = AuthUserChangePasswordRequest { name, password, hashed_password: String::new() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_change_password(request).await
        })
        .await?;
    link.printer.user_password(&reply)
}

/// `user grant-role NAME ROLE`
pub(crate) async fn grant_role(mut context: Context) -> Done {
    if context.parsed.args.len() != 2 {
        return Err(Failure::args("user grant command requires user name and role name as its argument"));
    }
    let (user, role) = (context.parsed.arg(0), context.parsed.arg(1));
    let link = context.connect().await?;
    let request = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_grant_role(request).await
        })
        .await?;
    link.printer.user_grant(&user, &role, &reply)
}

/// `user revoke-role NAME ROLE`
pub(crate) async fn revoke_role(mut context: Context) -> Done {
    if context.parsed.args.len() != 2 {
        return Err(Failure::args("user revoke-role requires user name and role name as its argument"));
    }
    let (user, role) = (context.parsed.arg(0), context.parsed.arg(1));
    let link = context.connect().await?;
    let request = AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).user_revoke_role(request).await
        })
        .await?;
    link.printer.user_revoke(&user, &role, &reply)
}

fn one_name(context: &Context, usage: &str) -> Result<String, Failure> {
    match context.parsed.args.len() {
        1 => Ok(context.parsed.arg(0)),
        _ => Err(Failure::args(usage)),
    }
}
