//! Keys: public ones that seal, private ones that open.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::secrecy::ExposeSecret;

use super::SealError;
use crate::bucket::SecretSource;

/// A public key; what is sealed to it only its identity opens.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// [`SealError::Recipient`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            // Not repeated: it is a secret.
            return Err(SealError::Recipient("a private key stands where a public one belongs".into()));
        }
        let shown: String = text.chars().take(80).collect();
        text.parse().map(Self).map_err(|why| SealError::Recipient(format!("`{shown}` is no recipient ({why})")))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// Everybody that can open what is sealed from now on; nobody means that nothing is sealed.
#[derive(Debug, Clone, Default)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Each text is a public key, or `file:PATH` of a file with one in each line (`#` begins a comment).
    ///
    /// # Errors
    /// [`SealError::Recipient`]: also for a file without any key, which would silently seal nothing.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SealError> {
        let mut all = Vec::new();
        for text in texts {
            let Some(path) = text.strip_prefix("file:") else {
                all.push(Recipient::parse(text)?);
                continue;
            };
            let read = std::fs::read_to_string(path);
            let lines =
                read.map_err(|error| SealError::Recipient(format!("can't read the recipients in {path}: {error}")))?;
            let before = all.len();
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                all.push(Recipient::parse(line)?);
            }
            if all.len() == before {
                return Err(SealError::Recipient(format!("there is no recipient in {path}")));
            }
        }
        Ok(Self(all))
    }

    /// Nobody: nothing is sealed.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whether anything is sealed.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// The public keys.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// A fresh envelope for all of them.
    pub(super) fn encryptor(&self) -> Result<age::Encryptor, SealError> {
        age::Encryptor::with_recipients(self.0.iter().map(|recipient| &recipient.0 as &dyn age::Recipient))
            .map_err(|error| SealError::Failed(error.to_string()))
    }
}

/// Private keys; any one that fits opens. They never print.
#[derive(Clone, Default)]
pub struct Identities(Vec<age::x25519::Identity>);

impl Identities {
    /// Reads the text of identity files: lines `AGE-SECRET-KEY-1…`, comments, empty lines.
    ///
    /// # Errors
    /// [`SealError::Identity`], without the text.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| SealError::Identity(format!("line {} is no private key ({why})", number + 1));
            all.push(line.parse().map_err(wrong)?);
        }
        match all.is_empty() {
            true => Err(SealError::Identity("there is no private key".into())),
            false => Ok(Self(all)),
        }
    }

    /// Reads them from files and variables; of none, none.
    ///
    /// # Errors
    /// [`SealError::Identity`].
    pub fn load<'a>(sources: impl IntoIterator<Item = &'a SecretSource>) -> Result<Self, SealError> {
        let mut all = Self::default();
        for source in sources {
            let text = source.resolve().map_err(SealError::Identity)?;
            let with_source = |error| match error {
                SealError::Identity(why) => SealError::Identity(format!("{source}: {why}")),
                error => error,
            };
            all.0.extend(Self::parse(text.reveal()).map_err(with_source)?.0);
        }
        Ok(all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their public keys.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|identity| Recipient(identity.to_public())).collect()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({} of ***)", self.0.len())
    }
}

/// Makes a new key: the identity file at `path`, readable by its owner only, and its public key as the answer.
///
/// `created` is the date that the file's comment tells. The file is durable when this returns.
///
/// # Errors
/// [`SealError::Identity`]; an existing file is never overwritten, as archives may need the key in it.
pub fn keygen(path: &Path, created: &str) -> Result<Recipient, SealError> {
    let identity = age::x25519::Identity::generate();
    let public = Recipient(identity.to_public());
    let text = format!("# created: {created}\n# public key: {public}\n{}\n", identity.to_string().expose_secret());
    let shown = path.display();
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        SealError::Identity(match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{shown} exists, and a key is never overwritten: archives may need it")
            }
            _ => format!("can't write {shown}: {error}"),
        })
    })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written
        .and_then(|()| std::fs::File::open(folder)?.sync_all())
        .map_err(|error| SealError::Identity(format!("can't write {shown}: {error}; remove it and try again")))?;
    Ok(public)
}
