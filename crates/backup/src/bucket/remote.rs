//! S3 and its kin, GCS and Azure, through `opendal`.
//!
//! Single calls are tried once here; [`super::Bucket`] retries them. Only what can't be begun again from outside, the parts
//! of a large object and the pages of a listing, is retried in here.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use opendal::layers::RetryLayer;
use opendal::options::{ListOptions, WriteOptions};
use opendal::{ErrorKind, HttpTransporter, Metadata, OperationContext, Operator, Writer, services};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::BucketUrl;
use super::body::{Body, ByteRange, Conditional, CopySource, Entry, Listed, Opened, Parts, Stat, StoreId};
use super::config::{BucketConfig, StaticKeys, keys_of_environment};
use super::error::{Fault, Kind};
use super::key::Key;
use super::s3copy::S3Copy;
use crate::limits::{CONNECT_TIMEOUT, PARTS_AT_ONCE};

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// A bucket behind a network.
pub(crate) struct Remote {
    /// For calls that are tried once.
    once: Operator,
    /// For parts and pages, which it retries.
    again: Operator,
    store: StoreId,
    /// For copies between buckets of one S3 endpoint; needs keys to sign with.
    s3copy: Option<S3Copy>,
}

impl Remote {
    /// Builds the client. Nothing is sent yet.
    ///
    /// # Errors
    /// Says which setting or secret is wrong.
    pub(crate) fn new(config: &BucketConfig) -> Result<Self, String> {
        let client = client(config)?;
        let context =
            OperationContext::new().with_http_transport(HttpTransporter::new(ReqwestTransport::new(client.clone())));
        let built = match &config.url {
            BucketUrl::S3 { bucket, .. } => s3(config, bucket, client)?,
            BucketUrl::Gcs { bucket, .. } => gcs(config, bucket)?,
            BucketUrl::Azure { bucket, .. } => azure(config, bucket)?,
            BucketUrl::File(_) | BucketUrl::Memory { .. } => return Err("this address needs no client".into()),
        };
        let retry = &config.retry;
        let retries = RetryLayer::new()
            .with_max_times(retry.attempts.saturating_sub(1) as usize)
            .with_min_delay(Duration::from_millis(retry.pause_first_millis.max(1)))
            .with_max_delay(Duration::from_millis(retry.pause_max_millis.max(1)))
            .with_jitter();
        Ok(Self {
            once: built.once.with_context(context.clone()),
            again: built.parts.with_context(context).layer(retries),
            store: built.store,
            s3copy: built.s3copy,
        })
    }
}

struct Built {
    once: Operator,
    parts: Operator,
    store: StoreId,
    s3copy: Option<S3Copy>,
}

fn s3(config: &BucketConfig, bucket: &str, client: reqwest::Client) -> Result<Built, String> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = config.endpoint.clone().or_else(|| env("AWS_ENDPOINT_URL_S3")).or_else(|| env("AWS_ENDPOINT_URL"));
    let region = config.region.clone().or_else(|| env("AWS_REGION")).or_else(|| env("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| "us-east-1".into());
    let path_style = config.path_style.unwrap_or(endpoint.is_some());
    let keys = config.static_keys()?;
    let build = |checksum: Option<&str>| {
        let mut builder = services::S3::default().bucket(bucket).region(&region);
        if let Some(endpoint) = &endpoint {
            builder = builder.endpoint(endpoint);
        }
        if !path_style {
            builder = builder.enable_virtual_host_style();
        }
        if let Some(StaticKeys { access_key, secret_key, session_token }) = &keys {
            builder = builder.access_key_id(access_key.reveal()).secret_access_key(secret_key.reveal());
            builder = builder.disable_config_load().disable_ec2_metadata();
            if let Some(token) = session_token {
                builder = builder.session_token(token.reveal());
            }
        }
        if let Some(checksum) = checksum {
            builder = builder.checksum_algorithm(checksum);
        }
        Operator::new(builder).map_err(|error| describe(&error))
    };
    // The store checks what arrives. MD5 is known to all of them, but not for parts; there, only Amazon is sure to know CRC32C.
    let once = build(Some("md5"))?;
    let parts = build(endpoint.is_none().then_some("crc32c"))?;
    let signing = keys.or_else(keys_of_environment);
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let store = StoreId::S3 {
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        bucket: bucket.to_owned(),
        access_key: signing.as_ref().map(|keys| keys.access_key.reveal().to_owned()).unwrap_or_default(),
    };
    let s3copy = match signing {
        Some(keys) => Some(S3Copy::new(client, &endpoint, path_style, bucket, &region, &keys)?),
        None => None,
    };
    Ok(Built { once, parts, store, s3copy })
}

fn gcs(config: &BucketConfig, bucket: &str) -> Result<Built, String> {
    if config.access_key.is_some() || config.session_token.is_some() {
        return Err(
            "gs:// takes a service account's JSON as `secret-key`, and no `access-key` or `session-token`".into()
        );
    }
    let mut builder = services::Gcs::default().bucket(bucket);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(account) = &config.secret_key {
        // The library takes it in base64 or by its path; a file is what people have.
        builder = match account {
            super::SecretSource::File(path) => builder.credential_path(&path.to_string_lossy()),
            _ => builder.credential(account.resolve()?.reveal()),
        };
    }
    other("gs", config.endpoint.clone().unwrap_or_default(), bucket, Operator::new(builder))
}

fn azure(config: &BucketConfig, bucket: &str) -> Result<Built, String> {
    if config.session_token.is_some() {
        return Err("az:// takes an account as `access-key` and its key as `secret-key`, and no `session-token`".into());
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder = services::Azblob::default().container(bucket);
    let account = match &config.access_key {
        Some(source) => Some(source.resolve()?.reveal().to_owned()),
        None => env("AZURE_STORAGE_ACCOUNT_NAME").or_else(|| env("AZURE_STORAGE_ACCOUNT")),
    };
    let key = match &config.secret_key {
        Some(source) => Some(source.resolve()?.reveal().to_owned()),
        None => env("AZURE_STORAGE_ACCOUNT_KEY").or_else(|| env("AZURE_STORAGE_KEY")),
    };
    let endpoint =
        config.endpoint.clone().or_else(|| account.as_ref().map(|a| format!("https://{a}.blob.core.windows.net")));
    let endpoint =
        endpoint.ok_or("az:// needs the storage account: `access-key`, `endpoint` or AZURE_STORAGE_ACCOUNT_NAME")?;
    builder = builder.endpoint(&endpoint);
    if let Some(account) = account {
        builder = builder.account_name(&account);
    }
    if let Some(key) = key {
        builder = builder.account_key(&key);
    }
    other("az", endpoint, bucket, Operator::new(builder))
}

fn other(
    scheme: &'static str,
    endpoint: String,
    bucket: &str,
    built: opendal::Result<Operator>,
) -> Result<Built, String> {
    let once = built.map_err(|error| describe(&error))?;
    let store = StoreId::Other { scheme, endpoint, bucket: bucket.to_owned() };
    Ok(Built { parts: once.clone(), once, store, s3copy: None })
}

/// The HTTP client of one bucket: its trust and its patience.
fn client(config: &BucketConfig) -> Result<reqwest::Client, String> {
    // The first one stays; whoever else installs the same loses nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        // No timeout of reads here: it would count the time of an upload, too. `Bucket` limits each call by its size.
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(config.parallel);
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| format!("can't read `ca-file` {}: {error}", path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("`ca-file` {} holds no certificates: {error}", path.display()))?;
        if certificates.is_empty() {
            return Err(format!("`ca-file` {} holds no certificates", path.display()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("can't make an HTTP client: {}", chain(&error)))
}

impl Body for Remote {
    fn read<'a>(&'a self, key: &'a Key, range: ByteRange) -> Answer<'a, Opened> {
        async move {
            let reader = self.once.reader(key.as_str()).await.map_err(|error| fault(&error))?;
            let asked = match range.end {
                Some(end) => (range.start..end).into(),
                None => opendal::BytesRange::from(range.start..),
            };
            if range.end.is_some_and(|end| end <= range.start) {
                return self.empty(key).await;
            }
            let mut stream = reader.into_bytes_stream(asked).await.map_err(|error| fault(&error))?;
            match stream.metadata().await {
                Ok(metadata) => {
                    let bytes = stream.map(|piece| piece.map_err(|error| Fault::passing(chain(&error)))).boxed();
                    Ok(Opened { stat: stat_of(&metadata), bytes })
                }
                Err(error) if error.kind() == ErrorKind::RangeNotSatisfied => self.empty(key).await,
                Err(error) => Err(fault(&error)),
            }
        }
        .boxed()
    }

    fn stat<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Stat>> {
        async move {
            match self.once.stat(key.as_str()).await {
                Ok(metadata) => Ok(Some(stat_of(&metadata))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(fault(&error)),
            }
        }
        .boxed()
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, ()> {
        async move { self.once.write(key.as_str(), bytes).await.map(|_| ()).map_err(|error| fault(&error)) }.boxed()
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, bool> {
        async move {
            let options = WriteOptions { if_not_exists: true, ..WriteOptions::default() };
            match self.once.write_options(key.as_str(), bytes, options).await {
                Ok(_) => Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => {
                    Ok(false)
                }
                Err(error) => Err(fault(&error)),
            }
        }
        .boxed()
    }

    fn write<'a>(&'a self, key: &'a Key, _part: usize) -> Answer<'a, Box<dyn Parts>> {
        async move {
            // Without a chunk size, each push is one part.
            let options = WriteOptions { concurrent: PARTS_AT_ONCE, ..WriteOptions::default() };
            let writer = self.again.writer_options(key.as_str(), options).await.map_err(|error| fault(&error))?;
            Ok(Box::new(RemoteParts { writer }) as Box<dyn Parts>)
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, BoxStream<'static, Result<Listed, Fault>>> {
        async move {
            let folder = if prefix.is_empty() { "/" } else { prefix };
            let options = ListOptions { recursive: true, ..ListOptions::default() };
            let lister = self.again.lister_options(folder, options).await.map_err(|error| fault(&error))?;
            let listed = lister.filter_map(async |entry| match entry {
                // Markers of folders, which some consoles make, are no objects.
                Ok(entry) if !entry.metadata().is_file() => None,
                Ok(entry) => {
                    let stat = stat_of(entry.metadata());
                    Some(Ok(Listed::Object(Entry { key: entry.path().to_owned(), stat })))
                }
                Err(error) => Some(Err(fault(&error))),
            });
            Ok(listed.boxed())
        }
        .boxed()
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> Answer<'a, Option<Vec<String>>> {
        async move {
            let folder = if prefix.is_empty() { "/" } else { prefix };
            let mut lister =
                self.again.lister_options(folder, ListOptions::default()).await.map_err(|error| fault(&error))?;
            let mut folders = Vec::new();
            while let Some(entry) = lister.next().await {
                let entry = entry.map_err(|error| fault(&error))?;
                let name = entry.path().strip_prefix(prefix).and_then(|rest| rest.strip_suffix('/'));
                folders.extend(name.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned));
            }
            Ok(Some(folders))
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        async move { self.once.delete(key.as_str()).await.map_err(|error| fault(&error)) }.boxed()
    }

    fn copy<'a>(&'a self, from: CopySource<'a>, key: &'a Key) -> Answer<'a, bool> {
        async move {
            let source = from.body.store();
            if source == self.store {
                return match self.once.copy(from.key.as_str(), key.as_str()).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
                    Err(error) => Err(fault(&error)),
                };
            }
            match (&self.s3copy, &source, &self.store) {
                (
                    Some(s3copy),
                    StoreId::S3 { endpoint: from_endpoint, bucket, access_key: from_key },
                    StoreId::S3 { endpoint, access_key, .. },
                ) if from_endpoint == endpoint && from_key == access_key => {
                    s3copy.copy(bucket, from.key.as_str(), from.stat, key.as_str()).await
                }
                _ => Ok(false),
            }
        }
        .boxed()
    }

    fn conditional(&self) -> Conditional {
        Conditional::Try
    }

    fn store(&self) -> StoreId {
        self.store.clone()
    }
}

impl Remote {
    /// No bytes of an object that exists.
    async fn empty(&self, key: &Key) -> Result<Opened, Fault> {
        let stat = self.stat(key).await?.ok_or_else(|| Fault::lasting(Kind::NotFound, "there is no such object"))?;
        Ok(Opened { stat, bytes: futures::stream::empty().boxed() })
    }
}

struct RemoteParts {
    writer: Writer,
}

impl Parts for RemoteParts {
    fn push(&mut self, part: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        async move { self.writer.write(part).await.map_err(|error| fault(&error)) }.boxed()
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move { self.writer.close().await.map(|_| ()).map_err(|error| fault(&error)) }.boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move { self.writer.abort().await.map_err(|error| fault(&error)) }.boxed()
    }
}

fn stat_of(metadata: &Metadata) -> Stat {
    Stat {
        len: metadata.content_length(),
        etag: metadata.etag().map(str::to_owned),
        modified: metadata.last_modified().map(Into::into),
    }
}

/// What is said where the request could not even be signed.
const NO_CREDENTIALS: &str = "no credentials were found: neither `access-key` and `secret-key` in the configuration, nor \
                              those of the environment (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)";

/// What the store's error means for the caller.
fn fault(error: &opendal::Error) -> Fault {
    let cause = describe(error);
    if let Some(kind) = kind_of_words(&cause) {
        return Fault::lasting(kind, cause);
    }
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::PermissionDenied => Kind::Denied,
        ErrorKind::RateLimited | ErrorKind::Conflict => return Fault::passing(cause),
        ErrorKind::RangeNotSatisfied => Kind::Damaged,
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => Kind::Conflict,
        ErrorKind::Unexpected => return Fault { kind: Kind::Unavailable, passing: error.is_temporary(), cause },
        _ => Kind::Config,
    };
    Fault::lasting(kind, cause)
}

/// What the words of a store mean where its status does not say it.
pub(super) fn kind_of_words(cause: &str) -> Option<Kind> {
    const WORDS: [(Kind, &[&str]); 4] = [
        (Kind::Expired, &["ExpiredToken", "TokenRefreshRequired", "Request has expired", "token has expired"]),
        (
            Kind::Locked,
            &[
                "ObjectLock",
                "object lock",
                "Object Lock",
                "WORM",
                "retention",
                "Retention",
                "legal hold",
                "LegalHold",
                "Immutable",
            ],
        ),
        (Kind::Full, &["QuotaExceeded", "StorageFull", "InsufficientCapacity", "InsufficientStorage", "No space left"]),
        (
            Kind::Denied,
            &[
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "RequestTimeTooSkewed",
                "AuthenticationFailed",
                NO_CREDENTIALS,
            ],
        ),
    ];
    WORDS.iter().find(|(_, words)| words.iter().any(|word| cause.contains(word))).map(|(kind, _)| *kind)
}

/// The store's own words, without the noise around them.
fn describe(error: &opendal::Error) -> String {
    let message = error.message();
    let quoted = |field: &str| {
        let (_, rest) = message.split_once(&format!("{field}: \""))?;
        rest.split_once('"').map(|(value, _)| value).filter(|value| !value.is_empty())
    };
    match (quoted("code"), quoted("message")) {
        (Some(code), Some(text)) => return format!("{code}: {text}"),
        (Some(code), None) => return code.to_owned(),
        _ => {}
    }
    if message.contains("failed to load signing credential") {
        return NO_CREDENTIALS.to_owned();
    }
    let mut text = match message.trim() {
        "" => error.kind().to_string(),
        message => message.chars().take(300).collect(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_stores_give_the_kind() {
        for (words, kind) in [
            ("ExpiredToken: The provided token has expired.", Kind::Expired),
            ("AccessDenied: Access Denied because object protected by object lock.", Kind::Locked),
            ("BlobImmutableDueToPolicy", Kind::Locked),
            ("XMinioStorageFull: Storage backend has reached its minimum free drive threshold.", Kind::Full),
            ("SignatureDoesNotMatch: check your key", Kind::Denied),
        ] {
            assert_eq!(kind_of_words(words), Some(kind), "{words}");
        }
        assert_eq!(kind_of_words("NoSuchKey: The specified key does not exist."), None);
    }

    #[test]
    fn the_noise_around_a_store_s_words_goes() {
        let message = "S3Error { code: \"NoSuchBucket\", message: \"gone\", resource: \"/b\", request_id: \"1\" }";
        let error = opendal::Error::new(ErrorKind::ConfigInvalid, message);
        assert_eq!(fault(&error).cause, "NoSuchBucket: gone");
        assert_eq!(fault(&error).kind, Kind::Config);
    }
}
