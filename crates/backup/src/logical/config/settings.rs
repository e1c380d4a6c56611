//! The settings as the program uses them: checked, and with everything that is inherited filled in.

use std::path::PathBuf;

use super::ConfigError;
use super::read::Values;
use crate::bucket::{Bucket, BucketConfig, BucketUrl, Secret, SecretSource};
use crate::limits;
use crate::seal::{Recipients, SealError};

/// Everything.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How Milvus is reached.
    pub milvus: MilvusSettings,
    /// Where Milvus keeps its objects.
    pub storage: StorageSettings,
    /// Where backups are kept.
    pub backup: StorageSettings,
    /// How much is done at once.
    pub concurrency: Concurrency,
    /// Whether Milvus's garbage collection is paused while logs are copied.
    pub pause_gc: bool,
    /// Whether copies for a restore from another bucket stay.
    pub keep_temp_files: bool,
    /// `false` for a store that may never copy by itself.
    pub server_side_copy: bool,
    /// Most bytes a second into and out of the backups' place, copies within a store among them.
    pub bytes_per_sec: Option<u64>,
    /// Most calls a second to both stores together.
    pub requests_per_sec: Option<u64>,
    /// Who may open new backups (`age1…`, `file:PATH`); nobody: they are not sealed.
    pub recipients: Vec<String>,
    /// What opens sealed ones.
    pub identity: Option<SecretSource>,
}

/// How Milvus is reached.
#[derive(Debug, Clone)]
pub struct MilvusSettings {
    /// Host.
    pub address: String,
    /// Port of gRPC.
    pub port: u16,
    /// User, if authentication is on.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Who vouches for Milvus (PEM).
    pub ca: Option<String>,
    /// The name in Milvus's certificate, if it is not its address.
    pub server_name: Option<String>,
    /// The client's own certificate and its key.
    pub identity: Option<(String, String)>,
    /// The REST interface, which imports since 2.4 use.
    pub rest: String,
    /// The management interface, which pauses the garbage collection.
    pub management: String,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It is not.
    Disabled,
    /// The server shows a certificate.
    Server,
    /// Both do.
    Mutual,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Collections that are backed up.
    pub backup_collections: usize,
    /// Collections that are restored.
    pub restore_collections: usize,
    /// Imports that Milvus works on.
    pub import_jobs: usize,
    /// Objects that are copied.
    pub copies: usize,
}

/// The kinds of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// A folder of this machine.
    Local,
    /// MinIO, AWS, and all who speak S3 with the bucket in the path.
    S3,
    /// Those who want the bucket in the host: Aliyun, Tencent, Huawei.
    S3VirtualHost,
    /// Google's own interface.
    Gcs,
    /// Azure.
    Azure,
}

/// Where objects are.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// What kind.
    pub provider: Provider,
    /// The bucket without the root; for a folder, the root itself.
    pub config: BucketConfig,
    /// Below which path of the bucket; empty for a folder.
    pub root: String,
    /// The bucket's name, as Milvus has it; empty for a folder.
    pub bucket_name: String,
}

impl Settings {
    pub(super) fn of(values: &Values) -> Result<Settings, ConfigError> {
        let get = Get(values);
        let storage = storage(&get, "milvus.storage", None)?;
        let backup = storage_of_backup(&get)?;
        let user = get.text("milvus.user");
        let address = get.text("milvus.grpc.address").unwrap_or_default();
        let port: u16 = get.number("milvus.grpc.port")?;
        let tls = match get.text("milvus.grpc.tlsMode").as_deref() {
            None | Some("disabled") => Tls::Disabled,
            Some("server") => Tls::Server,
            Some("mutual") => Tls::Mutual,
            Some(other) => {
                return Err(get.wrong("milvus.grpc.tlsMode", format!("`{other}` is none of disabled, server, mutual")));
            }
        };
        let identity = match (get.text("milvus.grpc.mtlsCertPath"), get.text("milvus.grpc.mtlsKeyPath")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => None,
        };
        if tls == Tls::Mutual && identity.is_none() {
            let why = "`mutual` needs milvus.grpc.mtlsCertPath and milvus.grpc.mtlsKeyPath";
            return Err(get.wrong("milvus.grpc.tlsMode", why.into()));
        }
        let scheme = if tls == Tls::Disabled { "http" } else { "https" };
        let rest = get.text("milvus.rest.endpoint").unwrap_or_else(|| format!("{scheme}://{address}:{port}"));
        let management = get.text("milvus.management.endpoint").unwrap_or_default();
        let mut settings = Settings {
            milvus: MilvusSettings {
                address,
                port,
                password: user.is_some().then(|| Secret::new(get.text("milvus.password").unwrap_or_default())),
                user,
                tls,
                ca: get.text("milvus.grpc.caCertPath"),
                server_name: get.text("milvus.grpc.serverName"),
                identity,
                rest: rest.trim_end_matches('/').to_owned(),
                management: management.trim_end_matches('/').to_owned(),
            },
            storage,
            backup,
            concurrency: Concurrency {
                backup_collections: get.at_least_one("backup.concurrency.collections")?,
                restore_collections: get.at_least_one("restore.concurrency.collections")?,
                import_jobs: get.at_least_one("restore.concurrency.importJobs")?,
                copies: get.at_least_one("transfer.concurrency")?.min(limits::PARALLEL_MAX),
            },
            pause_gc: get.truth("backup.pauseGC")?,
            keep_temp_files: get.truth("restore.keepTempFiles")?,
            server_side_copy: get.text("transfer.mode").as_deref() != Some("streaming"),
            bytes_per_sec: get.limit("eyrie.rateLimitMiB", 1 << 20)?,
            requests_per_sec: get.limit("eyrie.requestsPerSecond", 1)?,
            recipients: get.list("eyrie.recipients"),
            identity: get.text("eyrie.identity").map(|path| SecretSource::File(PathBuf::from(path))),
        };
        Recipients::parse(settings.recipients.iter().map(String::as_str))
            .map_err(|why| get.wrong("eyrie.recipients", first_line(&why.to_string())))?;
        for side in [&mut settings.storage, &mut settings.backup] {
            side.config.parallel = settings.concurrency.copies;
        }
        Ok(settings)
    }
}

impl Settings {
    /// Everybody who may open new backups.
    ///
    /// # Errors
    /// A file of them has changed since, and is none any more.
    pub fn recipients(&self) -> Result<Recipients, SealError> {
        Recipients::parse(self.recipients.iter().map(String::as_str))
    }
}

impl StorageSettings {
    /// The bucket from its root on.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn open(&self) -> crate::bucket::Result<Bucket> {
        Bucket::open(&self.config)?.below(&self.root)
    }

    /// Whether both are one bucket, or both folders of this machine: then Milvus can read the backup where it lies.
    pub fn is_one_with(&self, other: &StorageSettings) -> bool {
        let (a, b) = (&self.config, &other.config);
        match (&a.url, &b.url) {
            (BucketUrl::File(_), BucketUrl::File(_)) => true,
            _ => a.url == b.url && a.endpoint == b.endpoint,
        }
    }

    /// A key below the root as Milvus must be told it: an absolute path, or the whole key in the bucket.
    pub fn for_milvus(&self, key: &str) -> String {
        match &self.config.url {
            BucketUrl::File(path) => format!("{}/{key}", path.display()),
            _ if self.root.is_empty() => key.to_owned(),
            _ => format!("{}/{key}", self.root),
        }
    }
}

fn storage_of_backup(get: &Get<'_>) -> Result<StorageSettings, ConfigError> {
    // A folder has neither address nor keys: then nothing is inherited from a bucket.
    storage(get, "backup.storage", Some("milvus.storage"))
}

fn storage(get: &Get<'_>, section: &str, inherits: Option<&str>) -> Result<StorageSettings, ConfigError> {
    let text = |key: &str| {
        let own = get.text(&format!("{section}.{key}"));
        own.or_else(|| inherits.filter(|_| key != "rootPath").and_then(|from| get.text(&format!("{from}.{key}"))))
    };
    let at = |key: &str| format!("{section}.{key}");
    let provider_name = text("provider").unwrap_or_default().to_ascii_lowercase();
    let provider = match provider_name.as_str() {
        "local" => Provider::Local,
        "minio" | "s3" | "aws" | "gcp" => Provider::S3,
        "ali" | "aliyun" | "alibaba" | "alicloud" | "tc" | "tencent" | "hwc" => Provider::S3VirtualHost,
        "gcpnative" => Provider::Gcs,
        "azure" => Provider::Azure,
        other => {
            let why = format!(
                "`{other}` is no storage: there are local, minio, s3, aws, gcp, gcpnative, azure, ali, tc, hwc"
            );
            return Err(get.wrong(&at("provider"), why));
        }
    };
    let root = text("rootPath").unwrap_or_default();
    if provider == Provider::Local {
        let root = get.text(&at("localPath")).unwrap_or(root);
        let path = std::path::absolute(&root).map_err(|error| get.wrong(&at("rootPath"), error.to_string()))?;
        let config = BucketConfig::new(BucketUrl::File(path));
        return Ok(StorageSettings { provider, config, root: String::new(), bucket_name: String::new() });
    }
    let bucket_name = text("bucketName").unwrap_or_default();
    let url = match provider {
        Provider::Gcs => format!("gs://{bucket_name}"),
        Provider::Azure => format!("az://{bucket_name}"),
        _ => format!("s3://{bucket_name}"),
    };
    let url = BucketUrl::parse(&url).map_err(|why| get.wrong(&at("bucketName"), why))?;
    let mut config = BucketConfig::new(url);
    config.region = text("region");
    let address = text("address").unwrap_or_default();
    let port: u16 = match text("port") {
        Some(port) => port.parse().map_err(|_| get.wrong(&at("port"), format!("`{port}` is no port")))?,
        None => 9000,
    };
    let secure = text("useSSL").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // The clouds' own addresses are found from bucket and region.
    let own = address.is_empty() || (address.ends_with("amazonaws.com") && provider == Provider::S3);
    if !own && !matches!(provider, Provider::Gcs | Provider::Azure) {
        config.endpoint = Some(endpoint(&address, port, secure));
        config.path_style = Some(provider != Provider::S3VirtualHost);
    }
    let given = |key: &str| text(key).map(|value| SecretSource::Given(Secret::new(value)));
    match provider {
        Provider::Gcs => {
            config.secret_key = text("auth.credentialsFile").map(|file| SecretSource::File(PathBuf::from(file)));
        }
        Provider::Azure => {
            config.access_key = given("accountName").or_else(|| given("auth.accessKeyID"));
            config.secret_key = given("auth.accountKey").or_else(|| given("auth.secretAccessKey"));
        }
        _ if matches!(text("auth.type").as_deref(), Some("iam" | "default")) => {}
        _ => {
            config.access_key = given("auth.accessKeyID");
            config.secret_key = given("auth.secretAccessKey");
            config.session_token = given("auth.sessionToken");
        }
    }
    let root = root.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/");
    Ok(StorageSettings { provider, config, root, bucket_name })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn endpoint(address: &str, port: u16, secure: bool) -> String {
    if address.contains("://") {
        return address.trim_end_matches('/').to_owned();
    }
    let scheme = if secure { "https" } else { "http" };
    let usual = if secure { 443 } else { 80 };
    if port == usual { format!("{scheme}://{address}") } else { format!("{scheme}://{address}:{port}") }
}

struct Get<'v>(&'v Values);

impl Get<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|(value, _)| value.clone())
    }

    fn wrong(&self, key: &str, why: String) -> ConfigError {
        let place = self.0.get(key).map_or_else(|| key.to_owned(), |(_, place)| place.clone());
        ConfigError { place, why }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, ConfigError> {
        let text = self.text(key).unwrap_or_default();
        text.trim().parse().map_err(|_| self.wrong(key, format!("`{text}` is no number that fits here")))
    }

    fn at_least_one(&self, key: &str) -> Result<usize, ConfigError> {
        match self.number(key)? {
            0 => Err(self.wrong(key, "it is 0; it must be at least 1".into())),
            number => Ok(number),
        }
    }

    /// A limit that may be absent, in units of `unit`.
    fn limit(&self, key: &str, unit: u64) -> Result<Option<u64>, ConfigError> {
        match self.text(key) {
            None => Ok(None),
            Some(_) => match self.number::<u64>(key)? {
                0 => Err(self.wrong(key, "it is 0; leave it out for no limit".into())),
                number => Ok(Some(number.saturating_mul(unit))),
            },
        }
    }

    /// Words with commas between them.
    fn list(&self, key: &str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn truth(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key).unwrap_or_default().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "t" => Ok(true),
            "false" | "0" | "no" | "f" | "" => Ok(false),
            other => Err(self.wrong(key, format!("`{other}` is neither true nor false"))),
        }
    }
}
