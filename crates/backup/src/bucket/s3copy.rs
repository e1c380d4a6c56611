//! Copies between two buckets of one S3 endpoint, by the store itself.
//!
//! No byte passes through here: a signed PUT names its source in `x-amz-copy-source`. Above 5 GiB it is done in parts.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, PutObject, S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::body::Stat;
use super::config::StaticKeys;
use super::error::{Fault, Kind};
use super::remote::{chain, kind_of_words};
use crate::limits::{SERVER_COPY_BYTES_MAX, SERVER_COPY_PART_BYTES};

/// How long a signature holds; each request has its own.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// Answers are small XML texts.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Copies into one bucket.
pub(crate) struct S3Copy {
    client: Client,
    bucket: Bucket,
    keys: Credentials,
    /// Larger objects go in parts of `part` bytes; smaller in tests.
    whole_max: u64,
    part: u64,
}

impl S3Copy {
    pub(crate) fn new(
        client: Client,
        endpoint: &str,
        path_style: bool,
        bucket: &str,
        region: &str,
        keys: &StaticKeys,
    ) -> Result<Self, String> {
        let endpoint = endpoint.parse().map_err(|error| format!("`endpoint` {endpoint}: {error}"))?;
        let style = if path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket =
            Bucket::new(endpoint, style, bucket.to_owned(), region.to_owned()).map_err(|error| error.to_string())?;
        let (access, secret) = (keys.access_key.reveal(), keys.secret_key.reveal());
        let keys = match &keys.session_token {
            Some(token) => Credentials::new_with_token(access, secret, token.reveal()),
            None => Credentials::new(access, secret),
        };
        Ok(Self { client, bucket, keys, whole_max: SERVER_COPY_BYTES_MAX, part: SERVER_COPY_PART_BYTES })
    }

    /// Copies `from` in bucket `from_bucket`; `false` when the store or the rights don't allow it from there.
    pub(crate) async fn copy(&self, from_bucket: &str, from: &str, stat: &Stat, to: &str) -> Result<bool, Fault> {
        let source = format!("/{from_bucket}/{}", percent_encode(from));
        let copied = match stat.len <= self.whole_max {
            true => self.whole(&source, stat, to).await,
            false => self.in_parts(&source, stat, to).await,
        };
        match copied {
            Ok(()) => Ok(true),
            // These keys may write here but not read there: the caller, who can read, streams it.
            Err(fault) if fault.kind == Kind::Denied => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn whole(&self, source: &str, stat: &Stat, to: &str) -> Result<(), Fault> {
        let mut action = PutObject::new(&self.bucket, Some(&self.keys), to);
        let headers = with_etag(vec![("x-amz-copy-source", source.to_owned())], stat);
        for (name, value) in &headers {
            action.headers_mut().insert(*name, value.clone());
        }
        self.send(Method::PUT, action.sign(SIGNED_FOR).as_str(), &headers, String::new()).await.map(|_| ())
    }

    async fn in_parts(&self, source: &str, stat: &Stat, to: &str) -> Result<(), Fault> {
        let create = CreateMultipartUpload::new(&self.bucket, Some(&self.keys), to);
        let answer = self.send(Method::POST, create.sign(SIGNED_FOR).as_str(), &[], String::new()).await?;
        let upload = CreateMultipartUpload::parse_response(&answer.body)
            .map_err(|error| Fault::passing(format!("the answer can't be read: {error}")))?;
        let id = upload.upload_id();
        let done = self.parts(source, stat, to, id).await;
        if done.is_err() {
            let abort = AbortMultipartUpload::new(&self.bucket, Some(&self.keys), to, id);
            // What stays is invisible; the bucket's lifecycle rule removes it.
            let _ = self.send(Method::DELETE, abort.sign(SIGNED_FOR).as_str(), &[], String::new()).await;
        }
        done
    }

    async fn parts(&self, source: &str, stat: &Stat, to: &str, id: &str) -> Result<(), Fault> {
        let mut etags = Vec::new();
        let mut start = 0;
        while start < stat.len {
            let end = (start + self.part).min(stat.len);
            let number = u16::try_from(etags.len() + 1).map_err(|_| Fault::lasting(Kind::Config, "too many parts"))?;
            let mut action = UploadPart::new(&self.bucket, Some(&self.keys), to, number, id);
            let range = ("x-amz-copy-source-range", format!("bytes={start}-{}", end - 1));
            let headers = with_etag(vec![("x-amz-copy-source", source.to_owned()), range], stat);
            for (name, value) in &headers {
                action.headers_mut().insert(*name, value.clone());
            }
            let answer = self.send(Method::PUT, action.sign(SIGNED_FOR).as_str(), &headers, String::new()).await?;
            etags.push(
                between(&answer.body, "<ETag>", "</ETag>")
                    .map(|etag| etag.replace("&quot;", "\""))
                    .ok_or_else(|| Fault::passing("the answer to a copied part has no ETag"))?,
            );
            start = end;
        }
        let complete =
            CompleteMultipartUpload::new(&self.bucket, Some(&self.keys), to, id, etags.iter().map(String::as_str));
        let url = complete.sign(SIGNED_FOR);
        self.send(Method::POST, url.as_str(), &[], complete.body()).await.map(|_| ())
    }

    /// Sends one signed request; an error in a body of status 200 is one, too.
    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Reply, Fault> {
        let mut request = self.client.request(method, url).header("content-length", body.len()).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // A signed address is a secret for as long as it holds: never in a message.
        let passing = |error: reqwest::Error| Fault::passing(chain(&error.without_url()));
        let mut response = request.send().await.map_err(passing)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(passing)? {
            if text.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Fault::lasting(Kind::Damaged, "the answer is too long"));
            }
            text.extend_from_slice(&piece);
        }
        let body = String::from_utf8_lossy(&text).into_owned();
        if status.is_success() && !body.contains("<Error>") {
            return Ok(Reply { body });
        }
        Err(fault_of(status, &body))
    }
}

struct Reply {
    body: String,
}

/// The copy must be of the content that was asked for, not of one that replaced it.
fn with_etag(mut headers: Vec<(&'static str, String)>, stat: &Stat) -> Vec<(&'static str, String)> {
    if let Some(etag) = &stat.etag {
        headers.push(("x-amz-copy-source-if-match", etag.clone()));
    }
    headers
}

fn fault_of(status: StatusCode, body: &str) -> Fault {
    let code = between(body, "<Code>", "</Code>").unwrap_or_default();
    let message = between(body, "<Message>", "</Message>").unwrap_or_default();
    let cause = match (code.is_empty(), message.is_empty()) {
        (true, _) => format!("status {status}"),
        (false, true) => code.to_owned(),
        (false, false) => format!("{code}: {message}"),
    };
    if let Some(kind) = kind_of_words(&cause) {
        return Fault::lasting(kind, cause);
    }
    match (status.as_u16(), code) {
        (_, "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted") => {
            Fault::passing(cause)
        }
        (403, _) => Fault::lasting(Kind::Denied, cause),
        (404, _) => Fault::lasting(Kind::NotFound, cause),
        (412, _) => Fault::lasting(Kind::Damaged, "it was replaced by another content while it was copied"),
        (429 | 500.., _) => Fault::passing(cause),
        _ => Fault::lasting(Kind::Config, cause),
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(value, _)| value)
}

/// The name as it stands in a header: all but unreserved characters and slashes are escaped.
fn percent_encode(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
impl S3Copy {
    /// For tests of copies in parts without gigabytes.
    pub(crate) fn with_parts_above(mut self, whole_max: u64, part: u64) -> Self {
        (self.whole_max, self.part) = (whole_max, part);
        self
    }
}
