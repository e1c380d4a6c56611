//! Every key: its v2 name, its default, the v1 name, and the variables of the environment.

/// One key.
pub(super) struct Key {
    /// Its name since v2; what this program calls it.
    pub(super) name: &'static str,
    /// Its value where nobody gives one; none: it stays unset.
    pub(super) default: Option<&'static str>,
    /// The name in v1, if it is another or if it existed.
    pub(super) v1: &'static str,
    /// The variable that v1 reads.
    pub(super) v1_env: &'static str,
    /// The variable that v2 reads; only secrets have one.
    pub(super) v2_env: &'static str,
}

const fn key(
    name: &'static str,
    default: Option<&'static str>,
    v1: &'static str,
    v1_env: &'static str,
    v2_env: &'static str,
) -> Key {
    Key { name, default, v1, v1_env, v2_env }
}

/// All keys.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("log.level", Some("info"), "log.level", "", ""),
    key("log.console", Some("true"), "log.console", "", ""),
    key("log.file.path", None, "log.file.filename", "", ""),
    key("log.file.maxSizeMiB", None, "log.file.maxSize", "", ""),
    key("log.file.maxDays", None, "log.file.maxDays", "", ""),
    key("log.file.maxBackups", None, "log.file.maxBackups", "", ""),
    key("server.debugMode", None, "http.debugMode", "", ""),
    key("server.swaggerBasePath", None, "http.swaggerBasePath", "", ""),
    key("zillizCloud.endpoint", None, "cloud.address", "", ""),
    key("zillizCloud.apiKey", None, "cloud.apikey", "", "ZILLIZ_CLOUD_API_KEY"),

    key("milvus.user", None, "milvus.user", "MILVUS_USER", "MILVUS_USER"),
    key("milvus.password", None, "milvus.password", "MILVUS_PASSWORD", "MILVUS_PASSWORD"),
    key("milvus.grpc.address", Some("localhost"), "milvus.address", "MILVUS_ADDRESS", ""),
    key("milvus.grpc.port", Some("19530"), "milvus.port", "MILVUS_PORT", ""),
    key("milvus.grpc.tlsMode", Some("disabled"), "milvus.tlsMode", "MILVUS_TLS_MODE", ""),
    key("milvus.grpc.caCertPath", None, "milvus.caCertPath", "MILVUS_CA_CERT_PATH", ""),
    key("milvus.grpc.serverName", None, "milvus.serverName", "MILVUS_SERVER_NAME", ""),
    key("milvus.grpc.mtlsCertPath", None, "milvus.mtlsCertPath", "MILVUS_MTLS_CERT_PATH", ""),
    key("milvus.grpc.mtlsKeyPath", None, "milvus.mtlsKeyPath", "MILVUS_MTLS_KEY_PATH", ""),
    key("milvus.rest.endpoint", None, "", "", ""),
    key("milvus.management.endpoint", Some("http://localhost:9091"), "backup.gcPause.address", "BACKUP_GC_PAUSE_ADDRESS", ""),
    key("milvus.replicate.rpcChannelName", None, "milvus.rpcChannelName", "MILVUS_RPC_CHANNEL_NAME", ""),
    key("milvus.etcd.endpoints", None, "milvus.etcd.endpoints", "", ""),
    key("milvus.etcd.rootPath", Some("by-dev"), "milvus.etcd.rootPath", "", ""),

    key("milvus.storage.provider", Some("minio"), "minio.storageType", "MINIO_STORAGE_TYPE", ""),
    key("milvus.storage.address", Some("localhost"), "minio.address", "MINIO_ADDRESS", ""),
    key("milvus.storage.port", Some("9000"), "minio.port", "MINIO_PORT", ""),
    key("milvus.storage.region", None, "minio.region", "MINIO_REGION", ""),
    key("milvus.storage.useSSL", Some("false"), "minio.useSSL", "MINIO_USE_SSL", ""),
    key("milvus.storage.accountName", None, "", "", "MILVUS_STORAGE_ACCOUNT_NAME"),
    key("milvus.storage.bucketName", Some("a-bucket"), "minio.bucketName", "MINIO_BUCKET_NAME", ""),
    key("milvus.storage.rootPath", Some("files"), "minio.rootPath", "MINIO_ROOT_PATH", ""),
    key("milvus.storage.localPath", None, "", "", ""),
    key("milvus.storage.auth.type", Some("static"), "", "", ""),
    key("milvus.storage.auth.accessKeyID", Some("minioadmin"), "minio.accessKeyID", "MINIO_ACCESS_KEY", "MILVUS_STORAGE_AUTH_ACCESS_KEY_ID"),
    key("milvus.storage.auth.secretAccessKey", Some("minioadmin"), "minio.secretAccessKey", "MINIO_SECRET_KEY", "MILVUS_STORAGE_AUTH_SECRET_ACCESS_KEY"),
    key("milvus.storage.auth.sessionToken", None, "minio.token", "MINIO_TOKEN", "MILVUS_STORAGE_AUTH_SESSION_TOKEN"),
    key("milvus.storage.auth.accountKey", None, "", "", "MILVUS_STORAGE_AUTH_ACCOUNT_KEY"),
    key("milvus.storage.auth.credentialsFile", None, "minio.gcpCredentialJSON", "GCP_KEY_JSON", "MILVUS_STORAGE_AUTH_CREDENTIALS_FILE"),
    key("milvus.storage.auth.endpoint", None, "minio.iamEndpoint", "MINIO_IAM_ENDPOINT", ""),

    // What is unset here is as in milvus.storage, except rootPath.
    key("backup.storage.provider", None, "minio.backupStorageType", "MINIO_BACKUP_STORAGE_TYPE", ""),
    key("backup.storage.address", None, "minio.backupAddress", "MINIO_BACKUP_ADDRESS", ""),
    key("backup.storage.port", None, "minio.backupPort", "MINIO_BACKUP_PORT", ""),
    key("backup.storage.region", None, "minio.backupRegion", "MINIO_BACKUP_REGION", ""),
    key("backup.storage.useSSL", None, "minio.backupUseSSL", "MINIO_BACKUP_USE_SSL", ""),
    key("backup.storage.accountName", None, "", "", "BACKUP_STORAGE_ACCOUNT_NAME"),
    key("backup.storage.bucketName", None, "minio.backupBucketName", "MINIO_BACKUP_BUCKET_NAME", ""),
    key("backup.storage.rootPath", Some("backup"), "minio.backupRootPath", "MINIO_BACKUP_ROOT_PATH", ""),
    key("backup.storage.auth.type", None, "", "", ""),
    key("backup.storage.auth.accessKeyID", None, "minio.backupAccessKeyID", "MINIO_BACKUP_ACCESS_KEY", "BACKUP_STORAGE_AUTH_ACCESS_KEY_ID"),
    key("backup.storage.auth.secretAccessKey", None, "minio.backupSecretAccessKey", "MINIO_BACKUP_SECRET_KEY", "BACKUP_STORAGE_AUTH_SECRET_ACCESS_KEY"),
    key("backup.storage.auth.sessionToken", None, "minio.backupToken", "MINIO_BACKUP_TOKEN", "BACKUP_STORAGE_AUTH_SESSION_TOKEN"),
    key("backup.storage.auth.accountKey", None, "", "", "BACKUP_STORAGE_AUTH_ACCOUNT_KEY"),
    key("backup.storage.auth.credentialsFile", None, "minio.backupGcpCredentialJSON", "BACKUP_GCP_KEY_JSON", "BACKUP_STORAGE_AUTH_CREDENTIALS_FILE"),
    key("backup.storage.auth.endpoint", None, "minio.backupIamEndpoint", "MINIO_BACKUP_IAM_ENDPOINT", ""),

    key("backup.concurrency.collections", Some("4"), "backup.parallelism.backupCollection", "BACKUP_PARALLELISM_BACKUP_COLLECTION", ""),
    key("backup.concurrency.segments", Some("1024"), "backup.parallelism.backupSegment", "BACKUP_PARALLELISM_BACKUP_SEGMENT", ""),
    key("backup.pauseGC", Some("true"), "backup.gcPause.enable", "BACKUP_GC_PAUSE_ENABLE", ""),
    key("restore.concurrency.collections", Some("2"), "backup.parallelism.restoreCollection", "BACKUP_PARALLELISM_RESTORE_COLLECTION", ""),
    key("restore.concurrency.importJobs", Some("768"), "backup.parallelism.importJob", "BACKUP_PARALLELISM_IMPORT_JOB", ""),
    key("restore.maxSegmentsPerImportJob", Some("256"), "", "", ""),
    key("restore.keepTempFiles", Some("false"), "backup.keepTempFiles", "BACKUP_KEEP_TEMP_FILES", ""),
    key("transfer.mode", Some("auto"), "", "", ""),
    key("transfer.concurrency", Some("128"), "backup.parallelism.copydata", "BACKUP_PARALLELISM_COPYDATA", ""),
    key("transfer.multipartCopyThresholdMiB", Some("500"), "minio.multipartCopyThresholdMiB", "", ""),

    // This program's own, in both generations; milvus-backup skips them.
    key("eyrie.rateLimitMiB", None, "eyrie.rateLimitMiB", "", ""),
    key("eyrie.requestsPerSecond", None, "eyrie.requestsPerSecond", "", ""),
    key("eyrie.recipients", None, "eyrie.recipients", "", ""),
    key("eyrie.identity", None, "eyrie.identity", "EYRIE_IDENTITY", "EYRIE_IDENTITY"),
];

/// Other names of v1 for the same key.
pub(super) const V1_ALSO: &[(&str, &str)] = &[
    ("storage.storageType", "milvus.storage.provider"),
    ("minio.cloudProvider", "milvus.storage.provider"),
    ("minio.backupCloudProvider", "backup.storage.provider"),
];

/// v1's keys that are answered here and not by a key of the same meaning; see `read`.
pub(super) const V1_SPECIAL: &[&str] = &[
    "minio.useIAM",
    "minio.backupUseIAM",
    "minio.crossStorage",
    "http.enabled",
    "http.simpleResponse",
    "configVersion",
];

/// Keys that no release has, but whose meaning is clear: what was written, the key of v1, and that of v2.
pub(super) const MEANT: &[(&str, &str, &str)] = &[
    ("backup.storageType", "minio.backupStorageType", "backup.storage.provider"),
    ("backup.path", "minio.backupRootPath", "backup.storage.rootPath"),
];

/// Known once, and without effect now.
pub(super) const OUTDATED: &[&str] =
    &["backup.maxSegmentGroupSize", "backup.copydata.parallelism", "backup.parallelism"];
