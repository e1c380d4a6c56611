//! `role add`, `delete`, `get`, `list`, `grant-permission`, `revoke-permission`.

use bytes::Bytes;

use eyrie_api::authpb::Permission;
use eyrie_api::authpb::permission::Type;
use eyrie_api::client::{CallError, Client, Repeat};
use eyrie_api::etcdserverpb::auth_client::AuthClient;
use eyrie_api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleRevokePermissionRequest,
};

use super::range::prefix_end;
use crate::cli::context::Context;
use crate::cli::flag::Parsed;
use crate::exit::{Done, Failure};

/// `role add NAME`
pub(crate) async fn add(mut context: Context) -> Done {
    let name = one_name(&context, "role add command requires role name as its argument")?;
    let link = context.connect().await?;
    let request = AuthRoleAddRequest { name: name.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).role_add(request).await
        })
        .await?;
    link.printer.role_add(&name, &reply)
}

/// `role delete NAME`
pub(crate) async fn delete(mut context: Context) -> Done {
    let name = one_name(&context, "role delete command requires role name as its argument")?;
    let link = context.connect().await?;
    let request = AuthRoleDeleteRequest { role: name.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).role_delete(request).await
        })
        .await?;
    link.printer.role_delete(&name, &reply)
}

/// `role get NAME`
pub(crate) async fn get(mut context: Context) -> Done {
    let name = one_name(&context, "role get command requires role name as its argument")?;
    let link = context.connect().await?;
    let reply = ask_role(&link.client, &name).await?;
    link.printer.role_get(&name, &reply)
}

/// Asks for one role.
///
/// # Errors
/// The call failed.
pub(crate) async fn ask_role(client: &Client, name: &str) -> Result<AuthRoleGetResponse, CallError> {
    let request = AuthRoleGetRequest { role: name.to_owned() };
    client
        .call(None, Repeat::Read, request, |channel, request| async move {
            AuthClient::new(channel).role_get(request).await
        })
        .await
}

/// `role list`
pub(crate) async fn list(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("role list command requires no arguments"));
    }
    let link = context.connect().await?;
    let reply = link
        .client
        .call(None, Repeat::Read, AuthRoleListRequest {}, |channel, request| async move {
            AuthClient::new(channel).role_list(request).await
        })
        .await?;
    link.printer.role_list(&reply)
}

/// `role grant-permission ROLE read|write|readwrite KEY [END]`
pub(crate) async fn grant_permission(mut context: Context) -> Done {
    if context.parsed.args.len() < 3 {
        return Err(Failure::args(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let kind = match context.parsed.arg(1).to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::args(format!("invalid permission type: {}", context.parsed.arg(1)))),
    };
    let name = context.parsed.arg(0);
    let (key, range_end) = range(&context.parsed, 2)?;
    let link = context.connect().await?;
    let perm = Some(Permission { perm_type: kind as i32, key, range_end });
    let request = AuthRoleGrantPermissionRequest { name: name.clone(), perm };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).role_grant_permission(request).await
        })
        .await?;
    link.printer.role_grant(&name, &reply)
}

/// `role revoke-permission ROLE KEY [END]`
pub(crate) async fn revoke_permission(mut context: Context) -> Done {
    if context.parsed.args.len() < 2 {
        return Err(Failure::args(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let role = context.parsed.arg(0);
    let (key, range_end) = range(&context.parsed, 1)?;
    let link = context.connect().await?;
    let request =
        AuthRoleRevokePermissionRequest { role: role.clone(), key: key.clone(), range_end: range_end.clone() };
    let reply = link
        .client
        .call(None, Repeat::Write, request, |channel, request| async move {
            AuthClient::new(channel).role_revoke_permission(request).await
        })
        .await?;
    // A single key that was widened to a prefix is named as it was typed.
    link.printer.role_revoke(&role, &key, &range_end, &reply)
}

/// The range that the arguments from `at` on and the flags name.
fn range(parsed: &Parsed, at: usize) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (parsed.bool("prefix"), parsed.bool("from-key"));
    let key = &parsed.args[at];
    if prefix && from_key {
        return Err(Failure::args("--from-key and --prefix flags are mutually exclusive"));
    }
    let end = parsed.args.get(at + 1);
    if prefix && end.is_some() {
        return Err(Failure::args("unexpected endkey argument with --prefix flag"));
    }
    if from_key && end.is_some() {
        return Err(Failure::args("unexpected endkey argument with --from-key flag"));
    }
    let nothing = Bytes::from_static(b"\0");
    let whole_key = if key.is_empty() { nothing.clone() } else { Bytes::copy_from_slice(key) };
    Ok(match end {
        Some(end) => (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end)),
        None if prefix && key.is_empty() => (whole_key, nothing),
        None if prefix => (whole_key, prefix_end(key)),
        None if from_key => (whole_key, nothing),
        None => (whole_key, Bytes::new()),
    })
}

fn one_name(context: &Context, usage: &str) -> Result<String, Failure> {
    match context.parsed.args.len() {
        1 => Ok(context.parsed.arg(0)),
        _ => Err(Failure::args(usage)),
    }
}
