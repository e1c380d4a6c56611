//! `member list`, `add`, `remove`, `update`, `promote`.

use eyrie_api::client::{CallError, Client, Deadline, Repeat};
use eyrie_api::etcdserverpb::cluster_client::ClusterClient;
use eyrie_api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest,
};

use super::peer_urls::check_urls;
use crate::cli::context::{Context, Link};
use crate::exit::{Done, Failure};
use crate::go::number;
use crate::screen::line;

/// `member list`
pub(crate) async fn list(mut context: Context) -> Done {
    let link = context.connect().await?;
    let reply = members(&link.client, link.deadline()).await?;
    link.printer.member_list(&reply)
}

/// Asks for the members.
///
/// # Errors
/// The call failed.
pub(crate) async fn members(client: &Client, deadline: Deadline) -> Result<MemberListResponse, CallError> {
    client
        .call(deadline, Repeat::Read, MemberListRequest { linearizable: true }, |channel, request| async move {
            ClusterClient::new(channel).member_list(request).await
        })
        .await
}

/// `member add NAME --peer-urls=…`
pub(crate) async fn add(mut context: Context) -> Done {
    if context.parsed.args.is_empty() {
        return Err(Failure::args("member name not provided"));
    }
    if context.parsed.args.len() > 1 {
        return Err(Failure::args("too many arguments"));
    }
    let name = context.parsed.arg(0);
    let peer_ur_ls = peer_urls(&context)?;
    let link = context.connect().await?;
    check_urls(&peer_ur_ls).map_err(Failure::error)?;
    let request = MemberAddRequest { peer_ur_ls, is_learner: context.parsed.bool("learner") };
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            ClusterClient::new(channel).member_add(request).await
        })
        .await?;
    link.printer.member_add(&reply)?;
    if link.printer.format() == "simple" {
        advise(&name, settled_members(&link, &reply).await?, &reply);
    }
    Ok(())
}

/// The members, asked until the list contains the new one.
async fn settled_members(link: &Link, added: &MemberAddResponse) -> Result<Vec<Member>, Failure> {
    let new = added.member.as_ref().map(|member| member.id).unwrap_or_default();
    let deadline = link.deadline();
    loop {
        let members = members(&link.client, deadline).await?.members;
        if members.iter().any(|member| member.id == new) {
            return Ok(members);
        }
    }
}

/// Says with which settings the new member is to be started.
fn advise(name: &str, members: Vec<Member>, added: &MemberAddResponse) {
    let new = added.member.clone().unwrap_or_default();
    let mut cluster = Vec::new();
    for member in &members {
        let name = if member.id == new.id { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    line(format!(
        "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        cluster.join(","),
        new.peer_ur_ls.join(",")
    ));
}

/// `member remove ID`
pub(crate) async fn remove(mut context: Context) -> Done {
    let id = member_id(&context)?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, MemberRemoveRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_remove(request).await
        })
        .await?;
    link.printer.member_remove(id, &reply)
}

/// `member update ID --peer-urls=…`
pub(crate) async fn update(mut context: Context) -> Done {
    let id = member_id(&context)?;
    let peer_ur_ls = peer_urls(&context)?;
    let link = context.connect().await?;
    check_urls(&peer_ur_ls).map_err(Failure::error)?;
    let request = MemberUpdateRequest { id, peer_ur_ls };
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            ClusterClient::new(channel).member_update(request).await
        })
        .await?;
    link.printer.member_update(id, &reply)
}

/// `member promote ID`
pub(crate) async fn promote(mut context: Context) -> Done {
    let id = member_id(&context)?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, MemberPromoteRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_promote(request).await
        })
        .await?;
    link.printer.member_promote(id, &reply)
}

fn member_id(context: &Context) -> Result<u64, Failure> {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("member ID is not provided"));
    }
    number::parse_uint(&context.parsed.arg(0), 16)
        .map_err(|why| Failure::args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(context: &Context) -> Result<Vec<String>, Failure> {
    let urls = context.parsed.text("peer-urls");
    if urls.is_empty() {
        return Err(Failure::args("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_owned).collect())
}
