//! Our own list of what a backup holds: lengths, checksums, and what is missing. Milvus-backup ignores it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The version of this list.
pub const MANIFEST_VERSION: u32 = 1;
/// The version of a list of sealed objects, which an older program must not take for plain ones.
pub const SEALED_VERSION: u32 = 2;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`], or [`SEALED_VERSION`] if anything is sealed.
    pub version: u32,
    /// Who wrote it.
    pub tool: String,
    /// When it was finished, milliseconds since 1970.
    pub finished_at_ms: u64,
    /// The public keys that the backup is sealed to; none: it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed_to: Vec<String>,
    /// Collections that were wanted and are not inside, or not wholly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedCollection>,
    /// The meta files, by name.
    pub meta: BTreeMap<String, Object>,
    /// Every other object, by its key below the backup's folder.
    pub objects: BTreeMap<String, Object>,
}

/// A collection that is not inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCollection {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Bytes as they are stored.
    pub len: u64,
    /// Bytes of what is sealed in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_len: Option<u64>,
    /// SHA-256 in hex; missing where the store copied by itself and nobody read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The store's mark of the content; instead of a SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The backup whose folder holds it, if it is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}

impl Object {
    /// Bytes of the log itself.
    pub fn content_len(&self) -> u64 {
        self.plain_len.unwrap_or(self.len)
    }
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is none, or of a newer program.
    pub fn read(bytes: &[u8]) -> Result<Manifest, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !matches!(version.version, MANIFEST_VERSION | SEALED_VERSION) {
            return Err(format!(
                "version {} is from a newer program; this one reads up to {SEALED_VERSION}",
                version.version
            ));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        !self.sealed_to.is_empty()
    }

    /// The other backups whose folders hold some of its objects.
    pub fn holders(&self) -> BTreeSet<&str> {
        self.objects.values().filter_map(|object| object.held_by.as_deref()).collect()
    }

    /// The backup whose folder holds an object, if it is another one.
    pub fn holder(&self, key: &str) -> Option<&str> {
        self.objects.get(key)?.held_by.as_deref()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
