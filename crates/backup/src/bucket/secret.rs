//! Secrets: where they come from, and that they never show.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::SECRET_BYTES_MAX;

/// A password, key or token. Printing it shows `***`; only [`Secret::reveal`] gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for the one call that needs it, never for a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is found. In YAML `!file /path` or `!env NAME`; a secret itself can't stand in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// The text of a file, without white space around it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The secret itself, as another program's configuration holds it; it is never read from ours, and never written.
    #[serde(skip)]
    Given(Secret),
}

impl<'de> Deserialize<'de> for SecretSource {
    /// An error of the parser would quote what stands there, which may be the secret itself: it is replaced.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Tagged {
            File(PathBuf),
            Env(String),
        }
        match Tagged::deserialize(from) {
            Ok(Tagged::File(path)) => Ok(Self::File(path)),
            Ok(Tagged::Env(name)) => Ok(Self::Env(name)),
            Err(_) => Err(D::Error::custom("a secret can't stand here; say where it is: `!file /path` or `!env NAME`")),
        }
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// A file that can't be read, an unset variable, or an empty secret; the text says which, and never the secret.
    pub fn resolve(&self) -> Result<Secret, String> {
        let text = match self {
            Self::File(path) => {
                let read = std::fs::File::open(path).and_then(|file| {
                    let mut text = String::new();
                    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map(|_| text)
                });
                read.map_err(|error| format!("can't read the secret file {}: {error}", path.display()))?
            }
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name}, which should hold a secret, is not set"))?,
            Self::Given(secret) => secret.reveal().to_owned(),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the secret from {self} is empty"));
        }
        Ok(Secret::new(text))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "variable {name}"),
            Self::Given(_) => f.write_str("the configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("canary-7f3a");
        assert!(!format!("{secret} {secret:?} {secret:#?}").contains("canary"));
        assert_eq!(secret.reveal(), "canary-7f3a");
    }

    #[test]
    fn sources_are_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " key\n").unwrap();
        assert_eq!(SecretSource::File(file.path().into()).resolve().unwrap().reveal(), "key");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(SecretSource::File(file.path().into()).resolve().unwrap_err().contains("empty"));
        let unset = SecretSource::Env("EYRIE_NO_SUCH_SECRET".into()).resolve().unwrap_err();
        assert!(unset.contains("EYRIE_NO_SUCH_SECRET"), "{unset}");
        let yaml: SecretSource = serde_yaml_ng::from_str("!env X").unwrap();
        assert_eq!(yaml, SecretSource::Env("X".into()));
        let why = serde_yaml_ng::from_str::<SecretSource>("hunter2").unwrap_err().to_string();
        assert!(why.contains("!file") && !why.contains("hunter2"), "{why}");
    }
}
