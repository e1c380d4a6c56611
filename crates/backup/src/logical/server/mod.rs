//! `server`: milvus-backup's REST interface, with an optional token, tasks that survive a restart, and cancelling.
//!
//! ```text
//! request ─▶ token ─▶ wire: what is meant ─▶ task: recorded, run, recorded ─▶ answer {requestId, code, msg, data}
//! ```
//!
//! Codes in the body are upstream's; the HTTP status says the same, where upstream says 200 to everything.

mod tasks;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use eyrie_milvus::logical::BackupName;
use serde_json::{Value, json};

use self::tasks::{Kind as TaskKind, Tasks};
pub use self::tls::Certificate;
use self::tls::TlsListener;
use super::config::Settings;
use super::failure::{Failure, Kind, Result};
use super::store::{State as BackupState, Store};
use super::{Doors, Tell, check, create, restore};
use crate::bucket::Secret;

/// The description of this interface.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What all requests share.
struct App {
    settings: Settings,
    store: Store,
    tasks: Tasks,
    token: Option<Secret>,
}

type Shared = State<Arc<App>>;
type Asked = Query<BTreeMap<String, String>>;

/// Serves until `stop` is ready; with a certificate, encrypted. Other servers may have the same place: each knows its own
/// tasks, and those of a server that is gone are told as failed.
///
/// # Errors
/// The place of the backups can't be read or written.
pub async fn serve(
    settings: Settings,
    listener: tokio::net::TcpListener,
    token: Option<Secret>,
    certificate: Option<Certificate>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let store = Store::open(&settings)?;
    // Held here, so that it ends with this server and not with its last task.
    let (tasks, _claim) = Tasks::open(store.bucket()).await?;
    let app = Arc::new(App { settings, store, tasks, token });
    let cant =
        |error: std::io::Error| Failure::new(Kind::Unavailable, format!("can't serve: {error}"), "start it again");
    match certificate {
        None => axum::serve(listener, router(app)).with_graceful_shutdown(stop).await,
        Some(certificate) => {
            let listener = TlsListener::over(listener, &certificate).map_err(cant)?;
            axum::serve(listener, router(app)).with_graceful_shutdown(stop).await
        }
    }
    .map_err(cant)
}

fn router(app: Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/create", post(create_backup))
        .route("/list", get(list))
        .route("/get_backup", get(get_backup))
        .route("/delete", delete(delete_backup))
        .route("/restore", post(restore_backup))
        .route("/get_restore", get(get_restore))
        .route("/tasks", get(list_tasks))
        .route("/cancel", delete(cancel))
        .route("/check", get(check_all))
        .layer(from_fn_with_state(app.clone(), guard));
    let open = Router::new()
        .route("/hello", get(|| async { "Hello, this is the backup service" }))
        .route("/docs/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }));
    Router::new().nest("/api/v1", guarded.merge(open)).with_state(app)
}

/// Lets in who has the token, if there is one.
async fn guard(State(app): Shared, request: Request, next: Next) -> Response {
    let Some(token) = &app.token else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("Bearer ")) {
        Some(given) if same(given.as_bytes(), token.reveal().as_bytes()) => next.run(request).await,
        _ => {
            let failure =
                Failure::new(Kind::Denied, "the token is missing or wrong", "send Authorization: Bearer TOKEN");
            answer(&HeaderMap::new(), "", Err(failure))
        }
    }
}

/// Compares without telling by time where two words differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

async fn create_backup(State(app): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let request: wire::Create = match wire::parse(&body) {
        Ok(request) => request,
        Err(failure) => return answer(&headers, "", Err(failure)),
    };
    let id = request.request_id.clone();
    let done = begin_create(app, request).await;
    answer(&headers, &id, done)
}

async fn begin_create(app: Arc<App>, request: wire::Create) -> Result<Value> {
    let wait = !request.in_background;
    let mut options = request.options()?;
    options.recipients = app.settings.recipients()?;
    let name = options.name.get_or_insert_with(create::name_of_now).clone();
    let settings = app.settings.clone();
    // A task has its own connections: they live on its thread.
    let run = async move |tell: Tell| {
        let doors = Doors::open(&settings).await?;
        let created = create::create(&doors, &settings, &options, &tell).await?;
        let failed: Vec<String> = created.failed.iter().map(|one| format!("{}.{}", one.database, one.name)).collect();
        let mut data = wire::brief(&created.info);
        data["failed"] = json!(failed);
        Ok(data)
    };
    if app.tasks.running(TaskKind::Create, name.as_str()).await.is_some() {
        let next = "wait for it (GET /api/v1/get_backup), or cancel it (DELETE /api/v1/cancel)";
        return Err(Failure::new(Kind::Exists, format!("backup {} is being made already", name.as_str()), next));
    }
    let task = app.tasks.begin(TaskKind::Create, name.as_str(), run).await?;
    app.tasks.answer(&task, wait).await
}

async fn restore_backup(State(app): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let request: wire::Restore = match wire::parse(&body) {
        Ok(request) => request,
        Err(failure) => return answer(&headers, "", Err(failure)),
    };
    let id = request.request_id.clone();
    let done = begin_restore(app, request).await;
    answer(&headers, &id, done)
}

async fn begin_restore(app: Arc<App>, request: wire::Restore) -> Result<Value> {
    let wait = !request.in_background;
    let (name, options) = request.options()?;
    let doors = Doors::open(&app.settings).await?;
    // What can be known before is an answer to this request, and not of a task.
    restore::plan(&doors, &name, &options).await?;
    let (settings, shown) = (app.settings.clone(), name.clone());
    let run = async move |tell: Tell| {
        let doors = Doors::open(&settings).await?;
        let restored = restore::restore(&doors, &settings, &name, &options, &tell).await?;
        let collections: Vec<Value> = restored
            .done
            .iter()
            .map(|(name, rows)| wire::collection_task(name, 2, "", Some(*rows)))
            .chain(restored.failed.iter().map(|(name, why)| wire::collection_task(name, 3, &why.line(), None)))
            .collect();
        match restored.failed.first() {
            None => Ok(json!({ "collection_restore_tasks": collections })),
            Some((name, why)) => Err(why.clone().during(&name.to_string())),
        }
    };
    let task = app.tasks.begin(TaskKind::Restore, shown.as_str(), run).await?;
    app.tasks.answer(&task, wait).await
}

async fn list(State(app): Shared, headers: HeaderMap) -> Response {
    let listed = app.store.list().await.map(|listed| {
        let counts = |state: &BackupState| matches!(state, BackupState::Whole | BackupState::Partial(_));
        let briefs = listed.iter().filter(|one| counts(&one.state)).filter_map(|one| one.brief.as_ref());
        briefs
            .map(|b| json!({ "id": b.id, "name": b.name, "size": b.size, "milvus_version": b.milvus_version }))
            .collect()
    });
    answer(&headers, "", listed)
}

async fn get_backup(State(app): Shared, headers: HeaderMap, Query(asked): Asked) -> Response {
    answer(&headers, "", find(&app, &asked).await)
}

async fn find(app: &App, asked: &BTreeMap<String, String>) -> Result<Value> {
    if let Some(id) = asked.get("backup_id").filter(|id| !id.is_empty()) {
        if let Some(task) = app.tasks.get(id).await? {
            return Ok(task);
        }
        let listed = app.store.list().await?;
        let found = listed.into_iter().find(|one| one.brief.as_ref().is_some_and(|brief| brief.id == *id));
        let none = || Failure::new(Kind::NotFound, format!("there is no backup with the id {id}"), "list names all");
        let backup = app.store.read(&found.ok_or_else(none)?.name).await?;
        return Ok(wire::brief(&backup.info));
    }
    let name = wire::name(asked.get("backup_name").map_or("", String::as_str))?;
    if let Some(task) = app.tasks.running(TaskKind::Create, name.as_str()).await {
        return Ok(task);
    }
    Ok(wire::brief(&app.store.read(&name).await?.info))
}

async fn delete_backup(State(app): Shared, headers: HeaderMap, Query(asked): Asked) -> Response {
    let deleted = async {
        let name: BackupName = wire::name(asked.get("backup_name").map_or("", String::as_str))?;
        let keys = app.store.plan_delete(&name).await?;
        app.store.delete(&keys, &Tell::nobody()).await?;
        Ok(json!({ "objects": keys.len() }))
    };
    answer(&headers, "", deleted.await)
}

async fn get_restore(State(app): Shared, headers: HeaderMap, Query(asked): Asked) -> Response {
    let id = asked.get("id").map_or("", String::as_str);
    let none = || Failure::new(Kind::NotFound, format!("there is no task {id}"), "GET /api/v1/tasks names all");
    answer(&headers, "", app.tasks.get(id).await.and_then(|task| task.ok_or_else(none)))
}

async fn list_tasks(State(app): Shared, headers: HeaderMap) -> Response {
    answer(&headers, "", app.tasks.all().await)
}

async fn cancel(State(app): Shared, headers: HeaderMap, Query(asked): Asked) -> Response {
    answer(&headers, "", app.tasks.cancel(asked.get("id").map_or("", String::as_str)).await)
}

async fn check_all(State(app): Shared, headers: HeaderMap) -> Response {
    let seen = check::check(&app.settings).await.map(|seen| {
        json!({
            "milvus": seen.milvus, "storage": seen.storage, "storage_is_empty": seen.storage_is_empty,
            "backup": seen.backup, "server_side_copy": seen.server_side,
        })
    });
    answer(&headers, "", seen)
}

/// The answer as upstream frames it, with a status that fits.
fn answer(headers: &HeaderMap, id: &str, data: Result<Value>) -> Response {
    let header = headers.get("request_id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = if id.is_empty() { header } else { id };
    let (status, code, message, data) = match data {
        Ok(data) => (StatusCode::OK, 0, "success".to_owned(), data),
        Err(failure) => {
            let (status, code) = match failure.kind {
                Kind::Request => (StatusCode::BAD_REQUEST, 400),
                Kind::NotFound => (StatusCode::NOT_FOUND, 404),
                Kind::Exists => (StatusCode::CONFLICT, 3),
                Kind::Denied => (StatusCode::UNAUTHORIZED, 2),
                Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, 1),
                Kind::Unavailable | Kind::Store => (StatusCode::BAD_GATEWAY, 3),
                Kind::Refused | Kind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, 3),
            };
            (status, code, failure.to_string(), Value::Null)
        }
    };
    let body = json!({ "requestId": id, "code": code, "msg": message, "data": data });
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body.to_string())).into_response()
}
