//! `alarm`, `defrag`, `move-leader`, `downgrade`.

use eyrie_api::client::{CallError, Client, Deadline, Repeat};
use eyrie_api::etcdserverpb::alarm_request::AlarmAction;
use eyrie_api::etcdserverpb::downgrade_request::DowngradeAction;
use eyrie_api::etcdserverpb::maintenance_client::MaintenanceClient;
use eyrie_api::etcdserverpb::{AlarmRequest, AlarmType, DefragmentRequest, DowngradeRequest, MoveLeaderRequest};

use super::endpoint::{alarms, ask_status, chosen};
use crate::cli::context::Context;
use crate::exit::{self, Done, Failure};
use crate::go::number;
use crate::screen::{error_line, line};

/// `alarm list`
pub(crate) async fn alarm_list(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("alarm list command accepts no arguments"));
    }
    let link = context.connect().await?;
    let reply = alarms(&link.client, link.deadline()).await?;
    link.printer.alarm(&reply)
}

/// `alarm disarm`: lowers every active alarm.
pub(crate) async fn alarm_disarm(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("alarm disarm command accepts no arguments"));
    }
    let link = context.connect().await?;
    let deadline = link.deadline();
    let mut shown = alarms(&link.client, deadline).await?;
    let mut lowered = Vec::new();
    for alarm in &shown.alarms {
        let request =
            AlarmRequest { action: AlarmAction::Deactivate as i32, member_id: alarm.member_id, alarm: alarm.alarm };
        let reply = link
            .client
            .call(deadline, Repeat::Write, request, |channel, request| async move {
                MaintenanceClient::new(channel).alarm(request).await
            })
            .await?;
        lowered.extend(reply.alarms);
    }
    // Many answers became one: none of their headers speaks for it, and upstream shows none.
    shown.header = None;
    shown.alarms = lowered.into_iter().filter(|alarm| alarm.alarm != AlarmType::None as i32).collect();
    link.printer.alarm(&shown)
}

/// `defrag`
pub(crate) async fn defrag(mut context: Context) -> Done {
    let data_dir = context.parsed.text("data-dir");
    if !data_dir.is_empty() {
        let utl = context.program.strip_suffix(" ctl").map_or("etcdutl".into(), |program| format!("{program} utl"));
        error_line(format!(
            "Failed to defragment etcd data[{data_dir}] (only a server or {utl} may change a data directory; \
             stop the member, then run: {utl} defrag --data-dir {data_dir})"
        ));
        return Err(Failure::silent(exit::ERROR));
    }
    let link = context.connect().await?;
    let mut failed = false;
    for endpoint in chosen(&context, &link).await? {
        match ask_defrag(&link.client.to_endpoint(endpoint.clone()), link.deadline()).await {
            Ok(()) => line(format!("Finished defragmenting etcd member[{}]", endpoint.typed())),
            Err(error) => {
                failed = true;
                error_line(format!("Failed to defragment etcd member[{}] ({})", endpoint.typed(), error.text()));
            }
        }
    }
    if failed { Err(Failure::silent(exit::ERROR)) } else { Ok(()) }
}

/// Asks one member to defragment its storage.
///
/// # Errors
/// The call failed.
pub(crate) async fn ask_defrag(client: &Client, deadline: Deadline) -> Result<(), CallError> {
    client
        .call(deadline, Repeat::Write, DefragmentRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).defragment(request).await
        })
        .await
        .map(drop)
}

/// `move-leader ID`
pub(crate) async fn move_leader(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("move-leader command needs 1 argument"));
    }
    let target_id = number::parse_uint(&context.parsed.arg(0), 16).map_err(Failure::args)?;
    let link = context.connect().await?;
    let deadline = link.deadline();
    for endpoint in link.client.endpoints() {
        let client = link.client.to_endpoint(endpoint.clone());
        let status = ask_status(&client, deadline).await?;
        if status.header.map(|header| header.member_id) != Some(status.leader) {
            continue;
        }
        let reply = client
            .call(deadline, Repeat::Write, MoveLeaderRequest { target_id }, |channel, request| async move {
                MaintenanceClient::new(channel).move_leader(request).await
            })
            .await?;
        return link.printer.move_leader(status.leader, target_id, &reply);
    }
    let endpoints: Vec<&str> = link.client.endpoints().iter().map(|endpoint| endpoint.typed()).collect();
    Err(Failure::args(format!("no leader endpoint given at [{}]", endpoints.join(" "))))
}

/// `downgrade validate VERSION`
pub(crate) async fn downgrade_validate(context: Context) -> Done {
    let version = target_version(&context)?;
    downgrade(context, DowngradeAction::Validate, version, "Downgrade validate success").await
}

/// `downgrade enable VERSION`
pub(crate) async fn downgrade_enable(context: Context) -> Done {
    let version = target_version(&context)?;
    downgrade(context, DowngradeAction::Enable, version, "Downgrade enable success").await
}

/// `downgrade cancel`
pub(crate) async fn downgrade_cancel(context: Context) -> Done {
    downgrade(context, DowngradeAction::Cancel, String::new(), "Downgrade cancel success").await
}

fn target_version(context: &Context) -> Result<String, Failure> {
    match context.parsed.args.len() {
        0 => Err(Failure::args("TARGET_VERSION not provided")),
        1 if context.parsed.args[0].is_empty() => Err(Failure::args("target version not provided")),
        1 => Ok(context.parsed.arg(0)),
        _ => Err(Failure::args("too many arguments")),
    }
}

async fn downgrade(mut context: Context, action: DowngradeAction, version: String, done: &str) -> Done {
    let link = context.connect().await?;
    let request = DowngradeRequest { action: action as i32, version };
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            MaintenanceClient::new(channel).downgrade(request).await
        })
        .await?;
    link.printer.downgrade(done, &reply)
}
