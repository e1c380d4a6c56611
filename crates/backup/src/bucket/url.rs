//! Addresses of buckets.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::key::oddity;

/// Where a bucket is: `file:///dir`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `memory:name`.
///
/// A plain path means a folder. The prefix is kept without slashes around it. There is no place for secrets in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BucketUrl {
    /// A folder.
    File(PathBuf),
    /// S3, or a store that speaks it.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all names in it begin with.
        prefix: String,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// What all names in it begin with.
        prefix: String,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container.
        bucket: String,
        /// What all names in it begin with.
        prefix: String,
    },
    /// The memory of this process; the same name is the same bucket. Without a name, a bucket of its own.
    Memory {
        /// The name.
        bucket: String,
        /// What all names in it begin with.
        prefix: String,
    },
}

impl BucketUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// Says what is wrong and how an address looks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is no bucket address: {why}. It looks like file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
            )
        };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if let Some(name) = text.strip_prefix("memory:") {
            let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
            return Ok(Self::Memory { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.split('/').next().is_some_and(|first| first.contains(':')) {
                return Err(wrong("it has a colon but no `://`"));
            }
            return Ok(Self::File(PathBuf::from(text)));
        };
        if rest.contains('@') && scheme != "file" {
            // Not repeated: what stands before the @ may be a secret.
            return Err("a bucket address has no place for secrets; give them as files or environment variables".into());
        }
        if scheme == "file" {
            if !rest.starts_with('/') {
                return Err(wrong("after file:// comes an absolute path, so three slashes"));
            }
            return Ok(Self::File(PathBuf::from(rest)));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
        if bucket.is_empty() || bucket.contains(['?', '#', ' ', '\\', ':']) {
            return Err(wrong("it has no proper bucket name"));
        }
        if let Some(why) = (!prefix.is_empty()).then(|| oddity(&prefix)).flatten() {
            return Err(wrong(&why.replace("the name", "its prefix")));
        }
        match scheme {
            "s3" => Ok(Self::S3 { bucket, prefix }),
            "gs" => Ok(Self::Gcs { bucket, prefix }),
            "az" => Ok(Self::Azure { bucket, prefix }),
            _ => Err(wrong(&format!("`{scheme}` is not known"))),
        }
    }

    /// The address of what lies below `path` in this bucket.
    pub fn join(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let below = |prefix: &str| match (prefix.is_empty(), path.is_empty()) {
            (_, true) => prefix.to_owned(),
            (true, false) => path.to_owned(),
            (false, false) => format!("{prefix}/{path}"),
        };
        match self {
            Self::File(dir) => Self::File(dir.join(path)),
            Self::S3 { bucket, prefix } => Self::S3 { bucket: bucket.clone(), prefix: below(prefix) },
            Self::Gcs { bucket, prefix } => Self::Gcs { bucket: bucket.clone(), prefix: below(prefix) },
            Self::Azure { bucket, prefix } => Self::Azure { bucket: bucket.clone(), prefix: below(prefix) },
            Self::Memory { bucket, prefix } => Self::Memory { bucket: bucket.clone(), prefix: below(prefix) },
        }
    }

    /// What all names begin with, without slashes around it; empty for a folder, which is its own root.
    pub fn prefix(&self) -> &str {
        match self {
            Self::File(_) => "",
            Self::S3 { prefix, .. }
            | Self::Gcs { prefix, .. }
            | Self::Azure { prefix, .. }
            | Self::Memory { prefix, .. } => prefix,
        }
    }

    /// Whether one of the two lies in the other, as far as their addresses tell.
    pub fn overlaps(&self, other: &Self) -> bool {
        let nested = |a: &str, b: &str| Path::new(a).starts_with(b) || Path::new(b).starts_with(a);
        match (self, other) {
            (Self::File(a), Self::File(b)) => {
                let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
                match (real(a), real(b)) {
                    (Ok(a), Ok(b)) => a.starts_with(&b) || b.starts_with(&a),
                    _ => a == b,
                }
            }
            (Self::S3 { bucket: a, prefix: p }, Self::S3 { bucket: b, prefix: q })
            | (Self::Gcs { bucket: a, prefix: p }, Self::Gcs { bucket: b, prefix: q })
            | (Self::Azure { bucket: a, prefix: p }, Self::Azure { bucket: b, prefix: q })
            | (Self::Memory { bucket: a, prefix: p }, Self::Memory { bucket: b, prefix: q }) => a == b && nested(p, q),
            _ => false,
        }
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            Self::File(path) => return write!(f, "{}", path.display()),
            Self::Memory { bucket, prefix } if prefix.is_empty() => return write!(f, "memory:{bucket}"),
            Self::Memory { bucket, prefix } => return write!(f, "memory:{bucket}/{prefix}"),
            Self::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Self::Gcs { bucket, prefix } => ("gs", bucket, prefix),
            Self::Azure { bucket, prefix } => ("az", bucket, prefix),
        };
        match prefix.is_empty() {
            true => write!(f, "{scheme}://{bucket}"),
            false => write!(f, "{scheme}://{bucket}/{prefix}"),
        }
    }
}

impl std::str::FromStr for BucketUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl TryFrom<String> for BucketUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<BucketUrl> for String {
    fn from(url: BucketUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for text in ["/var/backup", "s3://b", "s3://b/p/q", "gs://b/x", "az://c/y", "memory:a"] {
            assert_eq!(BucketUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(BucketUrl::parse("file:///x/y").unwrap(), BucketUrl::File("/x/y".into()));
        assert_eq!(BucketUrl::parse("./x").unwrap(), BucketUrl::File("./x".into()));
        assert_eq!(BucketUrl::parse("s3://b/p/").unwrap().to_string(), "s3://b/p");
        assert_eq!(BucketUrl::parse("s3://b/p").unwrap().join("q/").to_string(), "s3://b/p/q");
    }

    #[test]
    fn wrong_addresses_say_so_and_secrets_are_not_repeated() {
        for text in ["", "file://x", "s3://", "s3:///p", "http://x/y", "s3://b/../c", "s3:b", "s3://b/a//b"] {
            let error = BucketUrl::parse(text).unwrap_err();
            assert!(error.contains("s3://bucket/prefix"), "{text}: {error}");
        }
        let error = BucketUrl::parse("s3://AKIA:canary@bucket/x").unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn one_place_inside_the_other_is_seen() {
        let url = |text: &str| BucketUrl::parse(text).unwrap();
        assert!(url("s3://b/a").overlaps(&url("s3://b/a/c")));
        assert!(url("s3://b").overlaps(&url("s3://b/a")));
        assert!(!url("s3://b/a").overlaps(&url("s3://b/ab")));
        assert!(!url("s3://b/a").overlaps(&url("s3://c/a")));
        assert!(url("/tmp").overlaps(&url("/tmp/x")));
    }
}
