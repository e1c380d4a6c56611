//! `endpoint health`, `status`, `hashkv`: questions to each endpoint by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use eyrie_api::client::{Address, CallError, Client, Config, Deadline, Repeat};
use eyrie_api::etcdserverpb::alarm_request::AlarmAction;
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::maintenance_client::MaintenanceClient;
use eyrie_api::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, HashKvRequest, RangeRequest, StatusRequest, StatusResponse,
};

use super::member::members;
use crate::cli::context::{Context, Link};
use crate::exit::{self, Done, Failure};
use crate::print::Health;
use crate::screen::error_line;
use crate::zaplog::Logger;

/// What a member says whose users may not read the probe's key: it answered, so it is healthy.
const DENIED: &str = "etcdserver: permission denied";

/// The endpoints a command is about: those typed, or with `--cluster` those of all members.
///
/// # Errors
/// The members could not be listed.
pub(crate) async fn chosen(context: &Context, link: &Link) -> Result<Vec<Address>, Failure> {
    if !context.parsed.bool("cluster") {
        return Ok(link.client.endpoints().to_vec());
    }
    let reply = members(&link.client, link.deadline()).await.map_err(|error| {
        Failure::error(format!("failed to fetch endpoints from etcd cluster member list: {}", error.text()))
    })?;
    Ok(reply.members.into_iter().flat_map(|member| member.client_ur_ls).map(Address::new).collect())
}

/// `endpoint status`
pub(crate) async fn status(mut context: Context) -> Done {
    let link = context.connect().await?;
    let mut statuses = Vec::new();
    let mut failed = false;
    for endpoint in chosen(&context, &link).await? {
        match ask_status(&link.client.to_endpoint(endpoint.clone()), link.deadline()).await {
            Ok(reply) => statuses.push((endpoint.typed().to_owned(), reply)),
            Err(error) => {
                failed = true;
                let text = error.text();
                error_line(format!("Failed to get the status of endpoint {} ({text})", endpoint.typed()));
            }
        }
    }
    link.printer.status(&statuses)?;
    if failed { Err(Failure::silent(exit::ERROR)) } else { Ok(()) }
}

/// Asks one member for its status.
///
/// # Errors
/// The call failed.
pub(crate) async fn ask_status(client: &Client, deadline: Deadline) -> Result<StatusResponse, CallError> {
    client
        .call(deadline, Repeat::Read, StatusRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).status(request).await
        })
        .await
}

/// `endpoint hashkv`
pub(crate) async fn hash_kv(mut context: Context) -> Done {
    let link = context.connect().await?;
    let request = HashKvRequest { revision: context.parsed.int("rev") };
    let mut hashes = Vec::new();
    let mut last_error = None;
    for endpoint in chosen(&context, &link).await? {
        let reply = link
            .client
            .to_endpoint(endpoint.clone())
            .call(link.deadline(), Repeat::Read, request, |channel, request| async move {
                MaintenanceClient::new(channel).hash_kv(request).await
            })
            .await;
        match reply {
            Ok(reply) => hashes.push((endpoint.typed().to_owned(), reply)),
            Err(error) => {
                let text = error.text();
                error_line(format!("Failed to get the hash of endpoint {} ({text})", endpoint.typed()));
                last_error = Some(error);
            }
        }
    }
    link.printer.hash_kv(&hashes)?;
    last_error.map_or(Ok(()), |error| Err(error.into()))
}

/// `endpoint health`
pub(crate) async fn health(mut context: Context) -> Done {
    let config = context.config(Logger::Production)?;
    let printer = context.printer()?;
    let endpoints = if context.parsed.bool("cluster") {
        let link = context.connect_with(Config { report: Logger::ClientDefault.report(), ..config.clone() }).await?;
        chosen(&context, &link).await?
    } else {
        config.endpoints.clone()
    };
    let timeout = context.parsed.duration("command-timeout");
    let mut probes = JoinSet::new();
    for endpoint in endpoints {
        let config = Config { endpoints: vec![endpoint], ..config.clone() };
        probes.spawn(probe(config, timeout));
    }
    let healths = probes.join_all().await;
    printer.health(&healths)?;
    if healths.iter().any(|health| !health.error.is_empty()) {
        return Err(Failure::error("unhealthy cluster"));
    }
    Ok(())
}

/// Reads a key through consensus, then looks for alarms.
async fn probe(config: Config, timeout: Duration) -> Health {
    let endpoint = config.endpoints[0].typed().to_owned();
    let client = match Client::new(config).await {
        Ok(client) => Arc::new(client),
        Err(error) => return Health { endpoint, healthy: false, took: Duration::ZERO, error: error.text() },
    };
    let began = Instant::now();
    let deadline = Some(began + timeout);
    let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    let read =
        client
            .call(deadline, Repeat::Read, request, |channel, request| async move {
                KvClient::new(channel).range(request).await
            })
            .await;
    let mut health = Health { endpoint, healthy: false, took: began.elapsed(), error: String::new() };
    match read {
        Err(error) if error.message() != DENIED => health.error = error.text(),
        _ => match alarms(&client, deadline).await {
            Ok(reply) if reply.alarms.is_empty() => health.healthy = true,
            Ok(reply) => health.error = alarm_text(&reply),
            Err(_) => health.error = "Unable to fetch the alarm list".into(),
        },
    }
    health
}

/// Asks for the active alarms.
///
/// # Errors
/// The call failed.
pub(crate) async fn alarms(client: &Client, deadline: Deadline) -> Result<AlarmResponse, CallError> {
    let request = AlarmRequest { action: AlarmAction::Get as i32, member_id: 0, alarm: AlarmType::None as i32 };
    client
        .call(deadline, Repeat::Read, request, |channel, request| async move {
            MaintenanceClient::new(channel).alarm(request).await
        })
        .await
}

fn alarm_text(reply: &AlarmResponse) -> String {
    let names: Vec<&str> = reply
        .alarms
        .iter()
        .map(|alarm| match alarm.alarm() {
            AlarmType::Nospace => "NOSPACE ",
            AlarmType::Corrupt => "CORRUPT ",
            AlarmType::None => "UNKNOWN ",
        })
        .collect();
    format!("Active Alarm(s): {}", names.join(", "))
}
