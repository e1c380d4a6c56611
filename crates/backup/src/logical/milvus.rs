//! Milvus by its public API: one connection, calls with patience, and its answers as errors that say what to do.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use base64::Engine;
use eyrie_api::client::{Address, Config, Tls as ClientTls, TlsFiles, dial};
use eyrie_api::milvus as pb;
use eyrie_api::milvus::milvus_service_client::MilvusServiceClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::config::{MilvusSettings, Tls};
use super::failure::{Failure, Kind, Result};
use crate::limits::{
    MILVUS_ANSWER_LEN_MAX, MILVUS_CALL_LIMIT, MILVUS_DIAL_LIMIT, MILVUS_PAUSE_FIRST, MILVUS_PAUSE_MAX,
    MILVUS_RATE_PATIENCE, MILVUS_READ_ATTEMPTS,
};

/// "Too many requests of this kind", in old and new codes.
const RATE_LIMIT: (i32, i32) = (49, 8);
/// "No such index", in old and new codes.
const NO_INDEX: (i32, i32) = (25, 700);

/// A version of Milvus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `v2.3.5-lite`; what is no number, such as a build from the newest sources, counts as newest.
    pub fn parse(text: &str) -> Version {
        let digits = text.trim().trim_start_matches('v');
        let mut parts = digits.split(['.', '-', '+']).map(str::parse);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Version(major, minor, patch),
            (Some(Ok(major)), Some(Ok(minor)), _) => Version(major, minor, 0),
            _ => Version(u32::MAX, 0, 0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Whether a call may be sent again when no answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Read,
    Write,
}

/// A connected Milvus. Clones share the connection.
#[derive(Clone)]
pub struct Milvus {
    client: MilvusServiceClient<Channel>,
    login: Option<AsciiMetadataValue>,
    place: String,
    version_text: String,
    version: Version,
}

impl fmt::Debug for Milvus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Milvus {} at {}", self.version_text, self.place)
    }
}

impl Milvus {
    /// Connects, logs in, and asks for the version.
    ///
    /// # Errors
    /// Milvus is away, does not know the user, or is older than 2.2.
    pub async fn connect(settings: &MilvusSettings) -> Result<Milvus> {
        let place = format!("{}:{}", settings.address, settings.port);
        let unreachable = |why: String| {
            Failure::new(
                Kind::Unavailable,
                format!("Milvus at {place} can't be reached: {why}"),
                "check milvus.address and milvus.port (v2: milvus.grpc), and that Milvus runs",
            )
        };
        let channel = dial(&address(settings), &config(settings)?).await.map_err(unreachable)?;
        let client = MilvusServiceClient::new(channel).max_decoding_message_size(MILVUS_ANSWER_LEN_MAX);
        let mut milvus = Milvus {
            client,
            login: login(settings)?,
            place: place.clone(),
            version_text: String::new(),
            version: Version(0, 0, 0),
        };
        milvus.version_text = milvus.get_version(pb::GetVersionRequest {}).await?.version;
        milvus.version = Version::parse(&milvus.version_text);
        if milvus.version < Version(2, 2, 0) {
            return Err(Failure::new(
                Kind::Unsupported,
                format!("Milvus at {place} is {}; logical backups need 2.2 or newer", milvus.version_text),
                "upgrade Milvus, or back up its etcd and its bucket with eyrie backup",
            ));
        }
        Ok(milvus)
    }

    /// As it calls itself.
    pub fn version_text(&self) -> &str {
        &self.version_text
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether calls carry a user's name.
    pub(super) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// Host and port.
    pub fn place(&self) -> &str {
        &self.place
    }

    async fn call<Q, A, R>(
        &self,
        name: &str,
        repeat: Repeat,
        request: Q,
        send: impl Fn(MilvusServiceClient<Channel>, Request<Q>) -> R,
    ) -> Result<A>
    where
        Q: Clone,
        A: Answer,
        R: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let began = tokio::time::Instant::now();
        let (mut attempt, mut pause) = (1, MILVUS_PAUSE_FIRST);
        loop {
            let mut asked = Request::new(request.clone());
            if let Some(login) = &self.login {
                asked.metadata_mut().insert("authorization", login.clone());
            }
            let sent = tokio::time::timeout(MILVUS_CALL_LIMIT, send(self.client.clone(), asked)).await;
            let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            // What was limited was not done, and may be sent again whatever it is; what broke may have been done.
            let (failure, limited, passing) = match sent {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let status = answer.status();
                    if (status.error_code, status.code) == (0, 0) {
                        return Ok(answer);
                    }
                    let limited = status.error_code == RATE_LIMIT.0 || status.code == RATE_LIMIT.1;
                    (self.refused(name, &status), limited, false)
                }
                Err(status) => {
                    let limited = status.code() == Code::ResourceExhausted && status.message().contains("rate");
                    let passing = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted);
                    (self.broken(name, &status), limited, passing)
                }
            };
            let again = limited && began.elapsed() < MILVUS_RATE_PATIENCE
                || passing && repeat == Repeat::Read && attempt < MILVUS_READ_ATTEMPTS;
            if !again {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MILVUS_PAUSE_MAX);
            attempt += 1;
        }
    }

    /// An answer that says no.
    fn refused(&self, call: &str, status: &pb::Status) -> Failure {
        let (kind, next) = match (status.error_code, status.code) {
            (4 | 28, _) | (_, 100) => (Kind::NotFound, "check the name of the collection"),
            (3, _) | (_, 1401..=1403) => (Kind::Denied, "give the user of milvus.user this privilege"),
            (48, _) | (_, 9) => (Kind::Refused, "Milvus denies writes (quota or forced): lift that, then run again"),
            _ => (Kind::Refused, "read the reason above; Milvus's own log says more. Then run again"),
        };
        let what = format!("Milvus refused {call}: {} (code {}/{})", status.reason, status.error_code, status.code);
        Failure::new(kind, what, next)
    }

    /// No answer at all.
    fn broken(&self, call: &str, status: &Status) -> Failure {
        let what = format!("Milvus at {} did not answer {call}: {}", self.place, status.message());
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Failure::new(
                Kind::Denied,
                format!("Milvus at {} does not let the user in: {}", self.place, status.message()),
                "check milvus.user and milvus.password, and the user's privileges",
            ),
            Code::Unimplemented => Failure::new(Kind::Unsupported, what, "use a newer Milvus for this"),
            _ => Failure::new(Kind::Unavailable, what, "check that Milvus runs and is healthy, then run again"),
        }
    }

    /// The indexes of a collection; none is an empty list.
    pub(super) async fn indexes(&self, database: &str, collection: &str) -> Result<Vec<pb::IndexDescription>> {
        let request = pb::DescribeIndexRequest {
            db_name: database.into(),
            collection_name: collection.into(),
            ..Default::default()
        };
        match self.describe_index(request).await {
            Ok(answer) => Ok(answer.index_descriptions),
            Err(failure) if failure.what.ends_with(&format!("(code {}/{})", NO_INDEX.0, NO_INDEX.1)) => Ok(Vec::new()),
            Err(failure) if failure.what.contains("index not found") => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }
}

/// An answer with a status of Milvus's own in it.
trait Answer {
    fn status(&self) -> pb::Status;
}

impl Answer for pb::Status {
    fn status(&self) -> pb::Status {
        self.clone()
    }
}

/// Declares the calls: whether each may be repeated, what it takes and what it answers.
macro_rules! calls {
    ($($repeat:ident $name:ident($request:ident) -> $answer:ident;)*) => {
        #[allow(dead_code, reason = "the whole of what this program may ask, on one page")]
        impl Milvus {
            $(pub(super) async fn $name(&self, request: pb::$request) -> Result<pb::$answer> {
                self.call(stringify!($name), Repeat::$repeat, request, |mut client, request| async move {
                    client.$name(request).await
                })
                .await
            })*
        }
    };
}

macro_rules! answers {
    ($($answer:ident)*) => {$(
        impl Answer for pb::$answer {
            fn status(&self) -> pb::Status {
                self.status.clone().unwrap_or_default()
            }
        }
    )*};
}

answers! {
    GetVersionResponse ListDatabasesResponse DescribeDatabaseResponse ShowCollectionsResponse BoolResponse
    DescribeCollectionResponse GetLoadingProgressResponse GetLoadStateResponse GetCollectionStatisticsResponse QueryResults
    ShowPartitionsResponse DescribeIndexResponse ListAliasesResponse FlushResponse GetFlushStateResponse
    GetPersistentSegmentInfoResponse ImportResponse GetImportStateResponse BackupRbacResponse
    ListCredUsersResponse SelectRoleResponse SelectGrantResponse
}

calls! {
    Read get_version(GetVersionRequest) -> GetVersionResponse;
    Read list_databases(ListDatabasesRequest) -> ListDatabasesResponse;
    Write create_database(CreateDatabaseRequest) -> Status;
    Read describe_database(DescribeDatabaseRequest) -> DescribeDatabaseResponse;
    Read show_collections(ShowCollectionsRequest) -> ShowCollectionsResponse;
    Read has_collection(HasCollectionRequest) -> BoolResponse;
    Read describe_collection(DescribeCollectionRequest) -> DescribeCollectionResponse;
    Write create_collection(CreateCollectionRequest) -> Status;
    Write drop_collection(DropCollectionRequest) -> Status;
    Write alter_collection(AlterCollectionRequest) -> Status;
    Write add_collection_field(AddCollectionFieldRequest) -> Status;
    Write load_collection(LoadCollectionRequest) -> Status;
    Write release_collection(ReleaseCollectionRequest) -> Status;
    Read get_loading_progress(GetLoadingProgressRequest) -> GetLoadingProgressResponse;
    Read get_load_state(GetLoadStateRequest) -> GetLoadStateResponse;
    Read get_collection_statistics(GetCollectionStatisticsRequest) -> GetCollectionStatisticsResponse;
    Read query(QueryRequest) -> QueryResults;
    Read show_partitions(ShowPartitionsRequest) -> ShowPartitionsResponse;
    Read has_partition(HasPartitionRequest) -> BoolResponse;
    Write create_partition(CreatePartitionRequest) -> Status;
    Write load_partitions(LoadPartitionsRequest) -> Status;
    Write create_index(CreateIndexRequest) -> Status;
    Read describe_index(DescribeIndexRequest) -> DescribeIndexResponse;
    Write drop_index(DropIndexRequest) -> Status;
    Write create_alias(CreateAliasRequest) -> Status;
    Write alter_alias(AlterAliasRequest) -> Status;
    Read list_aliases(ListAliasesRequest) -> ListAliasesResponse;
    Read flush(FlushRequest) -> FlushResponse;
    Read get_flush_state(GetFlushStateRequest) -> GetFlushStateResponse;
    Read get_persistent_segment_info(GetPersistentSegmentInfoRequest) -> GetPersistentSegmentInfoResponse;
    Write import(ImportRequest) -> ImportResponse;
    Read get_import_state(GetImportStateRequest) -> GetImportStateResponse;
    Read list_cred_users(ListCredUsersRequest) -> ListCredUsersResponse;
    Write create_role(CreateRoleRequest) -> Status;
    Write operate_user_role(OperateUserRoleRequest) -> Status;
    Read select_role(SelectRoleRequest) -> SelectRoleResponse;
    Write operate_privilege(OperatePrivilegeRequest) -> Status;
    Read select_grant(SelectGrantRequest) -> SelectGrantResponse;
    Read backup_rbac(BackupRbacRequest) -> BackupRbacResponse;
    Write restore_rbac(RestoreRbacRequest) -> Status;
}

fn address(settings: &MilvusSettings) -> Address {
    let scheme = if settings.tls == Tls::Disabled { "http" } else { "https" };
    let host = &settings.address;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
    Address::new(format!("{scheme}://{host}:{}", settings.port))
}

fn config(settings: &MilvusSettings) -> Result<Config> {
    let wrong =
        |why: String| Failure::new(Kind::Request, format!("certificates for Milvus: {why}"), "correct milvus.grpc");
    let (cert, key) = settings.identity.clone().unwrap_or_default();
    let files = TlsFiles {
        cacert: settings.ca.clone().unwrap_or_default(),
        cert,
        key,
        insecure_transport: settings.tls == Tls::Disabled,
        insecure_skip_verify: false,
    };
    let tls = ClientTls::read(&files).map_err(wrong)?;
    let tls = match &settings.server_name {
        Some(name) => tls.expecting(name),
        None => tls,
    };
    let mut config = Config::new(vec![address(settings)], tls);
    config.dial_timeout = MILVUS_DIAL_LIMIT;
    config.keepalive_time = Duration::from_secs(30);
    Ok(config)
}

fn login(settings: &MilvusSettings) -> Result<Option<AsciiMetadataValue>> {
    let (Some(user), Some(password)) = (&settings.user, &settings.password) else { return Ok(None) };
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.reveal()));
    let mut login = AsciiMetadataValue::try_from(both)
        .map_err(|_| Failure::new(Kind::Request, "milvus.user and milvus.password can't be sent", "correct them"))?;
    login.set_sensitive(true);
    Ok(Some(login))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_milvus_writes_them() {
        assert_eq!(Version::parse("v2.3.5-lite"), Version(2, 3, 5));
        assert_eq!(Version::parse("2.6.11"), Version(2, 6, 11));
        assert_eq!(Version::parse("2.4-dev"), Version(2, 4, 0));
        assert!(Version::parse("master-2026").0 > 3, "a build from sources counts as newest");
        assert!(Version(2, 4, 3) > Version(2, 3, 21));
    }
}
