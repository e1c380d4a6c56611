//! How a bucket is reached: address, credentials, limits. Read from YAML, or from an address and the environment.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use serde::{Deserialize, Serialize};

use super::error::{Action, Fault, Kind};
use super::file::Folder;
use super::memory::Memory;
use super::remote::Remote;
use super::retry::RetryConfig;
use super::secret::{Secret, SecretSource};
use super::{Bucket, BucketUrl, Result};
use crate::limits;

/// How to reach a bucket. Only the address is needed; the rest has defaults or is found in the environment.
///
/// ```yaml
/// url: s3://backups/milvus
/// endpoint: https://minio.example:9000
/// region: us-east-1
/// access-key: !file /etc/eyrie/access-key
/// secret-key: !env MINIO_SECRET_KEY
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BucketConfig {
    /// Where it is.
    pub url: BucketUrl,
    /// The store's address, unless it is the cloud's own. `AWS_ENDPOINT_URL` is read where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region; `AWS_REGION` or `us-east-1` where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether the bucket stands in the path (`https://host/bucket`); by default yes with an endpoint, no without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// The access key (S3), the account (Azure).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<SecretSource>,
    /// The secret key (S3), the account key (Azure), the service account's JSON (GCS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SecretSource>,
    /// The token of temporary credentials (S3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretSource>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Seconds of silence after which one attempt counts as lost.
    #[serde(default = "timeout_secs")]
    pub timeout_secs: u64,
    /// How often and how long a call is tried.
    #[serde(default)]
    pub retry: RetryConfig,
    /// Calls at once.
    #[serde(default = "parallel")]
    pub parallel: usize,
    /// Most bytes a second, in both directions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
    /// Most calls a second; parts of large objects and pages of a listing are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_sec: Option<u64>,
}

fn timeout_secs() -> u64 {
    limits::CALL_TIMEOUT.as_secs()
}

fn parallel() -> usize {
    limits::PARALLEL
}

/// Credentials that do not change while the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKeys {
    /// Who.
    pub access_key: Secret,
    /// The proof.
    pub secret_key: Secret,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
}

/// The buckets of this process's memory that have a name.
static NAMED: LazyLock<Mutex<Vec<(String, Arc<Memory>)>>> = LazyLock::new(Mutex::default);

impl Default for BucketConfig {
    fn default() -> Self {
        Self::new(BucketUrl::Memory { bucket: String::new(), prefix: String::new() })
    }
}

impl BucketConfig {
    /// All defaults.
    pub fn new(url: BucketUrl) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            path_style: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            ca_file: None,
            timeout_secs: timeout_secs(),
            retry: RetryConfig::default(),
            parallel: parallel(),
            bytes_per_sec: None,
            requests_per_sec: None,
        }
    }

    /// Opens the bucket.
    pub(super) fn open(&self) -> Result<Bucket> {
        let root = match &self.url {
            BucketUrl::File(_) => self.url.to_string(),
            url => url.to_string().trim_end_matches(url.prefix()).trim_end_matches('/').to_owned(),
        };
        let wrong = |cause: String| Fault::lasting(Kind::Config, cause).at(&self.url.to_string(), Action::Open, "");
        self.check().map_err(wrong)?;
        let bucket = match &self.url {
            BucketUrl::File(path) => Bucket::over(Arc::new(Folder::new(path)), root, self),
            BucketUrl::Memory { bucket, .. } => Bucket::over(memory_named(bucket), root, self),
            _ => Bucket::over(Arc::new(Remote::new(self).map_err(wrong)?), root, self),
        };
        bucket.below(self.url.prefix())
    }

    fn check(&self) -> std::result::Result<(), String> {
        let zero = [
            ("timeout-secs", self.timeout_secs),
            ("parallel", self.parallel as u64),
            ("retry.attempts", self.retry.attempts.into()),
            ("bytes-per-sec", self.bytes_per_sec.unwrap_or(1)),
            ("requests-per-sec", self.requests_per_sec.unwrap_or(1)),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`{name}` is 0; it must be at least 1"));
        }
        if self.parallel > limits::PARALLEL_MAX {
            return Err(format!("`parallel` is {}, more than {}", self.parallel, limits::PARALLEL_MAX));
        }
        match &self.endpoint {
            Some(endpoint) if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") => {
                Err("`endpoint` must begin with http:// or https://".into())
            }
            Some(endpoint) if endpoint.contains('@') => {
                Err("`endpoint` has no place for secrets; give them as `access-key` and `secret-key`".into())
            }
            _ => Ok(()),
        }
    }

    /// The credentials of the configuration; without any there, the usual variables of S3; else none.
    ///
    /// # Errors
    /// A source that can't be read, or half a pair.
    pub(super) fn static_keys(&self) -> std::result::Result<Option<StaticKeys>, String> {
        let token = self.session_token.as_ref().map(SecretSource::resolve).transpose()?;
        match (&self.access_key, &self.secret_key) {
            (Some(access), Some(secret)) => {
                let (access_key, secret_key) = (access.resolve()?, secret.resolve()?);
                Ok(Some(StaticKeys { access_key, secret_key, session_token: token }))
            }
            (None, None) if token.is_some() => {
                Err("`session-token` is given without `access-key` and `secret-key`".into())
            }
            (None, None) => Ok(None),
            _ => Err("of `access-key` and `secret-key` only one is given; they belong together".into()),
        }
    }
}

/// The usual variables of S3.
pub(super) fn keys_of_environment() -> Option<StaticKeys> {
    let env = |name| SecretSource::Env(String::from(name)).resolve().ok();
    Some(StaticKeys {
        access_key: env("AWS_ACCESS_KEY_ID")?,
        secret_key: env("AWS_SECRET_ACCESS_KEY")?,
        session_token: env("AWS_SESSION_TOKEN"),
    })
}

fn memory_named(name: &str) -> Arc<Memory> {
    if name.is_empty() {
        return Arc::default();
    }
    let mut named = NAMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, memory)) = named.iter().find(|(known, _)| known == name) {
        return memory.clone();
    }
    let memory = Arc::<Memory>::default();
    named.push((name.to_owned(), memory.clone()));
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_reads_with_defaults_and_refuses_what_it_does_not_know() {
        let text = "url: s3://b/p\nendpoint: http://127.0.0.1:9000\naccess-key: !file /a\nsecret-key: !env B\n";
        let config: BucketConfig = serde_yaml_ng::from_str(text).unwrap();
        assert_eq!(config.parallel, limits::PARALLEL);
        assert_eq!(config.secret_key, Some(SecretSource::Env("B".into())));
        assert!(serde_yaml_ng::from_str::<BucketConfig>("url: s3://b\nsecret-key: hunter2\n").is_err());
        assert!(serde_yaml_ng::from_str::<BucketConfig>("url: s3://b\nbuket: x\n").is_err());
        let back = serde_yaml_ng::to_string(&config).unwrap();
        assert_eq!(serde_yaml_ng::from_str::<BucketConfig>(&back).unwrap(), config);
    }

    #[test]
    fn the_documents_example_reads_and_shows_the_defaults() {
        let page = include_str!("../../../../docs/buckets.md");
        let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let config: BucketConfig = serde_yaml_ng::from_str(example).unwrap();
        let plain = BucketConfig::new(config.url.clone());
        assert_eq!(
            (config.retry, config.parallel, config.timeout_secs),
            (plain.retry, plain.parallel, plain.timeout_secs)
        );
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused_before_any_call() {
        let open = |change: fn(&mut BucketConfig)| {
            let mut config = BucketConfig::new(BucketUrl::parse("s3://b").unwrap());
            change(&mut config);
            Bucket::open(&config).unwrap_err().to_string()
        };
        assert!(open(|c| c.timeout_secs = 0).contains("timeout-secs"));
        assert!(open(|c| c.bytes_per_sec = Some(0)).contains("bytes-per-sec"));
        assert!(open(|c| c.endpoint = Some("minio:9000".into())).contains("http://"));
        let with_secret = open(|c| c.endpoint = Some("http://AK:canary@minio".into()));
        assert!(!with_secret.contains("canary"), "{with_secret}");
        assert!(open(|c| c.access_key = Some(SecretSource::Env("HOME".into()))).contains("belong together"));
    }

    #[test]
    fn a_named_bucket_in_memory_is_one() {
        let open = |url: &str| Bucket::at(url).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            open("memory:same").put("p/k", "v").await.unwrap();
            assert_eq!(open("memory:same/p").read("k").await.unwrap(), "v");
            assert!(open("memory:").stat("p/k").await.unwrap().is_none());
        });
    }
}
